"""What every block is made of: a convolution, its normalization and its activation."""

import keras
from keras import layers

from keras_resnext.layers import BatchNormalization, GroupedConv2D


def conv_norm_act(x, config, filters, kernel_size, name, strides=1, groups=1, padding="torch"):
    """convolution, BN, ReLU."""
    x = convolution(x, config, filters, kernel_size, name, strides, groups, padding)
    return norm_act(x, config, name)


def norm_act(x, config, name):
    """BN, ReLU."""
    return layers.ReLU(name=f"{name}_relu")(norm(x, config, f"{name}_norm"))


def convolution(x, config, filters, kernel_size, name, strides=1, groups=1, padding="torch"):
    """A convolution, by default padded by half its kernel on both sides."""
    return GroupedConv2D(
        filters,
        kernel_size,
        strides=strides,
        padding=padding,
        groups=groups,
        use_bias=config.use_bias,
        kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
        name=name,
    )(x)


def norm(x, config, name, last=False, scale=True):
    """BN; `last` says that it closes a residual branch, `scale` whether it has a gamma."""
    return BatchNormalization(
        axis=channel_axis(),
        momentum=config.norm_momentum,
        epsilon=config.norm_epsilon,
        scale=scale,
        gamma_initializer="zeros" if last and config.zero_gamma else "ones",
        name=name,
    )(x)


def channel_axis():
    """The axis of the channels in Keras's data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1
