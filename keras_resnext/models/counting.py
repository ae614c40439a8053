"""Parameters and multiply-adds of a residual network, from its configuration alone.

A search asks for the cost of thousands of networks: none of them is built for that, and but for
the rounding of attention's widths nothing here imports Keras.
"""

import dataclasses
import functools
import math

from keras_resnext.models.config import EXPANSION, SELECTIVE_KERNELS, STEM_STRIDES


@dataclasses.dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        parameters: all numbers in the weights, what `model.count_params()` says.
        trainable: those that training changes.
        macs: multiply-adds of convolutions and dense layers for one image.
    """

    parameters: int
    trainable: int
    macs: int


@functools.lru_cache(maxsize=65536)
def count(config, image_size, classes):
    """Count what `complexity` would count of the network, without building it.

    Args:
        config: `ResNetConfig`.
        image_size: int, height and width of the image, in pixels.
        classes: int, the number of classes.

    Returns:
        `Complexity`.

    Example:

    >>> from keras_resnext.models import variants
    >>> count(variants.get("ResNeXt50").config, 224, 1000)
    Complexity(parameters=25097128, trainable=25028904, macs=4230479872)
    """
    counted = _Count(config)
    map_ = _stem(counted, _Map(image_size, 3))
    stages = _stages(config)
    if config.big_little is None:
        map_ = _pool(config, map_)
    else:
        map_ = _big_little_pool(counted, map_)
        for number, places in enumerate(stages[:-1], start=1):
            merge_strides = 1 if number == len(stages) - 1 else 2
            map_ = _big_little_stage(counted, map_, places, merge_strides)
        stages = stages[-1:]
    for place in (place for stage in stages for place in stage):
        map_ = _block(counted, map_, place)
    if config.preactivation:
        counted.norm(map_.channels)
    counted.dense(map_.channels, classes, bias=True)
    return Complexity(counted.trainable + counted.statistics, counted.trainable, counted.macs)


@dataclasses.dataclass(frozen=True)
class _Map:
    """A feature map: its height and width, and its channels."""

    size: int
    channels: int

    def halved(self, strides):
        """Where a padded convolution or pooling of that stride leaves it."""
        return dataclasses.replace(self, size=-(-self.size // strides))


@dataclasses.dataclass(frozen=True)
class _Place:
    planes: int
    strides: int = 1
    projects: bool = False


class _Count:
    """Adds up layers."""

    def __init__(self, config):
        self.config = config
        self.trainable = self.statistics = self.macs = 0

    def convolution(self, map_, filters, kernel_size, strides=1, groups=1, bias=None):
        """A convolution; its bias is the configuration's unless it is given."""
        out = dataclasses.replace(map_.halved(strides), channels=filters)
        weights = kernel_size**2 * (map_.channels // groups) * filters
        bias = self.config.use_bias if bias is None else bias
        self.trainable += weights + bias * filters
        self.macs += weights * out.size**2
        return out

    def convolution_norm(self, map_, filters, kernel_size, strides=1, groups=1):
        """A convolution and the batch norm that follows."""
        bias = self.config.bias_before_norm
        out = self.convolution(map_, filters, kernel_size, strides, groups, bias)
        self.norm(filters)
        return out

    def norm(self, channels):
        """A batch norm: scale and shift, mean and variance."""
        self.trainable += 2 * channels
        self.statistics += 2 * channels

    def dense(self, inputs, units, bias):
        """A dense layer on a vector."""
        self.trainable += inputs * units + bias * units
        self.macs += inputs * units


def _stem(counted, map_):
    config = counted.config
    filters = config.stem_filters
    *first, (kernel, last) = {
        "7x7": [(7, filters)],
        "cifar": [(3, filters)],
        "deep": [(3, filters // 2), (3, filters // 2), (3, filters)],
        "tiered": [(3, filters * 3 // 8), (3, filters // 2), (3, filters)],
    }[config.stem]
    strides = STEM_STRIDES[config.stem]
    for size, width in first:
        map_ = counted.convolution_norm(map_, width, size, strides)
        strides = 1
    # A pre-activation network normalizes where its first block begins.
    end = counted.convolution if config.preactivation else counted.convolution_norm
    return end(map_, last, kernel, strides)


def _pool(config, map_):
    if config.pool == "none":
        return map_
    if config.pool == "average":  # the only one without padding
        return dataclasses.replace(map_, size=map_.size // 2)
    return map_.halved(2)


def _stages(config):
    """The places of the blocks, a list for each stage."""
    return [
        [
            _Place(planes, strides if b == (0 if config.stride_block == "first" else n - 1) else 1)
            for b in range(n)
        ]
        for n, planes, strides in zip(config.blocks, config.filters, config.strides, strict=True)
    ]


def _block(counted, map_, place):
    config = counted.config
    if config.preactivation:
        counted.norm(map_.channels)
    outputs = place.planes * EXPANSION[config.block]
    if config.block == "basic":
        y = _spatial(counted, map_, place.planes, place.strides, 1)
        y = counted.convolution(y, place.planes, 3)
    else:
        on_1x1, on_3x3 = place.strides, 1
        if config.stride_on == "3x3":
            on_1x1, on_3x3 = on_3x3, on_1x1
        width = config.width(place.planes)
        y = counted.convolution_norm(map_, width, 1, on_1x1)
        y = _spatial(counted, y, width, on_3x3, config.cardinality)
        y = counted.convolution(y, outputs, 1)
    if not config.preactivation:
        counted.norm(outputs)
    _attend(counted, outputs)
    _shortcut(counted, map_, place, outputs)
    return y


def _spatial(counted, map_, width, strides, groups):
    """What stands in the middle of a block, and the pooling where that halves the image."""
    config = counted.config
    kind = config.attention if config.attention in SELECTIVE_KERNELS else config.block
    if strides == 1 or config.downsample == "stride":
        return SPATIAL[kind](counted, map_, width, strides, groups)
    return SPATIAL[kind](counted, map_, width, 1, groups).halved(strides)


def _grouped(counted, map_, width, strides, groups):
    return counted.convolution_norm(map_, width, 3, strides, groups)


def _separable(counted, map_, width, strides, groups):
    y = counted.convolution_norm(map_, width, 3, strides, width)
    return counted.convolution_norm(y, width, 1)


def _in_halves(second_kernel):
    def spatial(counted, map_, width, strides, groups):
        half = dataclasses.replace(map_, channels=map_.channels // 2)
        bias = counted.config.bias_before_norm
        for kernel in (3, second_kernel):
            y = counted.convolution(half, width // 2, kernel, strides, groups // 2, bias)
        counted.norm(width)
        return dataclasses.replace(y, channels=width)

    return spatial


def _selective(share, ratio, divisor, basic_ratio=None, basic_divisor=None):
    def spatial(counted, map_, width, strides, groups):
        path = dataclasses.replace(map_, channels=map_.channels // share)
        for _ in range(2):
            y = counted.convolution_norm(path, width, 3, strides, groups)
        basic = counted.config.block == "basic" and basic_ratio
        wanted = (basic_ratio, basic_divisor) if basic else (ratio, divisor)
        _select(counted, width, _reduced(counted, width, *wanted, keep=0.9))
        return y

    return spatial


def _selective_assembled(counted, map_, width, strides, groups):
    y = counted.convolution_norm(map_, 2 * width, 3, strides, groups)
    _select(counted, width, max(int(width * (counted.config.attention_ratio or 1 / 2)), 32))
    return dataclasses.replace(y, channels=width)


def _select(counted, width, reduced):
    counted.dense(width, reduced, bias=False)
    counted.norm(reduced)
    counted.dense(reduced, 2 * width, bias=False)


SPATIAL = {
    "basic": _grouped,
    "bottleneck": _grouped,
    "separable": _separable,
    "multi_kernel": _in_halves(5),
    "multi_dilation": _in_halves(3),
    "sk": _selective(1, 1 / 16, 32),
    "sk_split": _selective(2, 1 / 16, 8, 1 / 8, 16),
    "sk_assembled": _selective_assembled,
}


def _attend(counted, channels):
    config = counted.config
    if config.attention == "se":
        reduced = _reduced(counted, channels, 1 / 16, 8)
        counted.dense(channels, reduced, config.attention_bias)
        counted.dense(reduced, channels, config.attention_bias)
    elif config.attention == "eca":
        kernel = max(int((math.log2(channels) + 1) / 2) | 1, 3)
        counted.trainable += kernel
        counted.macs += kernel * channels


def _reduced(counted, channels, ratio, divisor, keep=0.0):
    from keras_resnext.layers.attention import reduced_channels

    return reduced_channels(channels, counted.config.attention_ratio or ratio, divisor, keep)


def _shortcut(counted, map_, place, outputs):
    config = counted.config
    if config.shortcut in ("A", "none"):
        return
    misshapen = outputs != map_.channels or place.projects or config.shortcut == "C"
    if not misshapen and (place.strides == 1 or config.shortcut == "B"):
        return
    counted.convolution(map_, outputs, 1, place.strides)
    if not config.preactivation:
        counted.norm(outputs)


def _big_little_pool(counted, map_):
    filters = counted.config.stem_filters
    thin = filters // counted.config.big_little[0]
    big = counted.convolution(map_, filters, 3, 2)
    counted.norm(filters)
    little = counted.convolution_norm(map_, thin, 3)
    little = counted.convolution_norm(little, thin, 3, 2)
    counted.convolution(little, filters, 1)
    counted.norm(filters)
    return counted.convolution_norm(big, filters, 1)


def _big_little_stage(counted, map_, places, merge_strides):
    config = counted.config
    alpha, beta = config.big_little
    big, little = map_, map_
    for number, place in enumerate(places[:-1]):
        first = number == 0
        big = _block(counted, big, _Place(place.planes, 2 if first else 1, first))
    for number, place in enumerate(places[: max(1, len(places) // beta - 1)]):
        little = _block(counted, little, _Place(place.planes // alpha, 1, number == 0))
    little = counted.convolution(little, big.channels, 1)
    counted.norm(big.channels)
    return _block(counted, little, _Place(places[-1].planes, merge_strides, True))
