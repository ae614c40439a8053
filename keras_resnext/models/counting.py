"""The reading of a network that adds up its parameters and multiply-adds, without Keras.

A search asks for the cost of thousands of networks: none of them is built for that.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_resnext.models.networks import auxiliary_features, features
from keras_resnext.models.primitives import Primitives, Size

if TYPE_CHECKING:
    from keras_resnext.models.blocks import Place
    from keras_resnext.models.config import NetworkConfig

Shape = tuple[int, int, int]  # height, width and channels


@dataclass(frozen=True)
class Complexity:
    """What a model costs.

    Attributes:
        parameters: int, all numbers in the weights, what `model.count_params()` returns.
        trainable: int, those that training changes.
        macs: int, multiply-adds of convolutions and dense layers for one image.
    """

    parameters: int
    trainable: int
    macs: int


def count(config: "NetworkConfig", image_size: int, classes: int) -> Complexity:
    """Count what `complexity` would count of the network, without building it.

    Args:
        config: `ResNetConfig` or `InceptionConfig`.
        image_size: int, height and width of the image, in pixels.
        classes: int, the number of classes.

    Example:
    >>> from keras_resnext.models import variants
    >>> count(variants.get("ResNeXt50").config, 224, 1000)
    Complexity(parameters=25097128, trainable=25028904, macs=4230479872)
    """
    net = Counts(config)
    x = features(net, (image_size, image_size, 3))
    net.dense(net.mean(x, "avg_pool"), classes, "predictions")
    for name, vector in auxiliary_features(net, net.ends.__getitem__):
        net.dense(vector, classes, name)
    return Complexity(net.trainable + net.fixed, net.trainable, net.macs)


class Counts(Primitives):
    """Adds up each primitive, and returns the shape that it leaves.

    Args:
        config: `NetworkConfig` of the network that is counted.

    Attributes:
        trainable: int, the parameters so far that training changes.
        fixed: int, the other numbers in the weights.
        macs: int, the multiply-adds so far.
    """

    def __init__(self, config: "NetworkConfig"):
        super().__init__(config)
        self.trainable = self.fixed = self.macs = 0
        self._blocks: dict = {}

    def block(self, make: Callable[..., Shape], x: Shape, place: "Place") -> Shape:
        """Count a block; what others alike have cost is added without asking again."""
        _, *kind, drop_path, drop_block = place
        key = (make, x, *kind, not drop_path, not drop_block)
        if key not in self._blocks:
            before = self.trainable, self.fixed, self.macs
            y = make(self, x, place)
            after = self.trainable, self.fixed, self.macs
            self._blocks[key] = y, [b - a for a, b in zip(before, after, strict=True)]
            return y
        y, (trainable, fixed, macs) = self._blocks[key]
        self.trainable += trainable
        self.fixed += fixed
        self.macs += macs
        return y

    def convolution(
        self,
        x: Shape,
        filters: int,
        kernel_size: Size,
        name: str,
        strides: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: str = "torch",
        use_bias: bool | None = None,
    ) -> Shape:
        height, width = _window(x, kernel_size, strides, padding, dilation)
        rows, columns = _pair(kernel_size)
        weights = rows * columns * (x[2] // groups) * filters
        use_bias = self.config.use_bias if use_bias is None else use_bias
        self.trainable += weights + filters if use_bias else weights
        self.macs += weights * height * width
        return height, width, filters

    def norm(self, x: Shape, name: str, zeros: bool = False, scale: bool = True) -> Shape:
        self.trainable += 2 * x[2] if scale else x[2]
        self.fixed += 2 * x[2]
        return x

    def dense(
        self,
        x: Shape,
        units: int,
        name: str,
        activation: str | None = None,
        use_bias: bool = True,
    ) -> Shape:
        weights = x[2] * units
        self.trainable += weights + units if use_bias else weights
        self.macs += weights
        return 1, 1, units

    def layer(
        self,
        kind: str,
        x: Shape | Sequence[Shape],
        name: str,
        formula: Callable[..., Shape],
        **arguments: object,
    ) -> Shape:
        """Add what the layer's formula has."""
        return formula(self, x)

    def channels(self, x: Shape) -> int:
        return x[2]

    def relu(self, x: Shape, *_: object, **__: object) -> Shape:
        return x

    activation = scale = scaled_add = dropout = relu

    def max_pool(
        self, x: Shape, size: Size, strides: int, name: str, padding: str = "valid"
    ) -> Shape:
        return (*_window(x, size, strides, padding), x[2])

    average_pool = max_pool

    def blur_pool(self, x: Shape, strides: int, name: str) -> Shape:
        return (*_window(x, 1, strides, "same"), x[2])

    def mean(self, x: Shape, name: str) -> Shape:
        return 1, 1, x[2]

    def flatten(self, x: Shape, name: str) -> Shape:
        return 1, 1, x[0] * x[1] * x[2]

    def zero_pad(self, x: Shape, border: int | tuple[tuple[int, int], ...], name: str) -> Shape:
        if isinstance(border, int):
            border = ((border, border), (border, border))
        rows, columns = ((pair, pair) if isinstance(pair, int) else pair for pair in border)
        return x[0] + sum(rows), x[1] + sum(columns), x[2]

    def zero_channels(self, x: Shape, count: int, name: str) -> Shape:
        return x[0], x[1], x[2] + count

    def add(self, maps: Sequence[Shape], name: str) -> Shape:
        return maps[0]

    def upsample_add(self, small: Shape, large: Shape, name: str) -> Shape:
        return large

    def concatenate(self, maps: Sequence[Shape], name: str) -> Shape:
        return maps[0][0], maps[0][1], sum(x[2] for x in maps)

    def split(self, x: Shape, parts: int) -> Sequence[Shape]:
        return [(x[0], x[1], x[2] // parts)] * parts

    def drop_path(self, x: Shape, *_: object, **__: object) -> Shape:
        """Add the number of steps that the layer has taken."""
        self.fixed += 1
        return x

    drop_block = drop_path


def _window(x: Shape, size: Size, strides: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """Return the height and width that a window leaves."""
    if padding != "valid":
        return -(-x[0] // strides), -(-x[1] // strides)
    rows, columns = _pair(size)
    return (
        (x[0] - dilation * (rows - 1) - 1) // strides + 1,
        (x[1] - dilation * (columns - 1) - 1) // strides + 1,
    )


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
