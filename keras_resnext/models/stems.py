"""The first layers of a network: from the image to the first block."""

from keras import layers

from keras_resnext.layers import BlurPool2D
from keras_resnext.models.config import STEM_STRIDES
from keras_resnext.models.primitives import conv_norm_act, convolution, norm


def stem(x, config):
    """[the stem's convolutions, BN, ReLU, pool](x)."""
    *first, (kernel, filters) = STEMS[config.stem](config.stem_filters)
    strides = STEM_STRIDES[config.stem]
    for i, (size, width) in enumerate(first, start=1):
        x = conv_norm_act(x, config, width, size, f"stem_conv{i}", strides)
        strides = 1
    name = f"stem_conv{len(first) + 1}" if first else "stem_conv"
    # A pre-activation network normalizes where its first block begins.
    last = convolution if config.preactivation else conv_norm_act
    return last(x, config, filters, kernel, name, strides)


# The kernel size and the filters of each convolution; the first one has the stride.
STEMS = {
    "7x7": lambda filters: [(7, filters)],
    "cifar": lambda filters: [(3, filters)],
    "deep": lambda filters: [(3, filters // 2), (3, filters // 2), (3, filters)],
    "tiered": lambda filters: [(3, filters * 3 // 8), (3, filters // 2), (3, filters)],
}


def max_pool(x):
    """The maximum over 3x3, stride 2."""
    # Zeros, not minus infinity: after a ReLU the two are the same, and without one (V2)
    # the published weights were trained with zeros.
    x = layers.ZeroPadding2D(1, name="stem_pad")(x)
    return layers.MaxPooling2D(3, 2, name="stem_pool")(x)


def blurred_max_pool(x):
    """The maximum over 3x3 at stride 1, then a blur at stride 2."""
    x = layers.MaxPooling2D(3, 1, padding="same", name="stem_pool")(x)
    return BlurPool2D(2, name="stem_blur")(x)


def mean_pool(x):
    """The mean over 2x2."""
    return layers.AveragePooling2D(2, 2, name="stem_pool")(x)


STEM_POOLS = {
    "max": max_pool,
    "blur": blurred_max_pool,
    "average": mean_pool,
    "none": lambda x: x,
}


def big_little_pool(x, config):
    """[ReLU, 1x1, BN, ReLU](big(x) + little(x)), what Big-Little has in place of the max pool.

    big: [3x3 stride 2, BN]; little: [3x3, BN, ReLU, 3x3 stride 2, BN, ReLU, 1x1, BN].
    """
    filters, alpha = config.stem_filters, config.big_little[0]
    big = convolution(x, config, filters, 3, "stem_big", 2)
    big = norm(big, config, "stem_big_norm")
    little = conv_norm_act(x, config, filters // alpha, 3, "stem_little_conv1")
    little = conv_norm_act(little, config, filters // alpha, 3, "stem_little_conv2", 2)
    little = convolution(little, config, filters, 1, "stem_little_conv3")
    little = norm(little, config, "stem_little_conv3_norm")
    x = layers.Add(name="stem_add")([big, little])
    x = layers.ReLU(name="stem_add_relu")(x)
    return conv_norm_act(x, config, filters, 1, "stem_merge")
