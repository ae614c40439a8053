"""The table of named networks with their published numbers. Nothing here imports Keras."""

import dataclasses
import fnmatch

from keras_resnext.errors import unknown
from keras_resnext.models import inception_tables as inception
from keras_resnext.models.config import NetworkConfig, ResNetConfig

DEFAULT_MODEL = "ResNeXt35"


@dataclasses.dataclass(frozen=True)
class Variant:
    """A named network and its published numbers.

    Attributes:
        name: str, the name of its function in `keras_resnext`.
        config: `NetworkConfig` that describes it.
        trainable: int, trainable parameters with the default number of classes.
        total: int, all parameters, as Keras's `count_params()` returns them.
        gmacs: float, 10**9 multiply-adds of convolutions and classifier at the default size.
        top1_error: float, published top-1 error in percent: of ten crops in He 2015, else of one
            (CIFAR-10's for the networks of 32x32 images).
        top5_error: float, the same for top-5.
        paper: str, first author and year of the paper that reports it.
        input_size: int, default height and width of the image, in pixels.
        classes: int, default number of classes.
    """

    name: str
    config: NetworkConfig
    trainable: int
    total: int
    gmacs: float
    top1_error: float | None = None
    top5_error: float | None = None
    paper: str = ""
    input_size: int = 224
    classes: int = 1000


_HE15, _HE16, _XIE17, _HU18 = "He 2015", "He 2016", "Xie 2017", "Hu 2018"
_CHEN19, _LI19, _LEE20 = "Chen 2019", "Li 2019", "Lee 2020"

_BASIC18 = ResNetConfig(block="basic", blocks=(2, 2, 2, 2))
_BASIC34 = ResNetConfig(block="basic", blocks=(3, 4, 6, 3))
_DEPTH50 = ResNetConfig(blocks=(3, 4, 6, 3))
_DEPTH101 = ResNetConfig(blocks=(3, 4, 23, 3))
_DEPTH152 = ResNetConfig(blocks=(3, 8, 36, 3))
_DEPTH200 = ResNetConfig(blocks=(3, 24, 36, 3))
_DEPTH26 = ResNetConfig(blocks=(2, 2, 2, 2))
_DEPTH101_BL = ResNetConfig(blocks=(4, 8, 18, 3))
_DEPTH269 = ResNetConfig(blocks=(3, 30, 48, 8))


def _grouped(config: ResNetConfig, cardinality: int, width: int) -> ResNetConfig:
    return config.replace(cardinality=cardinality, width_per_group=width)


def _v2(config: ResNetConfig) -> ResNetConfig:
    return config.replace(preactivation=True, stride_block="last")


def _d(config: ResNetConfig) -> ResNetConfig:
    """Return the ResNet-D: three 3x3 in the stem, an average in strided shortcuts."""
    return config.replace(stem="deep", shortcut="D")


def _t(config: ResNetConfig) -> ResNetConfig:
    """Return the ResNet-D with timm's tiered stem."""
    return config.replace(stem="tiered", shortcut="D")


def _x(config: ResNetConfig) -> ResNetConfig:
    """Return the ResNeXt of that depth, 32x4d."""
    return _grouped(config, 32, 4)


def _attention(config: ResNetConfig, kind: str) -> ResNetConfig:
    return config.replace(attention=kind)


def _big_little(config: ResNetConfig, alpha: int = 2, beta: int = 4) -> ResNetConfig:
    return config.replace(big_little=(alpha, beta), shortcut="D3")


def _assembled(config: ResNetConfig, alpha: int = 2, beta: int = 4) -> ResNetConfig:
    """Return it with Big-Little, selective kernels and blur, as in the assembled paper."""
    return _big_little(config, alpha, beta).replace(
        attention="sk_assembled", downsample="blur", zero_gamma=True, norm_momentum=0.997
    )


def _cifar(depth: int, shortcut: str = "A") -> ResNetConfig:
    return ResNetConfig(
        block="basic",
        blocks=((depth - 2) // 6,) * 3,
        filters=(16, 32, 64),
        stem="cifar",
        stem_filters=16,
        shortcut=shortcut,
    )


def _cifar_grouped(
    cardinality: int,
    width: int,
    blocks: tuple[int, ...] = (3, 3, 3),
    planes: int = 64,
    stem_filters: int = 64,
) -> ResNetConfig:
    return ResNetConfig(
        blocks=blocks,
        filters=(planes, 2 * planes, 4 * planes),
        stem="cifar",
        stem_filters=stem_filters,
        cardinality=cardinality,
        width_per_group=width,
    )


def _small(
    name: str,
    config: ResNetConfig,
    trainable: int,
    total: int,
    gmacs: float,
    error: float | None = None,
    paper: str = _HE15,
) -> Variant:
    return Variant(name, config, trainable, total, gmacs, error, None, paper, 32, 10)


_SZEGEDY14, _IOFFE15 = "Szegedy 2014", "Ioffe 2015"
_SZEGEDY15, _SZEGEDY16 = "Szegedy 2015", "Szegedy 2016"


# fmt: off
_ROWS = (
    # name, configuration, trainable, total, GMAC, top-1 and top-5 error in percent, paper
    # Errors of ResNets are those of the ResNeXt paper, of one crop, if it reports them.
    Variant("ResNet18", _BASIC18, 11_689_512, 11_699_112, 1.814, 27.88, None, _HE15),
    Variant("ResNet34", _BASIC34, 21_797_672, 21_814_696, 3.664, 24.52, None, _HE15),
    Variant("ResNet50", _DEPTH50, 25_557_032, 25_610_152, 4.089, 23.9, None, _XIE17),
    Variant("ResNet101", _DEPTH101, 44_549_160, 44_654_504, 7.801, 22.0, 6.0, _XIE17),
    Variant("ResNet152", _DEPTH152, 60_192_808, 60_344_232, 11.514, 21.43, None, _HE15),
    Variant("ResNet200", _DEPTH200, 64_673_832, 64_849_832, 15.007, 21.7, 5.8, _XIE17),

    Variant("ResNet18V2", _v2(_BASIC18), 11_687_720, 11_695_528, 1.294, paper=_HE16),
    Variant("ResNet34V2", _v2(_BASIC34), 21_795_880, 21_811_112, 3.144, paper=_HE16),
    Variant("ResNet50V2", _v2(_DEPTH50), 25_549_352, 25_594_792, 3.482, paper=_HE16),
    Variant("ResNet101V2", _v2(_DEPTH101), 44_541_480, 44_639_144, 7.194, paper=_HE16),
    Variant("ResNet152V2", _v2(_DEPTH152), 60_185_128, 60_328_872, 10.907, paper=_HE16),
    Variant("ResNet200V2", _v2(_DEPTH200), 64_666_152, 64_834_472, 14.401, paper=_HE16),

    Variant("Plain18", _BASIC18.replace(shortcut="none"), 11_515_688, 11_523_496, 1.795, 27.94, None, _HE15),
    Variant("Plain34", _BASIC34.replace(shortcut="none"), 21_623_848, 21_639_080, 3.644, 28.54, None, _HE15),

    Variant("ResNeXt50", _grouped(_DEPTH50, 32, 4), 25_028_904, 25_097_128, 4.230, 22.2, None, _XIE17),
    Variant("ResNeXt50_1x64d", _DEPTH50, 25_557_032, 25_610_152, 4.089, 23.9, None, _XIE17),
    Variant("ResNeXt50_2x40d", _grouped(_DEPTH50, 2, 40), 25_425_000, 25_481_896, 4.125, 23.0, None, _XIE17),
    Variant("ResNeXt50_4x24d", _grouped(_DEPTH50, 4, 24), 25_292_968, 25_353_640, 4.160, 22.6, None, _XIE17),
    Variant("ResNeXt50_8x14d", _grouped(_DEPTH50, 8, 14), 25_603_016, 25_667_464, 4.267, 22.3, None, _XIE17),
    Variant("ResNeXt101", _grouped(_DEPTH101, 32, 4), 44_177_704, 44_315_560, 7.970, 21.2, 5.6, _XIE17),
    Variant("ResNeXt101_1x64d", _DEPTH101, 44_549_160, 44_654_504, 7.801, 22.0, 6.0, _XIE17),
    Variant("ResNeXt101_2x40d", _grouped(_DEPTH101, 2, 40), 44_456_296, 44_569_768, 7.844, 21.7, None, _XIE17),
    Variant("ResNeXt101_4x24d", _grouped(_DEPTH101, 4, 24), 44_363_432, 44_485_032, 7.886, 21.4, None, _XIE17),
    Variant("ResNeXt101_8x14d", _grouped(_DEPTH101, 8, 14), 45_104_328, 45_234_056, 8.077, 21.3, None, _XIE17),
    Variant("ResNeXt101_1x100d", _grouped(_DEPTH101, 1, 100), 85_611_336, 85_734_968, 15.273, 21.3, 5.7, _XIE17),
    Variant("ResNeXt101_2x64d", _grouped(_DEPTH101, 2, 64), 84_198_184, 84_336_040, 15.123, 20.7, 5.5, _XIE17),
    Variant("ResNeXt101_64x4d", _grouped(_DEPTH101, 64, 4), 83_455_272, 83_658_152, 15.460, 20.4, 5.3, _XIE17),
    Variant("ResNeXt101_32x8d", _grouped(_DEPTH101, 32, 8), 88_791_336, 88_994_216, 16.414, paper="torchvision"),
    Variant("ResNeXt50V2", _v2(_grouped(_DEPTH50, 32, 4)), 25_021_224, 25_081_768, 3.504, paper="ours"),
    Variant("ResNeXt101V2", _v2(_grouped(_DEPTH101, 32, 4)), 44_170_024, 44_300_200, 7.244, paper="ours"),

    Variant("ResNet18D", _d(_BASIC18), 11_708_744, 11_718_472, 2.054, paper="timm"),
    Variant("ResNet34D", _d(_BASIC34), 21_816_904, 21_834_056, 3.903, paper="timm"),
    Variant("ResNet50D", _d(_DEPTH50), 25_576_264, 25_629_512, 4.329, 22.63, None, _LEE20),
    Variant("ResNet101D", _d(_DEPTH101), 44_568_392, 44_673_864, 8.041, paper="timm"),
    Variant("ResNet152D", _d(_DEPTH152), 60_212_040, 60_363_592, 11.753, paper="timm"),
    Variant("ResNet200D", _d(_DEPTH200), 64_693_064, 64_869_192, 15.247, paper="timm"),
    Variant("ResNeXt50D", _d(_x(_DEPTH50)), 25_048_136, 25_116_488, 4.470, paper="timm"),
    Variant("ResNeXt101D", _d(_x(_DEPTH101)), 44_196_936, 44_334_920, 8.210, paper="timm"),

    Variant("SEResNet18", _attention(_BASIC18, "se"), 11_779_624, 11_789_224, 1.814, paper="timm"),
    Variant("SEResNet34", _attention(_BASIC34, "se"), 21_960_416, 21_977_440, 3.664, paper="timm"),
    Variant("SEResNet50", _attention(_DEPTH50, "se"), 28_088_024, 28_141_144, 4.092, 23.29, 6.62, _HU18),
    Variant("SEResNet101", _attention(_DEPTH101, "se"), 49_326_872, 49_432_216, 7.806, paper=_HU18),
    Variant("SEResNet152", _attention(_DEPTH152, "se"), 66_821_848, 66_973_272, 11.520, paper=_HU18),
    Variant("SEResNet152D", _attention(_d(_DEPTH152), "se"), 66_841_080, 66_992_632, 11.760, paper="timm"),
    Variant("SEResNeXt26D", _attention(_d(_x(_DEPTH26)), "se"), 16_809_512, 16_848_168, 2.712, paper="timm"),
    Variant("SEResNeXt26T", _attention(_t(_x(_DEPTH26)), "se"), 16_806_976, 16_845_616, 2.680, paper="timm"),
    Variant("SEResNeXt50", _attention(_x(_DEPTH50), "se"), 27_559_896, 27_628_120, 4.233, 21.1, 5.49, _HU18),
    Variant("SEResNeXt101", _attention(_x(_DEPTH101), "se"), 48_955_416, 49_093_272, 7.975, paper=_HU18),
    Variant("SEResNeXt101_32x8d", _attention(_grouped(_DEPTH101, 32, 8), "se"), 93_569_048, 93_771_928, 16.419, paper="timm"),
    Variant("SEResNeXt101_64x4d", _attention(_grouped(_DEPTH101, 64, 4), "se"), 88_232_984, 88_435_864, 15.465, paper="timm"),
    Variant("SEResNeXt101D_32x8d", _attention(_d(_grouped(_DEPTH101, 32, 8)), "se"), 93_588_280, 93_791_288, 16.658, paper="timm"),

    Variant("SKResNet18", _attention(_BASIC18, "sk_split"), 11_958_056, 11_972_008, 1.814, paper="timm"),
    Variant("SKResNet34", _attention(_BASIC34, "sk_split"), 22_282_376, 22_307_944, 3.664, paper="timm"),
    Variant("SKResNeXt50", _attention(_x(_DEPTH50), "sk"), 27_479_784, 27_564_328, 4.463, paper=_LI19),
    Variant("ECAResNet26T", _attention(_t(_DEPTH26), "eca"), 16_011_916, 16_042_876, 2.550, paper="timm"),
    Variant("ECAResNet50D", _attention(_d(_DEPTH50), "eca"), 25_576_350, 25_629_598, 4.329, paper="timm"),
    Variant("ECAResNet50T", _attention(_t(_DEPTH50), "eca"), 25_573_814, 25_627_046, 4.297, paper="timm"),
    Variant("ECAResNet101D", _attention(_d(_DEPTH101), "eca"), 44_568_563, 44_674_035, 8.041, paper="timm"),
    Variant("ECAResNet269D", _attention(_d(_DEPTH269), "eca"), 102_093_077, 102_346_005, 20.270, paper="timm"),
    Variant("ECAResNetLight", _attention(ResNetConfig(blocks=(1, 1, 11, 3), shortcut="D"), "eca"), 30_162_046, 30_224_382, 4.089, paper="timm"),

    Variant("ResNetBlur50", _DEPTH50.replace(stem_pool="blur", downsample="blur"), 25_557_032, 25_610_152, 5.130, paper="timm"),
    Variant("ResNetAA50", _DEPTH50.replace(stem_pool="average", downsample="average"), 25_557_032, 25_610_152, 5.130, paper="timm"),
    Variant("BLResNet50", _big_little(_DEPTH50), 28_403_624, 28_468_904, 3.267, paper=_CHEN19),
    Variant("BLResNet101", _big_little(_DEPTH101_BL), 43_560_616, 43_672_744, 4.304, paper=_CHEN19),
    Variant("BLResNeXt50", _big_little(_x(_DEPTH50)), 27_877_032, 27_958_312, 3.427, paper="ours"),
    Variant("BLResNeXt101", _big_little(_x(_DEPTH101_BL)), 43_160_744, 43_304_488, 4.472, paper="ours"),
    Variant("AssembleResNet50", _assembled(_DEPTH50), 41_846_440, 41_923_752, 5.726, 17.22, None, _LEE20),
    Variant("AssembleResNet152", _assembled(ResNetConfig(blocks=(5, 12, 30, 3)), 1, 2), 117_004_200, 117_253_800, 15.675, 15.81, None, _LEE20),
    Variant("AssembleResNeXt50", _assembled(_x(_DEPTH50)), 37_013_736, 37_119_016, 3.742, paper="ours"),

    _small("ResNet20", _cifar(20), 269_722, 271_098, 0.041, 8.75),
    _small("ResNet32", _cifar(32), 464_154, 466_426, 0.069, 7.51),
    _small("ResNet44", _cifar(44), 658_586, 661_754, 0.097, 7.17),
    _small("ResNet56", _cifar(56), 853_018, 857_082, 0.125, 6.97),
    _small("ResNet110", _cifar(110), 1_727_962, 1_736_058, 0.253, 6.43),
    _small("ResNet1202", _cifar(1202), 19_421_274, 19_510_906, 2.829, 7.93),
    _small("Plain20", _cifar(20, "none"), 269_722, 271_098, 0.041),
    _small("Plain56", _cifar(56, "none"), 853_018, 857_082, 0.125),
    _small("ResNeXt29_8x64d", _cifar_grouped(8, 64), 34_426_698, 34_484_170, 5.387, 3.65, _XIE17),
    _small("ResNeXt29_16x64d", _cifar_grouped(16, 64), 68_155_210, 68_255_690, 10.689, 3.58, _XIE17),
    _small("ResNeXt35", _cifar_grouped(8, 32, (3, 4, 4), 8, stem_filters=32), 273_386, 279_018, 0.040, None, "ours"),

    Variant("InceptionV1", inception.V1, 6_998_552, 6_998_552, 1.583, 29.0, 9.2, _SZEGEDY14),
    Variant("InceptionV1BN", inception.V1_BN, 6_624_904, 6_639_464, 1.498, 30.2, 10.5, "torchvision"),
    Variant("InceptionV1Naive", inception.V1_NAIVE, 97_526_008, 97_526_008, 12.568, None, None, _SZEGEDY14),
    Variant("InceptionV2", inception.V2, 11_194_984, 11_214_888, 2.019, 25.2, 7.8, _IOFFE15),
    Variant("InceptionV3", inception.V3, 23_817_352, 23_851_784, 5.713, 21.2, 5.6, _SZEGEDY15, 299),
    Variant("InceptionV4", inception.V4, 42_679_816, 42_742_984, 12.254, 20.0, 5.0, _SZEGEDY16, 299),
    Variant("InceptionResNetV1", inception.RESNET_V1, 22_756_328, 22_783_368, 6.206, 21.3, 5.5, _SZEGEDY16, 299),
    Variant("InceptionResNetV2", inception.RESNET_V2, 55_813_192, 55_873_736, 13.156, 19.9, 4.9, _SZEGEDY16, 299),
    # The error that the paper reports is in the row above, whose weights were published.
    Variant("InceptionResNetV2Paper", inception.RESNET_V2_PAPER, 32_433_928, 32_466_792, 9.258, None, None, _SZEGEDY16, 299),
)
# fmt: on

VARIANTS = {row.name: row for row in _ROWS}

# Other spellings of a row, as the papers and timm write it.
ALIASES = {
    "ResNeXt50_32x4d": "ResNeXt50",
    "ResNeXt101_32x4d": "ResNeXt101",
    "ResNeXt50D_32x4d": "ResNeXt50D",
    "SEResNeXt26D_32x4d": "SEResNeXt26D",
    "SEResNeXt26T_32x4d": "SEResNeXt26T",
    "SEResNeXt50_32x4d": "SEResNeXt50",
    "SEResNeXt101_32x4d": "SEResNeXt101",
    "SKResNeXt50_32x4d": "SKResNeXt50",
}


def get(name: str) -> Variant:
    """Return the row called `name`, in upper or lower case."""
    names = {known.lower(): known for known in (*VARIANTS, *ALIASES)}
    known = names.get(str(name).lower())
    if known is None:
        raise ValueError(unknown("model", name, names.values()))
    return VARIANTS[ALIASES.get(known, known)]


def list_models(pattern: str = "*") -> list[str]:
    """Return the names of the models that match a shell-style pattern, in the table's order.

    Args:
        pattern: str, with `*` and `?` as in file names; case does not matter.

    Example:
    >>> list_models("resnext29*")
    ['ResNeXt29_8x64d', 'ResNeXt29_16x64d']
    """
    return [name for name in VARIANTS if fnmatch.fnmatch(name.lower(), pattern.lower())]
