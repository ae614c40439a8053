"""The grammar of timm's names, which accepts any combination of parts.

`seresnext101d_32x8d.ah_in1k` is squeeze-excite, ResNeXt, 101 layers, the D tweaks, 32 groups of
width 8, and the tag of a training.
"""

import re
from collections.abc import Sequence

from keras_resnext.errors import unknown
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig

_NAME = re.compile(
    r"""(?P<wide>wide_)?
    (?P<attention>se|sk|eca)?
    resne(?P<x>x?)t
    (?P<pool>blur|aa)?
    (?P<depth>\d+|light)
    (?P<stem>[cdst]?)
    (?:_(?P<cardinality>\d+)x(?P<width>\d+)d|_(?P<times>\d+))?""",
    re.VERBOSE,
)
# Blocks per stage; the number of layers is 3 per bottleneck or 2 per basic block, and 2 more.
_BLOCKS = {
    "10": (1, 1, 1, 1),
    "14": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "26": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 6, 3),
    "101": (3, 4, 23, 3),
    "152": (3, 8, 36, 3),
    "200": (3, 24, 36, 3),
    "201": (3, 24, 36, 4),
    "269": (3, 30, 48, 8),
    "light": (1, 1, 11, 3),
}
_BASIC = ("10", "18", "34")
_STEMS = {
    "": {},
    "c": {"stem": "deep"},
    "d": {"stem": "deep", "shortcut": "D"},
    "t": {"stem": "tiered", "shortcut": "D"},
    "s": {"stem": "deep", "stem_filters": 128},
}
_POOLS = {
    None: {},
    "blur": {"stem_pool": "blur", "downsample": "blur"},
    "aa": {"stem_pool": "average", "downsample": "average"},
}
_INCEPTIONS = {
    "inception_v3": ("InceptionV3", {"norm_scale": True, "pool_padding": "counted"}),
    "inception_v4": ("InceptionV4", {}),
    "inception_resnet_v2": ("InceptionResNetV2", {"norm_scale": True}),
}


def split_tag(name: str) -> tuple[str, str | None]:
    """Split `"resnet50.a1_in1k"` into `("resnet50", "a1_in1k")`; the tag may be missing."""
    name, _, tag = str(name).removeprefix("timm/").partition(".")
    return name, tag or None


def timm_config(name: str, blocks: Sequence[int] | None = None) -> ResNetConfig | InceptionConfig:
    """Return the configuration of timm's network `name`; a tag is ignored.

    `blocks` per stage are needed for a number of layers that is not published.
    """
    name, _ = split_tag(name)
    if name in _INCEPTIONS:
        row, overrides = _INCEPTIONS[name]
        return variants.get(row).config.replace(**overrides)
    match = _NAME.fullmatch(name.lower())
    if not match or not _is_consistent(match):
        raise ValueError(unknown("timm network", name, _examples()))
    return ResNetConfig(**_fields(match, blocks))


def timm_form(config: ResNetConfig | InceptionConfig) -> ResNetConfig | InceptionConfig:
    """Return the configuration with the details of timm's network of the same stem and modules."""
    if isinstance(config, InceptionConfig):
        for row, overrides in _INCEPTIONS.values():
            if _kinds(config) == _kinds(variants.get(row).config):
                return config.replace(**overrides)
    return config


def _kinds(config: InceptionConfig) -> tuple[str, list[list[str]]]:
    """Return the stem and the kinds of modules of an Inception network."""
    return config.stem, [[module.kind for module in stage] for stage in config.stages]


def _is_consistent(match: re.Match) -> bool:
    """Return whether only ResNeXts have groups, and only wide ResNets a factor of the width."""
    grouped, wide = match["cardinality"] is not None, match["times"] is not None
    return grouped == bool(match["x"]) and wide == bool(match["wide"])


def _fields(match: re.Match, blocks: Sequence[int] | None) -> dict:
    depth = match["depth"]
    basic = depth in _BASIC
    if depth in _BLOCKS:
        blocks = _BLOCKS[depth]
    elif blocks is None:
        raise ValueError(
            f"The blocks of a network of {depth} layers are not known: give `blocks`. "
            f"Known: {', '.join(_BLOCKS)}"
        )
    elif sum(blocks) * 2 + 2 == int(depth):
        basic = True
    fields = {"blocks": blocks, "block": "basic" if basic else "bottleneck"}
    if match["x"]:
        fields["cardinality"] = int(match["cardinality"])
        fields["width_per_group"] = int(match["width"])
    if match["wide"]:
        fields["width_per_group"] = 64 * int(match["times"])
    fields |= _STEMS[match["stem"]] | _POOLS[match["pool"]]
    if depth == "light":
        fields["shortcut"] = "D"
    kind = match["attention"]
    if kind == "sk":
        # In timm both branches of a ResNeXt see the whole input, those of others half of it.
        fields["attention"] = "sk" if match["x"] else "sk_split"
    elif kind:
        fields["attention"] = kind
    return fields


def _examples() -> list[str]:
    """Return names of timm that resemble the rows of our table."""
    names = [*_INCEPTIONS, "ecaresnetlight", "resnetblur50", "resnetaa50", "wide_resnet50_2"]
    return names + [
        f"{prefix}resne{kind}"
        for prefix in ("", "se", "sk", "eca")
        for kind in ("t18", "t50", "t50d", "t101", "xt50_32x4d", "xt101_32x8d")
    ]
