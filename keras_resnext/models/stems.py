"""The first layers of a network: from the image to the first block."""

from keras import layers

from keras_resnext.models.primitives import conv_norm_act, convolution


def imagenet_stem(x, config):
    """7x7 stride 2, BN, ReLU; 3x3 max pool stride 2."""
    first = convolution if config.preactivation else conv_norm_act
    x = first(x, config, config.stem_filters, 7, "stem_conv", strides=2)
    # Zeros, not minus infinity: after a ReLU the two are the same, and without one (V2)
    # the published weights were trained with zeros.
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    return layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def cifar_stem(x, config):
    """3x3, BN, ReLU."""
    first = convolution if config.preactivation else conv_norm_act
    return first(x, config, config.stem_filters, 3, "stem_conv")


STEMS = {"imagenet": imagenet_stem, "cifar": cifar_stem}
