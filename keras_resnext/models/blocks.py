"""Residual blocks. Each docstring is the formula of what it builds; x is its input.

DropBlock, where the configuration has it, follows every batch norm of the last two stages.
"""

import dataclasses
import functools

from keras import layers, ops

from keras_resnext.layers import (
    BlurPool2D,
    DropBlock2D,
    DropPath,
    EfficientChannelAttention,
    SelectiveKernel,
    SqueezeExcite,
)
from keras_resnext.layers.attention import reduced_channels
from keras_resnext.models.config import EXPANSION, SELECTIVE_KERNELS
from keras_resnext.models.primitives import (
    channel_axis,
    conv_norm_act,
    convolution,
    norm,
    norm_act,
    regularizer,
)


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a block stands: what it has to know besides the configuration.

    Attributes:
        name: what the names of its layers begin with.
        planes: its width, see `ResNetConfig.filters`.
        strides: its stride.
        projects: whether its shortcut has a convolution even where the shapes agree.
        activates: whether it ends in an activation.
        drop_path: its rate of stochastic depth.
        drop_block: the scale of DropBlock's seeds in its stage, 0 for none.
    """

    name: str
    planes: int
    strides: int = 1
    projects: bool = False
    activates: bool = True
    drop_path: float = 0.0
    drop_block: float = 0.0


def residual_block(x, config, place):
    """The block that the configuration names, in its place."""
    return (preactivation if config.preactivation else postactivation)(x, config, place)


def postactivation(x, config, place):
    """ReLU(shortcut(x) + attention(BN(branch(x))))."""
    y = BRANCHES[config.block](x, config, place)
    last = {"basic": "conv2"}.get(config.block, "conv3")
    y = _norm_drop(y, config, place, last, closes=True)
    y = _add(shortcut(x, x, config, place), _attend(y, config, place), place)
    return layers.ReLU(name=f"{place.name}_out")(y) if place.activates else y


def preactivation(x, config, place):
    """shortcut(x') + attention(branch(x')), x' = ReLU(BN(x))."""
    active = norm_act(x, config, f"{place.name}_preact")
    y = BRANCHES[config.block](active, config, place)
    return _add(shortcut(x, active, config, place), _attend(y, config, place), place)


def basic(x, config, place):
    """[3x3, BN, ReLU, 3x3](x)."""
    y = spatial(x, config, place, "conv1", place.planes, place.strides, 1)
    return convolution(y, config, place.planes, 3, f"{place.name}_conv2")


def bottleneck(x, config, place):
    """[1x1, BN, ReLU, 3x3 grouped, BN, ReLU, 1x1](x), in one of its three equivalent forms."""
    return FORMS[config.form](x, config, place)


BRANCHES = {kind: basic if kind == "basic" else bottleneck for kind in EXPANSION}


def form_a(x, config, place):
    """The sum of C branches, [1x1, BN, ReLU, 3x3, BN, ReLU, 1x1](x) each."""
    paths = [
        convolution(path, config, _outputs(config, place), 1, f"{place.name}_path{i}_conv3")
        for i, path in enumerate(_paths(x, config, place), start=1)
    ]
    return layers.Add(name=f"{place.name}_paths")(paths) if len(paths) > 1 else paths[0]


def form_b(x, config, place):
    """1x1(the concatenation of C branches, [1x1, BN, ReLU, 3x3, BN, ReLU](x) each)."""
    paths = _paths(x, config, place)
    if len(paths) > 1:
        joined = layers.Concatenate(channel_axis(), name=f"{place.name}_paths")(paths)
    else:
        joined = paths[0]
    return convolution(joined, config, _outputs(config, place), 1, f"{place.name}_conv3")


def form_c(x, config, place):
    """[1x1, BN, ReLU, 3x3 of C groups, BN, ReLU, 1x1](x)."""
    y = _first_and_spatial(x, config, place, config.width(place.planes), config.cardinality)
    return convolution(y, config, _outputs(config, place), 1, f"{place.name}_conv3")


FORMS = {"a": form_a, "b": form_b, "c": form_c}


def _paths(x, config, place):
    """The C branches of forms (a) and (b), each of one group."""
    width = config.width(place.planes) // config.cardinality
    places = [
        dataclasses.replace(place, name=f"{place.name}_path{i}")
        for i in range(1, config.cardinality + 1)
    ]
    return [_first_and_spatial(x, config, path, width, 1) for path in places]


def _first_and_spatial(x, config, place, width, groups):
    on_1x1, on_3x3 = (place.strides, 1) if config.stride_on == "1x1" else (1, place.strides)
    y = _conv_norm_act(x, config, place, "conv1", width, 1, strides=on_1x1)
    return spatial(y, config, place, "conv2", width, on_3x3, groups)


def spatial(x, config, place, part, width, strides, groups):
    """[3x3 or what takes its place, BN, ReLU](x), blurred or averaged where it halves the image."""
    kind = config.attention if config.attention in SELECTIVE_KERNELS else config.block
    if strides == 1 or config.downsample == "stride":
        return SPATIAL[kind](x, config, place, part, width, strides, groups)
    y = SPATIAL[kind](x, config, place, part, width, 1, groups)
    return DOWNSAMPLINGS[config.downsample](strides, name=f"{place.name}_{part}_pool")(y)


def grouped(x, config, place, part, width, strides, groups):
    """[3x3 grouped, BN, ReLU](x)."""
    return _conv_norm_act(x, config, place, part, width, 3, strides, groups)


def separable(x, config, place, part, width, strides, groups):
    """[3x3 depthwise, BN, ReLU, 1x1, BN, ReLU](x)."""
    y = _conv_norm_act(x, config, place, f"{part}_depthwise", width, 3, strides, width)
    return _conv_norm_act(y, config, place, part, width, 1)


def multi_kernel(x, config, place, part, width, strides, groups):
    """ReLU(BN([3x3(x1), 5x5(x2)])), x1 and x2 the halves of the channels."""
    first, second = ops.split(x, 2, axis=channel_axis())
    name, half = f"{place.name}_{part}", (width // 2, groups // 2)
    convolve = functools.partial(convolution, use_bias=config.bias_before_norm)
    paths = [
        convolve(first, config, half[0], 3, f"{name}_path1", strides, half[1]),
        convolve(second, config, half[0], 5, f"{name}_path2", strides, half[1]),
    ]
    return _joined_norm_act(paths, config, place, part)


def multi_dilation(x, config, place, part, width, strides, groups):
    """ReLU(BN([3x3(x1), 3x3 dilated by 2 (x2)])), x1 and x2 the halves of the channels."""
    first, second = ops.split(x, 2, axis=channel_axis())
    name, half = f"{place.name}_{part}", (width // 2, groups // 2)
    second, strides2, dilation = _subsampled_or_dilated(second, strides, f"{name}_path2")
    convolve = functools.partial(convolution, use_bias=config.bias_before_norm)
    paths = [
        convolve(first, config, half[0], 3, f"{name}_path1", strides, half[1]),
        convolve(second, config, half[0], 3, f"{name}_path2", strides2, half[1], dilation=dilation),
    ]
    return _joined_norm_act(paths, config, place, part)


def selective_kernel(x, config, place, part, width, strides, groups):
    """SK([3x3, BN, ReLU](x), [3x3 dilated by 2, BN, ReLU](x)) (timm's)."""
    return _selective((x, x), config, place, part, width, strides, groups, (1 / 16, 32))


def selective_kernel_split(x, config, place, part, width, strides, groups):
    """SK([3x3, BN, ReLU](x1), [3x3 dilated by 2, BN, ReLU](x2)), x1 and x2 the halves of x."""
    halves = ops.split(x, 2, axis=channel_axis())
    reduction = (1 / 8, 16) if config.block == "basic" else (1 / 16, 8)  # as timm has them
    return _selective(halves, config, place, part, width, strides, groups, reduction)


def _selective(inputs, config, place, part, width, strides, groups, reduction):
    name = f"{place.name}_{part}"
    dilated, strides2, dilation = _subsampled_or_dilated(inputs[1], strides, f"{name}_path2")
    plain = _conv_norm_act(inputs[0], config, place, f"{part}_path1", width, 3, strides, groups)
    dilated = _conv_norm_act(
        dilated, config, place, f"{part}_path2", width, 3, strides2, groups, dilation
    )
    ratio, divisor = reduction
    reduced = reduced_channels(width, config.attention_ratio or ratio, divisor, keep=0.9)
    return _sk((plain, dilated), config, place, part, reduced)


def selective_kernel_assembled(x, config, place, part, width, strides, groups):
    """DropBlock(SK(the halves of [3x3 of twice the width, BN, ReLU](x)))."""
    y = conv_norm_act(x, config, 2 * width, 3, f"{place.name}_{part}", strides, groups)
    reduced = max(int(width * (config.attention_ratio or 1 / 2)), 32)
    y = _sk(ops.split(y, 2, axis=channel_axis()), config, place, part, reduced)
    return _drop_block(y, config, place, part)


def _sk(paths, config, place, part, reduced):
    return SelectiveKernel(
        reduced,
        momentum=config.norm_momentum,
        epsilon=config.norm_epsilon,
        kernel_regularizer=regularizer(config),
        name=f"{place.name}_{part}_attention",
    )(paths)


def _subsampled_or_dilated(x, strides, name):
    """The input, stride and dilation of a 3x3 dilated by 2.

    At stride 2 it reads every other pixel only: that is a plain 3x3 on the subsampled input.
    """
    if strides == 1:
        return x, 1, 2
    return layers.MaxPooling2D(1, strides, name=f"{name}_subsample")(x), 1, 1


# What stands in the middle of a block, by `block` or by a selective kernel of `attention`.
SPATIAL = {
    "basic": grouped,
    "bottleneck": grouped,
    "separable": separable,
    "multi_kernel": multi_kernel,
    "multi_dilation": multi_dilation,
    "sk": selective_kernel,
    "sk_split": selective_kernel_split,
    "sk_assembled": selective_kernel_assembled,
}


def average_pool(strides, name):
    """The mean over a square, the padding of an odd border not counted."""
    return layers.AveragePooling2D(strides, strides, padding="same", name=name)


DOWNSAMPLINGS = {"blur": BlurPool2D, "average": average_pool}


def _attend(y, config, place):
    """Stochastic depth of the branch, after the attention to its channels."""
    name = f"{place.name}_attention"
    if config.attention == "se":
        ratio = config.attention_ratio or 1 / 16
        reduced = reduced_channels(_outputs(config, place), ratio, 8)
        bias = config.attention_bias
        y = SqueezeExcite(reduced, bias, kernel_regularizer=regularizer(config), name=name)(y)
    elif config.attention == "eca":
        y = EfficientChannelAttention(kernel_regularizer=regularizer(config), name=name)(y)
    if place.drop_path:
        y = DropPath(place.drop_path, config.drop_steps, name=f"{place.name}_drop_path")(y)
    return y


def shortcut(x, active, config, place):
    """The identity where shapes agree, else option A, B, C, D or D3; None for "none".

    `active` is what a projection takes: the normalized input in a pre-activation block.
    """
    missing = _outputs(config, place) - x.shape[channel_axis()]
    if config.shortcut == "none":
        return None
    if config.shortcut == "A":
        return _identity(x, place, missing)
    if missing or place.projects or config.shortcut == "C":
        return _projection(active, config, place)
    if place.strides > 1 and config.shortcut != "B":
        return _projection(active, config, place)
    return _identity(x, place, 0)


def _identity(x, place, missing):
    if place.strides > 1:
        x = layers.MaxPooling2D(1, place.strides, name=f"{place.name}_shortcut_subsample")(x)
    if missing:
        x = _append_zero_channels(x, missing, f"{place.name}_shortcut_zeros")
    return x


def _projection(x, config, place):
    strides = place.strides
    if strides > 1 and config.shortcut in SHORTCUT_POOLS:
        x = SHORTCUT_POOLS[config.shortcut](x, strides, f"{place.name}_shortcut")
        strides = 1
    y = convolution(x, config, _outputs(config, place), 1, f"{place.name}_shortcut", strides)
    return y if config.preactivation else _norm_drop(y, config, place, "shortcut")


def _mean_of_2x2(x, strides, name):
    return average_pool(strides, f"{name}_pool")(x)


def _mean_of_3x3(x, strides, name):
    x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)  # zeros, which the mean counts
    return layers.AveragePooling2D(3, strides, name=f"{name}_pool")(x)


SHORTCUT_POOLS = {"D": _mean_of_2x2, "D3": _mean_of_3x3}


def _append_zero_channels(x, count, name):
    """Pad the channels: the layer is told that they are the last or first spatial axis."""
    if channel_axis() == -1:
        padding, data_format = ((0, 0), (0, count)), "channels_first"
    else:
        padding, data_format = ((0, count), (0, 0)), "channels_last"
    return layers.ZeroPadding2D(padding, data_format=data_format, name=name)(x)


def _outputs(config, place):
    return place.planes * EXPANSION[config.block]


def _add(short, y, place):
    return y if short is None else layers.Add(name=f"{place.name}_add")([short, y])


def _conv_norm_act(x, config, place, part, filters, kernel_size, strides=1, groups=1, dilation=1):
    """[convolution, BN, DropBlock, ReLU](x)."""
    name = f"{place.name}_{part}"
    bias = config.bias_before_norm
    x = convolution(
        x, config, filters, kernel_size, name, strides, groups, dilation=dilation, use_bias=bias
    )
    return _relu(_norm_drop(x, config, place, part), place, part)


def _joined_norm_act(paths, config, place, part):
    """[BN, DropBlock, ReLU](the concatenation of the paths)."""
    joined = layers.Concatenate(channel_axis(), name=f"{place.name}_{part}_paths")(paths)
    return _relu(_norm_drop(joined, config, place, part), place, part)


def _relu(x, place, part):
    return layers.ReLU(name=f"{place.name}_{part}_relu")(x)


def _norm_drop(x, config, place, part, closes=False):
    """[BN, DropBlock](x); `closes` says that it is the last of the branch."""
    x = norm(x, config, f"{place.name}_{part}_norm", zeros=closes and config.zero_gamma)
    return _drop_block(x, config, place, part)


def _drop_block(x, config, place, part):
    if not (config.drop_block and place.drop_block):
        return x
    return DropBlock2D(
        config.drop_block,
        config.drop_block_size,
        scale=place.drop_block,
        schedule_steps=config.drop_steps,
        name=f"{place.name}_{part}_drop_block",
    )(x)
