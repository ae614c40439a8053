"""Attention in a residual block: each kind is a row of `ATTENTIONS`. Nothing here imports Keras."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_resnext.channels import neighbors, reduced_channels
from keras_resnext.models.primitives import Map, Primitives

if TYPE_CHECKING:
    from keras_resnext.models.blocks import Middle
    from keras_resnext.models.config import ResNetConfig


def no_problems(config: "ResNetConfig") -> Sequence[str]:
    """Return nothing, for parts that go with every other part."""
    return ()


@dataclass(frozen=True, kw_only=True)
class Attention:
    """A way for a block to weigh channels.

    Args:
        timm: dict from our name of a layer inside a block to timm's, `{}` if it has no weights,
            None if timm has no such network.
        output: function `(net, x, name)` that is applied to a block's output, or None.
        middle: function `(net, x, at)` that replaces the `Middle` of a block, or None.
        problems: function from a configuration to sentences, one for each reason why it does not
            describe a network with this attention.
    """

    timm: Mapping[str, str] | None
    output: Callable[..., Map] | None = None
    middle: Callable[..., Map] | None = None
    problems: Callable[["ResNetConfig"], Sequence[str] | Iterator[str]] = no_problems


def squeeze_excite(net: Primitives, x: Map, name: str) -> Map:
    """Return x * sigmoid(W2 ReLU(W1 mean(x)))."""
    channels, bias = net.channels(x), net.config.attention_bias
    reduced = reduced_channels(channels, net.config.attention_ratio or 1 / 16, 8)

    def formula(net: Primitives, x: Map) -> Map:
        hidden = net.dense(net.mean(x, "mean"), reduced, "reduce", "relu", bias)
        return net.scale(x, net.dense(hidden, channels, "expand", "sigmoid", bias), "scale")

    return net.layer("SqueezeExcite", x, name, formula, reduced=reduced, use_bias=bias)


def efficient_attention(net: Primitives, x: Map, name: str) -> Map:
    """Return x * sigmoid(a convolution along the channels of mean(x)) (ECA)."""

    def formula(net: Primitives, x: Map) -> Map:
        column = (net.channels(x), 1, 1)
        kernel = (neighbors(net.channels(x)), 1)
        return net.scale(x, net.convolution(column, 1, kernel, "conv", use_bias=False), "scale")

    return net.layer("EfficientChannelAttention", x, name, formula)


def selective_kernel(net: Primitives, x: Map, at: "Middle") -> Map:
    """SK([3x3, BN, ReLU](x), [3x3 dilated by 2, BN, ReLU](x)) (timm's)."""
    return _two_kernels(net, (x, x), at, 1 / 16, 32)


def selective_kernel_split(net: Primitives, x: Map, at: "Middle") -> Map:
    """SK([3x3, BN, ReLU](x1), [3x3 dilated by 2, BN, ReLU](x2)), x1 and x2 the halves of x."""
    ratio, divisor = (1 / 8, 16) if net.config.block == "basic" else (1 / 16, 8)  # as in timm
    return _two_kernels(net, net.split(x, 2), at, ratio, divisor)


def selective_kernel_assembled(net: Primitives, x: Map, at: "Middle") -> Map:
    """DropBlock(SK(the halves of [3x3 of twice the width, BN, ReLU](x)))."""
    y = net.conv_norm_relu(x, 2 * at.width, 3, at.name, at.strides, at.groups)
    reduced = max(int(at.width * (net.config.attention_ratio or 1 / 2)), 32)
    y = _select(net, net.split(y, 2), at.name, reduced)
    return net.drop_block(y, at.drop_block, f"{at.name}_drop_block") if at.drop_block else y


def _two_kernels(
    net: Primitives, inputs: Sequence[Map], at: "Middle", ratio: float, divisor: int
) -> Map:
    second = f"{at.name}_path2"
    dilated, strides, dilation = subsampled_or_dilated(net, inputs[1], at.strides, second)
    paths = (
        net.conv_norm_relu(
            inputs[0], at.width, 3, f"{at.name}_path1", at.strides, at.groups, 1, at.drop_block
        ),
        net.conv_norm_relu(
            dilated, at.width, 3, second, strides, at.groups, dilation, at.drop_block
        ),
    )
    ratio = net.config.attention_ratio or ratio
    return _select(net, paths, at.name, reduced_channels(at.width, ratio, divisor, keep=0.9))


def subsampled_or_dilated(net: Primitives, x: Map, strides: int, name: str) -> tuple[Map, int, int]:
    """Return the input, stride and dilation of a 3x3 dilated by 2.

    At stride 2 it only reads every other pixel, as a plain 3x3 on the subsampled input does.
    """
    if strides == 1:
        return x, 1, 2
    return net.max_pool(x, 1, strides, f"{name}_subsample"), 1, 1


def _select(net: Primitives, paths: Sequence[Map], name: str, reduced: int) -> Map:
    """sum(a_i * x_i), a = softmax(W2 ReLU(BN(W1 mean(sum(x_i)))))."""

    def formula(net: Primitives, paths: Sequence[Map]) -> Map:
        total = net.mean(net.add(paths, "sum"), "mean")
        hidden = net.norm(net.dense(total, reduced, "reduce", use_bias=False), "norm")
        net.dense(hidden, len(paths) * net.channels(total), "select", use_bias=False)
        return paths[0]

    return net.layer(
        "SelectiveKernel",
        paths,
        f"{name}_attention",
        formula,
        reduced=reduced,
        momentum=net.config.norm_momentum,
        epsilon=net.config.norm_epsilon,
    )


def _selective_problems(config: "ResNetConfig") -> Iterator[str]:
    if config.block not in ("basic", "bottleneck"):
        yield (
            f'attention="{config.attention}" replaces the 3x3 convolution: use '
            f'block="bottleneck" or "basic". Received: block="{config.block}"'
        )


def _split_problems(config: "ResNetConfig") -> Iterator[str]:
    yield from _selective_problems(config)
    basic = config.block == "basic"
    widths = (config.stem_filters, *config.outputs) if basic else config.widths
    widths += tuple(config.width(planes) for planes in config.little_planes)
    divisor = 2 * config.cardinality
    if any(width % divisor for width in widths):
        yield (
            'attention="sk_split" halves the input of the 3x3 convolutions: its width must be '
            f"divisible by {divisor}. Received: widths {widths}"
        )


def _timm_selective() -> dict[str, str]:
    """Return timm's names where every convolution of a block is a module with its norm."""
    names = {}
    for part in ("conv1", "conv2", "conv3"):
        names |= {part: f"{part}.conv", f"{part}_norm": f"{part}.bn"}
        for number in (1, 2):
            path = f"{part}.paths.{number - 1}"
            names[f"{part}_path{number}"] = f"{path}.conv"
            names[f"{part}_path{number}_norm"] = f"{path}.bn"
        for ours, theirs in (("reduce", "fc_reduce"), ("norm", "bn"), ("select", "fc_select")):
            names[f"{part}_attention/{ours}"] = f"{part}.attn.{theirs}"
    return names


ATTENTIONS = {
    "none": Attention(timm={}),
    "se": Attention(
        output=squeeze_excite,
        timm={"attention/reduce": "se.fc1", "attention/expand": "se.fc2"},
    ),
    "eca": Attention(output=efficient_attention, timm={"attention/conv": "se.conv"}),
    "sk": Attention(middle=selective_kernel, timm=_timm_selective(), problems=_selective_problems),
    "sk_split": Attention(
        middle=selective_kernel_split, timm=_timm_selective(), problems=_split_problems
    ),
    "sk_assembled": Attention(
        middle=selective_kernel_assembled, timm=None, problems=_selective_problems
    ),
}
