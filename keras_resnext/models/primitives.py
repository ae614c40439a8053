"""The primitives that every network is written in: convolution, norm, pooling and so on.

A part of a network is a function of a *reading* of the primitives and a feature map. It serves
`keras_layers.KerasLayers`, which makes layers, and `counting.Counts`, which counts without Keras.
"""

import abc
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keras_resnext.models.blocks import Place
    from keras_resnext.models.config import NetworkConfig

# A feature map: a Keras tensor, or the tuple (height, width, channels) where it is counted.
Map = Any
Size = int | tuple[int, int]


class Primitives(abc.ABC):
    """What a network can be made of.

    `name` is always the name of the Keras layer, `strides` an integer. `ends` maps the name of a
    module to its output, for parts that are attached later.
    """

    def __init__(self, config: "NetworkConfig"):
        self.config = config
        self.ends: dict[str, Map] = {}

    # Several primitives in a row.

    def conv_norm_relu(
        self,
        x: Map,
        filters: int,
        kernel_size: Size,
        name: str,
        strides: int = 1,
        groups: int = 1,
        dilation: int = 1,
        drop_block: float = 0.0,
    ) -> Map:
        """[convolution, BN, DropBlock, ReLU](x)."""
        bias = self.config.bias_before_norm
        x = self.convolution(
            x, filters, kernel_size, name, strides, groups, dilation, use_bias=bias
        )
        return self.norm_relu(x, name, drop_block)

    def norm_relu(self, x: Map, name: str, drop_block: float = 0.0) -> Map:
        """[BN, DropBlock, ReLU](x)."""
        return self.relu(self.norm_drop(x, name, drop_block), f"{name}_relu")

    def norm_drop(self, x: Map, name: str, drop_block: float = 0.0, zeros: bool = False) -> Map:
        """[BN, DropBlock](x)."""
        x = self.norm(x, f"{name}_norm", zeros)
        return self.drop_block(x, drop_block, f"{name}_drop_block") if drop_block else x

    def block(self, make: Callable[..., Map], x: Map, place: "Place") -> Map:
        """Return `make(self, x, place)`, a block of which there may be several equal ones."""
        return make(self, x, place)

    # Layers with weights.

    @abc.abstractmethod
    def convolution(
        self,
        x: Map,
        filters: int,
        kernel_size: Size,
        name: str,
        strides: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: str = "torch",
        use_bias: bool | None = None,
    ) -> Map:
        """Convolve, by default padded by half the kernel on both sides.

        `use_bias` defaults to the configuration's.
        """

    @abc.abstractmethod
    def norm(self, x: Map, name: str, zeros: bool = False, scale: bool = True) -> Map:
        """Normalize a batch; `zeros` starts the scale at zero, `scale=False` leaves it out."""

    @abc.abstractmethod
    def dense(
        self, x: Map, units: int, name: str, activation: str | None = None, use_bias: bool = True
    ) -> Map:
        """Multiply a vector (of `mean` or `flatten`) by a matrix."""

    @abc.abstractmethod
    def layer(
        self, kind: str, x: Map, name: str, formula: Callable[..., Map], **arguments: object
    ) -> Map:
        """Call the class `kind` of `keras_resnext.layers`, a layer that contains others.

        `formula` is a function of a reading and `x` that writes the layer in primitives.
        """

    # Layers without weights.

    @abc.abstractmethod
    def channels(self, x: Map) -> int:
        """Return the number of channels."""

    @abc.abstractmethod
    def relu(self, x: Map, name: str) -> Map:
        """Return the positive part."""

    @abc.abstractmethod
    def activation(self, x: Map, function: str, name: str) -> Map:
        """Apply one of Keras's activations, by its name."""

    @abc.abstractmethod
    def max_pool(self, x: Map, size: Size, strides: int, name: str, padding: str = "valid") -> Map:
        """Take the maximum over windows."""

    @abc.abstractmethod
    def average_pool(
        self, x: Map, size: Size, strides: int, name: str, padding: str = "valid"
    ) -> Map:
        """Take the mean over windows; with `padding="same"` zeros around the image do not count."""

    @abc.abstractmethod
    def blur_pool(self, x: Map, strides: int, name: str) -> Map:
        """Blur, then subsample."""

    @abc.abstractmethod
    def mean(self, x: Map, name: str) -> Map:
        """Return the vector of the channels' means."""

    @abc.abstractmethod
    def flatten(self, x: Map, name: str) -> Map:
        """Return the vector of all pixels."""

    @abc.abstractmethod
    def scale(self, x: Map, gates: Map, name: str) -> Map:
        """Multiply each channel by its gate, an entry of a vector."""

    @abc.abstractmethod
    def zero_pad(self, x: Map, border: int | tuple[tuple[int, int], ...], name: str) -> Map:
        """Put zeros around the image, as `keras.layers.ZeroPadding2D` does."""

    @abc.abstractmethod
    def zero_channels(self, x: Map, count: int, name: str) -> Map:
        """Append channels of zeros."""

    @abc.abstractmethod
    def add(self, maps: Sequence[Map], name: str) -> Map:
        """Return the sum of feature maps of one shape."""

    @abc.abstractmethod
    def scaled_add(self, x: Map, y: Map, factor: float, name: str) -> Map:
        """Return `x + factor * y`."""

    @abc.abstractmethod
    def upsample_add(self, small: Map, large: Map, name: str) -> Map:
        """Return the sum of two feature maps, the first of half the height and width."""

    @abc.abstractmethod
    def concatenate(self, maps: Sequence[Map], name: str) -> Map:
        """Concatenate the channels of feature maps."""

    @abc.abstractmethod
    def split(self, x: Map, parts: int) -> Sequence[Map]:
        """Split the channels into equal parts."""

    @abc.abstractmethod
    def dropout(self, x: Map, rate: float, name: str) -> Map:
        """Drop entries of a vector."""

    @abc.abstractmethod
    def drop_path(self, x: Map, rate: float, name: str) -> Map:
        """Drop a branch for whole images (stochastic depth)."""

    @abc.abstractmethod
    def drop_block(self, x: Map, scale: float, name: str) -> Map:
        """Drop squares, by the configuration's DropBlock; `scale` multiplies the seeds' chance."""
