"""The Inception networks as tables of their modules' filters. Nothing here imports Keras."""

from collections.abc import Iterable

from keras_resnext.models.inception_config import InceptionConfig, Module


def _of_kind(kind: str, rows: Iterable[tuple[int, ...]]) -> tuple[Module, ...]:
    return tuple(Module(kind, row) for row in rows)


# ------------------------------------------------------------------------------------ v1 and v2

_GOOGLENET = (
    (
        (64, 96, 128, 16, 32, 32),
        (128, 128, 192, 32, 96, 64),
    ),
    (
        (192, 96, 208, 16, 48, 64),
        (160, 112, 224, 24, 64, 64),
        (128, 128, 256, 24, 64, 64),
        (112, 144, 288, 32, 64, 64),
        (256, 160, 320, 32, 128, 128),
    ),
    (
        (256, 160, 320, 32, 128, 128),
        (384, 192, 384, 48, 128, 128),
    ),
)

# Rows as in the paper's table, from #1x1 to pool proj: 3a 3b are stage2_block1 and 2, 4a to 4e are
# stage3_block1 to 5, 5a 5b are stage4_block1 and 2. Table 1 leaves out the local response
# normalization of figure 3, and so does this.
V1 = InceptionConfig(
    stem="v1",
    stem_filters=(64, 64, 192),
    stages=tuple(_of_kind("v1", rows) for rows in _GOOGLENET),
    pools=("max3x3/2c", "max3x3/2c"),
    norm=False,
    use_bias=True,
    dropout=0.4,
    auxiliary_head="v1",
    auxiliary_after=("stage3_block1", "stage3_block4"),
)
# torchvision's, in which the 5x5 are 3x3 and the last pooling is 2x2
V1_BN = V1.replace(
    stages=tuple(_of_kind("v1_3x3", rows) for rows in _GOOGLENET),
    pools=("max3x3/2c", "max2x2/2c"),
    norm=True,
    use_bias=False,
    norm_momentum=0.9,
    dropout=0.2,
)
V1_NAIVE = V1.replace(
    stages=tuple(
        _of_kind("v1_naive", [(row[0], row[2], row[4]) for row in rows]) for rows in _GOOGLENET
    )
)

# 3a 3b are stage2_block1 and 2; 3c, 4a to 4d stage3_block1 to 5; 4e, 5a, 5b stage4_block1 to 3.
V2 = InceptionConfig(
    stem="v2",
    stem_filters=(64, 64, 192),
    stages=(
        (
            Module("double_3x3", (64, 64, 64, 64, 96, 96, 32)),
            Module("double_3x3", (64, 64, 96, 64, 96, 96, 64)),
        ),
        (
            Module("double_3x3_reduction", (128, 160, 64, 96, 96)),
            Module("double_3x3", (224, 64, 96, 96, 128, 128, 128)),
            Module("double_3x3", (192, 96, 128, 96, 128, 128, 128)),
            Module("double_3x3", (160, 128, 160, 128, 160, 160, 96)),
            Module("double_3x3", (96, 128, 192, 160, 192, 192, 96)),
        ),
        (
            Module("double_3x3_reduction", (128, 192, 192, 256, 256)),
            Module("double_3x3", (352, 192, 320, 160, 224, 224, 128)),
            Module("double_3x3_max", (352, 192, 320, 192, 224, 224, 128)),
        ),
    ),
)

# ------------------------------------------------------------------------------------ v3 and v4


def _v3_b(width: int) -> Module:
    return Module("b", (192, width, width, 192, width, width, width, width, 192, 192))


# mixed_5b to 5d (mixed0 to 2) are stage2_block1 to 3, mixed_6a to 6e (mixed3 to 7) stage3_block1
# to 5, mixed_7a to 7c (mixed8 to 10) stage4_block1 to 3. No gamma, as in keras.applications and in
# TensorFlow's checkpoints. timm's and torchvision's is
# `V3.replace(norm_scale=True, pool_padding="counted")`.
V3 = InceptionConfig(
    stem="v3",
    stem_filters=(32, 32, 64, 80, 192),
    stages=(
        _of_kind("a", [(64, 48, 64, 64, 96, 96, projection) for projection in (32, 64, 64)]),
        (
            Module("a_reduction", (384, 64, 96, 96)),
            *map(_v3_b, (128, 160, 160, 192)),
        ),
        (
            Module("b_reduction", (192, 320, 192, 192, 192, 192)),
            *[Module("c", (320, 384, 384, 384, 448, 384, 384, 384, 192))] * 2,
        ),
    ),
    norm_scale=False,
    auxiliary_head="v3",
    auxiliary_after=("stage3_block5",),
)

_V4_STEM = (32, 32, 64, 96, 64, 96, 64, 64, 64, 96, 192)

# mixed_3a, 4a, 5a are stem_concat2 to 4; mixed_5b to 5e stage2_block1 to 4; mixed_6a to 6h
# stage3_block1 to 8; mixed_7a to 7d stage4_block1 to 4.
V4 = InceptionConfig(
    stem="v4",
    stem_filters=_V4_STEM,
    stages=(
        (Module("double_3x3", (96, 64, 96, 64, 96, 96, 96)),) * 4,
        (
            Module("a_reduction", (384, 192, 224, 256)),
            *[Module("b", (384, 192, 224, 256, 192, 192, 224, 224, 256, 128))] * 7,
        ),
        (
            Module("b_reduction", (192, 192, 256, 256, 320, 320)),
            *[Module("c_v4", (256, 384, 256, 256, 384, 448, 512, 256, 256, 256))] * 3,
        ),
    ),
    dropout=0.2,
)

# ---------------------------------------------------------------------------- Inception-ResNet

# What scales the residual branches: the paper says .1 to .3, the published code these.
_SCALES = (0.17, 0.10, 0.20)

RESNET_V1 = InceptionConfig(
    stem="resnet_v1",
    stem_filters=(32, 32, 64, 80, 192, 256),
    stages=(
        (Module("residual_a", (32, 32, 32, 32, 32, 32)),) * 5,
        (
            Module("a_reduction", (384, 192, 192, 256)),
            *[Module("residual_b", (128, 128, 128, 128))] * 10,
        ),
        (
            Module("residual_b_reduction", (256, 384, 256, 256, 256, 256, 256)),
            *[Module("residual_c", (192, 192, 192, 192))] * 5,
        ),
    ),
    residual_scales=_SCALES,
    dropout=0.2,
)


def _resnet_v2(before: tuple[Module, ...], counts: tuple[int, ...], **fields) -> InceptionConfig:
    """Return a network with the modules `before`, then `counts` residual modules per stage."""
    a = Module("residual_a", (32, 32, 32, 32, 48, 64))
    b = Module("residual_b", (192, 128, 160, 192))
    c = Module("residual_c", (192, 192, 224, 256))
    a_reduction = Module("a_reduction", (384, 256, 256, 384))
    b_reduction = Module("residual_b_reduction", (256, 384, 256, 288, 256, 288, 320))
    return InceptionConfig(
        stages=(
            (*before, *[a] * counts[0]),
            (a_reduction, *[b] * counts[1]),
            (b_reduction, *[c] * counts[2]),
        ),
        residual_scales=_SCALES,
        dropout=0.2,
        **fields,
    )


# The network of the published checkpoints: keras.applications', TensorFlow's and timm's, which
# has a gamma (`norm_scale=True`). mixed_5b, 6a, 7a are the first blocks of stages 2, 3, 4; block35,
# block17 and block8 number n are their block n + 1; conv_7b is features_conv.
RESNET_V2 = _resnet_v2(
    (Module("a", (96, 48, 64, 64, 96, 96, 64)),),
    (10, 20, 10),
    stem="v3",
    stem_filters=V3.stem_filters,
    linear_last=True,
    final_filters=1536,
    norm_scale=False,
)
# The one that the paper prints
RESNET_V2_PAPER = _resnet_v2((), (5, 10, 5), stem="v4", stem_filters=_V4_STEM)
