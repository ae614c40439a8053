"""Residual blocks. Each docstring is the block's formula; x is the block's input."""

from keras import layers

from keras_resnext.models.config import EXPANSION
from keras_resnext.models.primitives import channel_axis, conv_norm_act, convolution, norm, norm_act


def basic(x, config, planes, strides, name):
    """ReLU(shortcut(x) + [3x3, BN, ReLU, 3x3, BN](x))."""
    y = conv_norm_act(x, config, planes, 3, f"{name}_conv1", strides)
    y = convolution(y, config, planes, 3, f"{name}_conv2")
    y = norm(y, config, f"{name}_conv2_norm", last=True)
    return _sum_act(shortcut(x, config, planes, strides, name), y, name)


def bottleneck(x, config, planes, strides, name):
    """ReLU(shortcut(x) + [1x1, BN, ReLU, 3x3 grouped, BN, ReLU, 1x1, BN](x))."""
    width, on_1x1, on_3x3 = _bottleneck_plan(config, planes, strides)
    y = conv_norm_act(x, config, width, 1, f"{name}_conv1", on_1x1)
    y = conv_norm_act(y, config, width, 3, f"{name}_conv2", on_3x3, config.cardinality)
    y = convolution(y, config, planes * 4, 1, f"{name}_conv3")
    y = norm(y, config, f"{name}_conv3_norm", last=True)
    return _sum_act(shortcut(x, config, planes, strides, name), y, name)


def preactivation_basic(x, config, planes, strides, name):
    """shortcut(x') + [3x3, BN, ReLU, 3x3](x'), x' = ReLU(BN(x))."""
    active = norm_act(x, config, f"{name}_preact")
    y = conv_norm_act(active, config, planes, 3, f"{name}_conv1", strides)
    y = convolution(y, config, planes, 3, f"{name}_conv2")
    return _sum(shortcut(x, config, planes, strides, name, active), y, name)


def preactivation_bottleneck(x, config, planes, strides, name):
    """shortcut(x') + [1x1, BN, ReLU, 3x3 grouped, BN, ReLU, 1x1](x'), x' = ReLU(BN(x))."""
    width, on_1x1, on_3x3 = _bottleneck_plan(config, planes, strides)
    active = norm_act(x, config, f"{name}_preact")
    y = conv_norm_act(active, config, width, 1, f"{name}_conv1", on_1x1)
    y = conv_norm_act(y, config, width, 3, f"{name}_conv2", on_3x3, config.cardinality)
    y = convolution(y, config, planes * 4, 1, f"{name}_conv3")
    return _sum(shortcut(x, config, planes, strides, name, active), y, name)


# (block, preactivation) to the function that builds it
BLOCKS = {
    ("basic", False): basic,
    ("bottleneck", False): bottleneck,
    ("basic", True): preactivation_basic,
    ("bottleneck", True): preactivation_bottleneck,
}


def shortcut(x, config, planes, strides, name, active=None):
    """The identity where shapes agree, else option A, B or C; None for "none".

    `active` is the normalized input, which a pre-activation block projects in place of `x`.
    """
    if config.shortcut == "none":
        return None
    missing = planes * EXPANSION[config.block] - x.shape[channel_axis()]
    if config.shortcut == "C" or (config.shortcut == "B" and missing):
        return _projection(x if active is None else active, config, planes, strides, name)
    if strides > 1:
        x = layers.MaxPooling2D(1, strides, name=f"{name}_shortcut_subsample")(x)
    if missing:
        x = _append_zero_channels(x, missing, f"{name}_shortcut_zeros")
    return x


def _projection(x, config, planes, strides, name):
    y = convolution(x, config, planes * EXPANSION[config.block], 1, f"{name}_shortcut", strides)
    return y if config.preactivation else norm(y, config, f"{name}_shortcut_norm")


def _append_zero_channels(x, count, name):
    """Pad the channels: the layer is told that they are the last or first spatial axis."""
    if channel_axis() == -1:
        padding, data_format = ((0, 0), (0, count)), "channels_first"
    else:
        padding, data_format = ((0, count), (0, 0)), "channels_last"
    return layers.ZeroPadding2D(padding, data_format=data_format, name=name)(x)


def _bottleneck_plan(config, planes, strides):
    """The inner width, and the strides of the first 1x1 and of the 3x3."""
    width = config.group_widths[config.filters.index(planes)]
    return (width, strides, 1) if config.stride_on == "1x1" else (width, 1, strides)


def _sum(short, y, name):
    return y if short is None else layers.Add(name=f"{name}_add")([short, y])


def _sum_act(short, y, name):
    return layers.ReLU(name=f"{name}_out")(_sum(short, y, name))
