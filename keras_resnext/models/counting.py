"""The reading of a network that adds up its parameters and multiply-adds, without Keras.

A search asks for the cost of thousands of networks; none of them is built for it.
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
    """The cost of a model.

    Attributes:
        parameters: int, number of weights, as `model.count_params()` returns it.
        trainable: int, number of those that training changes.
        macs: int, multiply-adds of convolutions and dense layers for one image.
    """

    parameters: int
    trainable: int
    macs: int


def count(config: "NetworkConfig", image_size: int, classes: int) -> Complexity:
    """Return what `complexity` would return for the network, without building it."""
    net = Counts(config)
    x = features(net, (image_size, image_size, 3))
    net.dense(net.mean(x, "avg_pool"), classes, "predictions")
    for name, vector in auxiliary_features(net, net.ends.__getitem__):
        net.dense(vector, classes, name)
    return Complexity(net.trainable + net.fixed, net.trainable, net.macs)


class Counts(Primitives):
    """Adds up the cost of each primitive, and returns the shape of its output."""

    def __init__(self, config: "NetworkConfig"):
        super().__init__(config)
        self.trainable = self.fixed = self.macs = 0
        self._blocks: dict = {}

    def block(self, make: Callable[..., Shape], x: Shape, place: "Place") -> Shape:
        """Count a block, or add the cost of an equal one that was counted before."""
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
        """Count the layer's formula."""
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
        """Add the layer's counter of steps."""
        self.fixed += 1
        return x

    drop_block = drop_path


def _window(x: Shape, size: Size, strides: int, padding: str, dilation: int = 1) -> tuple[int, int]:
    """Return the height and width of a window's output."""
    if padding != "valid":
        return -(-x[0] // strides), -(-x[1] // strides)
    rows, columns = _pair(size)
    return (
        (x[0] - dilation * (rows - 1) - 1) // strides + 1,
        (x[1] - dilation * (columns - 1) - 1) // strides + 1,
    )


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
