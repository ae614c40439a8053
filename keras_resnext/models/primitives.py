"""What every block is made of: a convolution, its normalization and its activation."""

import keras
from keras import layers

from keras_resnext.layers import BatchNormalization, GroupedConv2D

# Objects, because Keras takes its time over a name, and a deep network has thousands.
_ZEROS, _ONES = keras.initializers.Zeros(), keras.initializers.Ones()


def conv_norm_act(x, config, filters, kernel_size, name, strides=1, groups=1):
    """convolution, BN, ReLU."""
    bias = config.bias_before_norm
    x = convolution(x, config, filters, kernel_size, name, strides, groups, use_bias=bias)
    return norm_act(x, config, name)


def norm_act(x, config, name):
    """BN, ReLU."""
    return layers.ReLU(name=f"{name}_relu")(norm(x, config, f"{name}_norm"))


def convolution(
    x,
    config,
    filters,
    kernel_size,
    name,
    strides=1,
    groups=1,
    padding="torch",
    dilation=1,
    use_bias=None,
):
    """A convolution, by default padded by half its kernel on both sides.

    It begins as in He et al., 2015 (https://arxiv.org/abs/1502.01852), equation 10.
    """
    return GroupedConv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        dilation_rate=dilation,
        groups=groups,
        use_bias=config.use_bias if use_bias is None else use_bias,
        kernel_initializer=keras.initializers.VarianceScaling(2.0, "fan_in", "untruncated_normal"),
        bias_initializer=_ZEROS,
        kernel_regularizer=regularizer(config),
        name=name,
    )(x)


def norm(x, config, name, zeros=False, scale=True):
    """BN; `zeros` starts its scale at zero, `scale` says whether it has one."""
    return BatchNormalization(
        axis=channel_axis(),
        momentum=config.norm_momentum,
        epsilon=config.norm_epsilon,
        scale=scale,
        gamma_initializer=_ZEROS if zeros else _ONES,
        beta_initializer=_ZEROS,
        moving_mean_initializer=_ZEROS,
        moving_variance_initializer=_ONES,
        name=name,
    )(x)


def regularizer(config):
    """The penalty of every kernel, or None."""
    return keras.regularizers.L2(config.l2) if config.l2 else None


def channel_axis():
    """The axis of the channels in Keras's data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1
