"""The first layers, from the image to the first block: rows of `STEMS` and `STEM_POOLS`.

Nothing here imports Keras.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from keras_resnext.models.primitives import Map, Primitives


@dataclass(frozen=True, kw_only=True)
class Stem:
    """The convolutions that follow the image.

    Args:
        convolutions: function from `stem_filters` to a list of pairs, the kernel size and the
            filters of each convolution.
        strides: int, the stride of the first one.
        timm: dict from our name of a layer to timm's, None if timm has no such network.
        native_size: int, height and width of the images it is made for, in pixels.
        pool: str, what follows it by default, a name in `STEM_POOLS`.
    """

    convolutions: Callable[[int], list[tuple[int, int]]]
    strides: int
    timm: Mapping[str, str] | None
    native_size: int = 224
    pool: str = "max"


@dataclass(frozen=True, kw_only=True)
class StemPool:
    """What follows the stem's convolutions.

    Args:
        make: function `(net, x)` from a feature map to the pooled one.
        strides: int, by how much it divides the height and width.
    """

    make: Callable[[Primitives, Map], Map]
    strides: int


def stem(net: Primitives, x: Map) -> Map:
    """[the stem's convolutions, each with BN and ReLU](x)."""
    row, config = STEMS[net.config.stem], net.config
    *first, (kernel_size, filters) = row.convolutions(config.stem_filters)
    strides = row.strides
    for number, (size, width) in enumerate(first, start=1):
        x = net.conv_norm_relu(x, width, size, f"stem_conv{number}", strides)
        strides = 1
    name = f"stem_conv{len(first) + 1}" if first else "stem_conv"
    if config.preactivation:  # its first block begins with the norm
        return net.convolution(x, filters, kernel_size, name, strides)
    return net.conv_norm_relu(x, filters, kernel_size, name, strides)


_ONE = {"stem_conv": "conv1", "stem_conv_norm": "bn1"}
_THREE = {
    "stem_conv1": "conv1.0",
    "stem_conv1_norm": "conv1.1",
    "stem_conv2": "conv1.3",
    "stem_conv2_norm": "conv1.4",
    "stem_conv3": "conv1.6",
    "stem_conv3_norm": "bn1",
}

STEMS = {
    "7x7": Stem(convolutions=lambda filters: [(7, filters)], strides=2, timm=_ONE),
    "deep": Stem(
        convolutions=lambda filters: [(3, filters // 2), (3, filters // 2), (3, filters)],
        strides=2,
        timm=_THREE,
    ),
    "tiered": Stem(
        convolutions=lambda filters: [(3, filters * 3 // 8), (3, filters // 2), (3, filters)],
        strides=2,
        timm=_THREE,
    ),
    "cifar": Stem(
        convolutions=lambda filters: [(3, filters)],
        strides=1,
        timm=_ONE,
        native_size=32,
        pool="none",
    ),
}


def max_pool(net: Primitives, x: Map) -> Map:
    """The maximum over 3x3, stride 2."""
    # Zeros, not minus infinity: after a ReLU the two are the same, and without one (V2)
    # the published weights were trained with zeros.
    return net.max_pool(net.zero_pad(x, 1, "stem_pad"), 3, 2, "stem_pool")


def blurred_max_pool(net: Primitives, x: Map) -> Map:
    """The maximum over 3x3 at stride 1, then a blur at stride 2."""
    return net.blur_pool(net.max_pool(x, 3, 1, "stem_pool", padding="same"), 2, "stem_blur")


def mean_pool(net: Primitives, x: Map) -> Map:
    """The mean over 2x2."""
    return net.average_pool(x, 2, 2, "stem_pool")


STEM_POOLS = {
    "max": StemPool(make=max_pool, strides=2),
    "blur": StemPool(make=blurred_max_pool, strides=2),
    "average": StemPool(make=mean_pool, strides=2),
    "none": StemPool(make=lambda net, x: x, strides=1),
}
