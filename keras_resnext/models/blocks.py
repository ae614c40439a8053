"""Residual blocks, each described by the formula of what it makes; x is its input.

A kind of block is a row of `BLOCKS`, a way to halve the image one of `DOWNSAMPLINGS`. If DropBlock
is on, it follows every norm of the last two stages. Nothing here imports Keras.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from keras_resnext.models.attention import ATTENTIONS, no_problems, subsampled_or_dilated
from keras_resnext.models.primitives import Map, Primitives
from keras_resnext.models.shortcuts import SHORTCUTS

if TYPE_CHECKING:
    from keras_resnext.models.config import ResNetConfig


class Place(NamedTuple):
    """Where a block stands: what it needs to know besides the configuration.

    `projects` asks for a convolution on the shortcut even if the shapes agree; `drop_block` is the
    scale of DropBlock's seeds, 0 for no DropBlock.
    """

    name: str
    planes: int
    strides: int = 1
    projects: bool = False
    activates: bool = True
    drop_path: float = 0.0
    drop_block: float = 0.0


class Middle(NamedTuple):
    """The requirements for a block's 3x3 convolution with norm and ReLU, or its replacement."""

    name: str
    width: int
    strides: int
    groups: int
    drop_block: float


def residual_block(net: Primitives, x: Map, place: Place) -> Map:
    """ReLU(shortcut(x) + attention(BN(branch(x))))."""
    if net.config.preactivation:
        return preactivation_block(net, x, place)
    block = BLOCKS[net.config.block]
    y = block.branch(net, x, place)
    last = f"{place.name}_conv{block.depth}"
    y = net.norm_drop(y, last, place.drop_block, zeros=net.config.zero_gamma)
    y = joined(net, x, x, y, place)
    return net.relu(y, f"{place.name}_out") if place.activates else y


def preactivation_block(net: Primitives, x: Map, place: Place) -> Map:
    """shortcut(x') + attention(branch(x')), x' = ReLU(BN(x))."""
    active = net.norm_relu(x, f"{place.name}_preact")
    y = BLOCKS[net.config.block].branch(net, active, place)
    return joined(net, x, active, y, place)


def joined(net: Primitives, x: Map, active: Map, y: Map, place: Place) -> Map:
    """shortcut(x) + drop_path(attention(y))."""
    shortcut = SHORTCUTS[net.config.shortcut].make(net, x, active, place)
    attention = ATTENTIONS[net.config.attention].output
    if attention:
        y = attention(net, y, f"{place.name}_attention")
    if place.drop_path:
        y = net.drop_path(y, place.drop_path, f"{place.name}_drop_path")
    return y if shortcut is None else net.add([shortcut, y], f"{place.name}_add")


def basic(net: Primitives, x: Map, place: Place) -> Map:
    """[3x3, BN, ReLU, 3x3](x)."""
    at = Middle(f"{place.name}_conv1", place.planes, place.strides, 1, place.drop_block)
    return net.convolution(middle(net, x, at), place.planes, 3, f"{place.name}_conv2")


def bottleneck(net: Primitives, x: Map, place: Place) -> Map:
    """[1x1, BN, ReLU, 3x3 of C groups, BN, ReLU, 1x1](x)."""
    config = net.config
    width, groups = config.width(place.planes), config.cardinality
    if config.form != "c":
        return BRANCHED_FORMS[config.form](net, x, place, width // groups)
    y = _first_and_middle(net, x, place, width, groups)
    return net.convolution(y, config.channels(place.planes), 1, f"{place.name}_conv3")


def _first_and_middle(net: Primitives, x: Map, place: Place, width: int, groups: int) -> Map:
    """[1x1, BN, ReLU, 3x3, BN, ReLU](x)."""
    on_1x1, on_3x3 = 1, place.strides
    if net.config.stride_on == "1x1":
        on_1x1, on_3x3 = on_3x3, on_1x1
    y = net.conv_norm_relu(x, width, 1, f"{place.name}_conv1", on_1x1, drop_block=place.drop_block)
    at = Middle(f"{place.name}_conv2", width, on_3x3, groups, place.drop_block)
    return middle(net, y, at)


def summed_branches(net: Primitives, x: Map, place: Place, width: int) -> Map:
    """The sum of C branches, [1x1, BN, ReLU, 3x3, BN, ReLU, 1x1](x) each."""
    outputs = net.config.channels(place.planes)
    paths = [
        net.convolution(path, outputs, 1, f"{place.name}_path{number}_conv3")
        for number, path in enumerate(_branches(net, x, place, width), start=1)
    ]
    return net.add(paths, f"{place.name}_paths") if len(paths) > 1 else paths[0]


def concatenated_branches(net: Primitives, x: Map, place: Place, width: int) -> Map:
    """1x1(the concatenation of C branches, [1x1, BN, ReLU, 3x3, BN, ReLU](x) each)."""
    paths = _branches(net, x, place, width)
    y = net.concatenate(paths, f"{place.name}_paths") if len(paths) > 1 else paths[0]
    return net.convolution(y, net.config.channels(place.planes), 1, f"{place.name}_conv3")


def _branches(net: Primitives, x: Map, place: Place, width: int) -> list[Map]:
    """Return the C branches of forms (a) and (b), each of one group."""
    return [
        _first_and_middle(net, x, place._replace(name=f"{place.name}_path{number}"), width, 1)
        for number in range(1, net.config.cardinality + 1)
    ]


# The ResNeXt block has three equivalent forms; (c) is `bottleneck` itself.
BRANCHED_FORMS = {"a": summed_branches, "b": concatenated_branches}


def middle(net: Primitives, x: Map, at: Middle) -> Map:
    """[3x3 or what replaces it, BN, ReLU](x), and a pooling if that halves the image."""
    make = ATTENTIONS[net.config.attention].middle or BLOCKS[net.config.block].middle
    pool = DOWNSAMPLINGS[net.config.downsample]
    if at.strides == 1 or pool is None:
        return make(net, x, at)
    return pool(net, make(net, x, at._replace(strides=1)), at.strides, f"{at.name}_pool")


def grouped(net: Primitives, x: Map, at: Middle) -> Map:
    """[3x3 of C groups, BN, ReLU](x)."""
    return net.conv_norm_relu(x, at.width, 3, at.name, at.strides, at.groups, 1, at.drop_block)


def separable(net: Primitives, x: Map, at: Middle) -> Map:
    """[3x3 depthwise, BN, ReLU, 1x1, BN, ReLU](x)."""
    name, groups, drop = f"{at.name}_depthwise", at.width, at.drop_block
    y = net.conv_norm_relu(x, at.width, 3, name, at.strides, groups, drop_block=drop)
    return net.conv_norm_relu(y, at.width, 1, at.name, drop_block=drop)


def multi_kernel(net: Primitives, x: Map, at: Middle) -> Map:
    """ReLU(BN([3x3(x1), 5x5(x2)])), x1 and x2 the halves of the channels."""
    return _in_halves(net, x, at, 5)


def multi_dilation(net: Primitives, x: Map, at: Middle) -> Map:
    """ReLU(BN([3x3(x1), 3x3 dilated by 2 (x2)])), x1 and x2 the halves of the channels."""
    return _in_halves(net, x, at, 3, dilated=True)


def _in_halves(net: Primitives, x: Map, at: Middle, kernel: int, dilated: bool = False) -> Map:
    first, second = net.split(x, 2)
    names = f"{at.name}_path1", f"{at.name}_path2"
    strides, dilation = at.strides, 1
    if dilated:
        second, strides, dilation = subsampled_or_dilated(net, second, strides, names[1])
    half, groups, bias = at.width // 2, at.groups // 2, net.config.bias_before_norm
    paths = [
        net.convolution(first, half, 3, names[0], at.strides, groups, use_bias=bias),
        net.convolution(second, half, kernel, names[1], strides, groups, dilation, use_bias=bias),
    ]
    return net.norm_relu(net.concatenate(paths, f"{at.name}_paths"), at.name, at.drop_block)


def average_pool(net: Primitives, x: Map, strides: int, name: str) -> Map:
    """The mean over a square, without counting the padding of an odd border."""
    return net.average_pool(x, strides, strides, name, padding="same")


def blur_pool(net: Primitives, x: Map, strides: int, name: str) -> Map:
    """A blur with that stride."""
    return net.blur_pool(x, strides, name)


# What follows a block's 3x3 instead of its stride; None leaves the stride. They have no weights, so
# timm's names do not change.
DOWNSAMPLINGS: dict[str, Callable[..., Map] | None] = {
    "stride": None,
    "blur": blur_pool,
    "average": average_pool,
}


@dataclass(frozen=True, kw_only=True)
class Block:
    """A kind of residual block.

    Args:
        branch: function `(net, x, place)` to the branch without its last norm.
        middle: function `(net, x, at)` that makes the `Middle`.
        timm: dict from our name of a layer inside a block to timm's, None if timm has no such
            network.
        width: function `(planes, d, groups)` to the channels of the middle, where `d` is the
            width of a group in these planes.
        expansion: int, a block's output channels, in planes.
        depth: int, the layers with weights on the main path; the number of the last convolution.
        problems: function from a configuration to the sentences that say why it describes no
            network of such blocks.
    """

    branch: Callable[..., Map]
    middle: Callable[..., Map]
    timm: Mapping[str, str] | None
    width: Callable[[int, int, int], int]
    expansion: int = 4
    depth: int = 3
    problems: Callable[["ResNetConfig"], Sequence[str] | Iterator[str]] = no_problems


def nearest_width(target: int, cost: Callable[[int], int]) -> int:
    """Return the width (at least 1) with the nearest cost to `target`; cost rises with width."""
    width = 1
    while cost(width + 1) <= target:
        width += 1
    return min((width, width + 1), key=lambda w: abs(cost(w) - target))


def _separable_width(planes: int, d: int, groups: int) -> int:
    """Match the cost of a bottleneck: 9 multiply-adds per channel, and one per pair of channels."""
    ends = 8 * planes
    target = groups * d * (ends + 9 * d)
    return nearest_width(target, lambda width: width * (ends + 9 + width))


def _multi_kernel_width(planes: int, d: int, groups: int) -> int:
    """Match the cost of a bottleneck: 25 multiply-adds per pair in half of the groups, else 9."""
    ends = 8 * planes
    target = groups * d * (ends + 9 * d)
    return groups * nearest_width(target, lambda width: groups * width * (ends + 17 * width))


def _basic_problems(config: "ResNetConfig") -> Iterator[str]:
    if (config.cardinality, config.width_per_group) != (1, 64):
        yield (
            "A basic block has no groups (the ResNeXt paper, section 3.3): use "
            'block="bottleneck", or cardinality=1 and width_per_group=64. Received: '
            f"cardinality={config.cardinality}, width_per_group={config.width_per_group}"
        )
    if config.stride_on == "1x1":
        yield 'A basic block has no 1x1 convolution: use stride_on="3x3".'


def _separable_problems(config: "ResNetConfig") -> Iterator[str]:
    if config.cardinality != 1:
        yield (
            'block="separable" already has one group per channel: use cardinality=1. '
            f"Received: cardinality={config.cardinality}"
        )


def _halved_problems(config: "ResNetConfig") -> Iterator[str]:
    if config.cardinality % 2:
        yield (
            f'block="{config.block}" halves the groups: `cardinality` must be even. '
            f"Received: cardinality={config.cardinality}"
        )


def _timm(convolutions: int) -> dict[str, str]:
    names = {f"conv{number}": f"conv{number}" for number in range(1, convolutions + 1)}
    return names | {f"{name}_norm": name.replace("conv", "bn") for name in names}


BLOCKS = {
    "basic": Block(
        branch=basic,
        middle=grouped,
        timm=_timm(2),
        width=lambda planes, d, groups: planes,
        expansion=1,
        depth=2,
        problems=_basic_problems,
    ),
    "bottleneck": Block(
        branch=bottleneck,
        middle=grouped,
        timm=_timm(3),
        width=lambda planes, d, groups: d * groups,
    ),
    "separable": Block(
        branch=bottleneck,
        middle=separable,
        timm=None,
        width=_separable_width,
        problems=_separable_problems,
    ),
    "multi_kernel": Block(
        branch=bottleneck,
        middle=multi_kernel,
        timm=None,
        width=_multi_kernel_width,
        problems=_halved_problems,
    ),
    "multi_dilation": Block(
        branch=bottleneck,
        middle=multi_dilation,
        timm=None,
        width=lambda planes, d, groups: d * groups,
        problems=_halved_problems,
    ),
}
