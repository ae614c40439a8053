"""The table of published checkpoints and of the images that they expect. Nothing imports Keras."""

import dataclasses
import difflib
import os
import pathlib
import re
from collections.abc import Iterator

from keras_resnext import imagenet
from keras_resnext.errors import unknown
from keras_resnext.models.variants import Variant
from keras_resnext.weights.grammar import split_tag, timm_config, timm_form

_HALF = (0.5, 0.5, 0.5)


@dataclasses.dataclass(frozen=True)
class ImageSpec:
    """The images that a network expects.

    Attributes:
        size: int, height and width in pixels.
        crop: float, share of the resized image that the central crop keeps.
        interpolation: `"bilinear"` or `"bicubic"`.
        mean: tuple of 3 floats, mean of each channel, of values from 0 to 1.
        std: tuple of 3 floats, standard deviation of each channel.
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = imagenet.MEAN
    std: tuple[float, float, float] = imagenet.STD


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A published checkpoint.

    Attributes:
        network: str, timm's name of the network.
        tag: str, name of the training, such as `"a1_in1k"`.
        train: `ImageSpec` of the training; also the default.
        test: `ImageSpec` that its published accuracy was measured with.
        license: str, SPDX name of the license.
        address: str, URL of the file; None means timm's folder on the Hugging Face hub, which
            sends the file's hash along.
        sha256: str, SHA-256 of the file or its first digits, at least 8; None if the hub sends it.
        classes: int, number of classes of the classifier.
    """

    network: str
    tag: str
    train: ImageSpec
    test: ImageSpec
    license: str
    address: str | None = None
    sha256: str | None = None
    classes: int = 1000

    @property
    def name(self) -> str:
        """`network.tag`, which `from_timm` takes."""
        return f"{self.network}.{self.tag}"

    @property
    def url(self) -> str:
        """URL of the file; `HF_ENDPOINT` may name another hub than Hugging Face's."""
        if self.address:
            return self.address
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        return f"{hub}/timm/{self.name}/resolve/main/model.safetensors"

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return f"{self.name}{pathlib.PurePosixPath(self.url).suffix}"

    @property
    def noncommercial(self) -> bool:
        """Whether the license forbids commercial use."""
        return "NC" in self.license.split("-")


# Short tags of each network, which mean `<tag>_in1k` except for those in _LONG_TAGS.
TAGS = {
    "resnet18": "a1 a2 a3 gluon tv fb_ssl fb_swsl",
    "resnet34": "a1 a2 a3 bt gluon tv ra4",
    "resnet50": "a1 a1h a2 a3 am b1k b2k bt c1 c2 d gluon ra ram tv tv2 fb_ssl fb_swsl",
    "resnet101": "a1 a1h a2 a3 gluon tv tv2",
    "resnet152": "a1 a1h a2 a3 gluon tv tv2",
    "resnet200d": "ra2",
    "resnext50_32x4d": "a1 a1h a2 a3 ra gluon tv tv2 fb_ssl fb_swsl",
    "resnext50d_32x4d": "bt",
    "resnext101_32x4d": "gluon fb_ssl fb_swsl",
    "resnext101_32x8d": "tv tv2 fb_ssl fb_swsl fb_wsl",
    "resnext101_64x4d": "c1 gluon tv",
    "seresnet50": "a1 a2 a3 ra2",
    "seresnet152d": "ra2",
    "seresnext26d_32x4d": "bt",
    "seresnext26t_32x4d": "bt",
    "seresnext50_32x4d": "racm gluon",
    "seresnext101_32x4d": "gluon",
    "seresnext101_32x8d": "ah",
    "seresnext101_64x4d": "gluon",
    "seresnext101d_32x8d": "ah",
    "skresnet18": "ra",
    "skresnet34": "ra",
    "skresnext50_32x4d": "ra",
    "ecaresnet26t": "ra2",
    "ecaresnet50t": "a1 a2 a3 ra2",
    "ecaresnet50d": "miil",
    "ecaresnet101d": "miil",
    "ecaresnetlight": "miil",
    "ecaresnet269d": "ra2",
    "resnetblur50": "bt",
    "resnetaa50": "a1h",
    "inception_v3": "tf tf_adv gluon tv",
    "inception_v4": "tf",
    "inception_resnet_v2": "tf tf_ens_adv",
}
# torchvision's files: the first digits of the SHA-256 of each network's V1 and V2.
TORCHVISION = {
    "resnet18": "f37072fd",
    "resnet34": "b627a593",
    "resnet50": "0676ba61 11ad3fa6",
    "resnet101": "63fe2227 cd907fc2",
    "resnet152": "394f9c45 f82ba261",
    "resnext50_32x4d": "7cdf4587 1a0047aa",
    "resnext101_32x8d": "8ba56ff5 110c445d",
    "resnext101_64x4d": "173b62eb",
}
_LONG_TAGS = {
    "fb_ssl": "fb_ssl_yfcc100m_ft_in1k",
    "fb_swsl": "fb_swsl_ig1b_ft_in1k",
    "fb_wsl": "fb_wsl_ig1b_ft_in1k",
    "ra4": "ra4_e3600_r224_in1k",
}
# The images of each short tag, in training and in testing.
_BICUBIC = ImageSpec(interpolation="bicubic")
_IMAGES = {
    "tv": (ImageSpec(), ImageSpec()),
    "fb": (ImageSpec(), ImageSpec()),
    "gluon": (_BICUBIC, _BICUBIC),
    "am": (_BICUBIC, _BICUBIC),
    "tv2": (ImageSpec(176), ImageSpec(224, 0.965)),
    "a": (
        ImageSpec(224, 0.95, "bicubic"),
        ImageSpec(288, 1.0, "bicubic"),
    ),
    "a3": (ImageSpec(160, 0.95, "bicubic"), ImageSpec(224, 0.95, "bicubic")),
    "ra": (_BICUBIC, ImageSpec(288, 0.95, "bicubic")),
    "ra4": (
        ImageSpec(224, 0.9, "bicubic", _HALF, _HALF),
        ImageSpec(288, 1.0, "bicubic", _HALF, _HALF),
    ),
}
_KINDS = {tag: "a" for tag in ("a1", "a2", "a1h", "b1k", "b2k", "c1", "c2", "d", "ah")}
_KINDS |= {tag: "ra" for tag in ("ra", "ra2", "ram", "bt", "racm", "miil")}
_KINDS |= {tag: "fb" for tag in ("fb_ssl", "fb_swsl", "fb_wsl")}
_INCEPTION = ImageSpec(299, 0.875, "bicubic", _HALF, _HALF)
# Networks whose images differ from those of their tag.
_EXCEPTIONS = {
    ("resnet50", "a1h"): (ImageSpec(176, 0.9, "bicubic"), ImageSpec(224, 1.0, "bicubic")),
    ("seresnet152d", "ra2"): (ImageSpec(256, 0.95, "bicubic"), ImageSpec(320, 1.0, "bicubic")),
    ("resnet200d", "ra2"): (ImageSpec(256, 0.95, "bicubic"), ImageSpec(320, 1.0, "bicubic")),
    ("ecaresnet269d", "ra2"): (ImageSpec(320, 0.95, "bicubic"), ImageSpec(352, 1.0, "bicubic")),
    ("ecaresnet26t", "ra2"): (ImageSpec(256, 0.875, "bicubic"), ImageSpec(320, 0.95, "bicubic")),
    ("ecaresnet50t", "ra2"): (ImageSpec(256, 0.875, "bicubic"), ImageSpec(320, 0.95, "bicubic")),
    **{(f"skresne{kind}", "ra"): (_BICUBIC, _BICUBIC) for kind in ("t18", "t34", "xt50_32x4d")},
    **{("inception_v3", tag): (_INCEPTION, _INCEPTION) for tag in ("tf", "tf_adv", "tv")},
    ("inception_v3", "gluon"): 2 * (ImageSpec(299, 0.875, "bicubic"),),
    ("inception_v4", "tf"): (_INCEPTION, _INCEPTION),
    **{
        ("inception_resnet_v2", tag): 2 * (dataclasses.replace(_INCEPTION, crop=0.8975),)
        for tag in ("tf", "tf_ens_adv")
    },
}
# The training that `weights="imagenet"` means: the first of these that a network has.
DEFAULT_TAGS = ("a1", "racm", "ra2", "ah", "a1h", "ra", "miil", "bt", "c1", "tv2", "tf", "gluon")
DEFAULT_TAGS += ("tv",)


def _license(tag: str) -> str:
    if tag.startswith("fb_"):
        return "CC-BY-NC-4.0"
    return "BSD-3-Clause" if tag.startswith("tv") else "Apache-2.0"


def _rows() -> Iterator[Checkpoint]:
    for network, tags in TAGS.items():
        for tag in tags.split():
            images = _EXCEPTIONS.get((network, tag)) or _IMAGES[_KINDS.get(tag, tag)]
            yield Checkpoint(network, _LONG_TAGS.get(tag, f"{tag}_in1k"), *images, _license(tag))


def _torchvision_rows() -> Iterator[Checkpoint]:
    for network, hashes in TORCHVISION.items():
        for number, digits in enumerate(hashes.split(), 1):
            # V1 of this network was trained like V2 of the others.
            kind = "tv2" if number == 2 or network == "resnext101_64x4d" else "tv"
            address = f"https://download.pytorch.org/models/{network}-{digits}.pth"
            tag = f"IMAGENET1K_V{number}"
            yield Checkpoint(network, tag, *_IMAGES[kind], _license(kind), address, digits)


SOURCES = {row.name: row for row in (*_rows(), *_torchvision_rows())}


def timm_network(row: Variant) -> str | None:
    """Return timm's name for a row of our table; None if timm has no such network."""
    name = row.name.lower()
    if name.startswith("inception"):
        name = re.sub(r"(resnet|v\d)", r"_\1", name)
    elif "resnext" in name and "_" not in name:
        name += "_32x4d"
    try:
        return name if timm_config(name) == timm_form(row.config) else None
    except ValueError:
        return None


def find_source(network: str, tag: str | None = None) -> Checkpoint:
    """Return the checkpoint of timm's `network`, by default its first in `DEFAULT_TAGS`."""
    tags = [row.tag for row in SOURCES.values() if row.network == network]
    if not tags:
        near = difflib.get_close_matches(network, TAGS, n=1, cutoff=0)[0]
        raise ValueError(f'No checkpoint of "{network}" is published. The nearest is of "{near}".')
    if tag in (None, "imagenet"):
        order = [f"{short}_in1k" for short in DEFAULT_TAGS]
        tag = min(tags, key=lambda t: order.index(t) if t in order else len(order))
    if tag not in tags:
        raise ValueError(unknown(f"checkpoint of {network}", tag, tags))
    return SOURCES[f"{network}.{tag}"]


def source_of(row: Variant, weights: str) -> Checkpoint:
    """Return the checkpoint that `weights`, a tag or `"imagenet"`, means for a row of our table."""
    network = timm_network(row)
    if network is None:
        near = difflib.get_close_matches(row.name.lower(), TAGS, n=1, cutoff=0)[0]
        raise ValueError(
            f'No checkpoint of {row.name} is published. The nearest is of "{near}"; or give the '
            f'path of a file. Received: weights="{weights}"'
        )
    return find_source(network, weights)


def source_by_name(name: str) -> Checkpoint:
    """Return the checkpoint called `"network.tag"`, or the default one of `"network"`."""
    return find_source(*split_tag(name))
