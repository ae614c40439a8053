"""The reading of a network that makes Keras layers."""

from collections.abc import Callable, Sequence

import keras
from keras import layers, ops

import keras_resnext.layers as own
from keras_resnext.models.primitives import Primitives, Size

Tensor = keras.KerasTensor
# Instances: Keras is slow to look up a name, and a deep network has thousands.
_ZEROS, _ONES = keras.initializers.Zeros(), keras.initializers.Ones()


class KerasLayers(Primitives):
    """Makes a Keras layer of each primitive, and calls it."""

    def convolution(
        self,
        x: Tensor,
        filters: int,
        kernel_size: Size,
        name: str,
        strides: int = 1,
        groups: int = 1,
        dilation: int = 1,
        padding: str = "torch",
        use_bias: bool | None = None,
    ) -> Tensor:
        """Convolve with kernels initialized as in He et al., 2015, equation 10."""
        return own.GroupedConv2D(
            filters,
            kernel_size,
            strides=strides,
            padding=padding,
            dilation_rate=dilation,
            groups=groups,
            use_bias=self.config.use_bias if use_bias is None else use_bias,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_in", "untruncated_normal"
            ),
            bias_initializer=_ZEROS,
            kernel_regularizer=self._regularizer(),
            name=name,
        )(x)

    def norm(self, x: Tensor, name: str, zeros: bool = False, scale: bool = True) -> Tensor:
        return own.BatchNormalization(
            axis=channel_axis(),
            momentum=self.config.norm_momentum,
            epsilon=self.config.norm_epsilon,
            scale=scale,
            gamma_initializer=_ZEROS if zeros else _ONES,
            beta_initializer=_ZEROS,
            moving_mean_initializer=_ZEROS,
            moving_variance_initializer=_ONES,
            name=name,
        )(x)

    def dense(
        self,
        x: Tensor,
        units: int,
        name: str,
        activation: str | None = None,
        use_bias: bool = True,
    ) -> Tensor:
        return layers.Dense(
            units, activation, use_bias, kernel_regularizer=self._regularizer(), name=name
        )(x)

    def layer(
        self,
        kind: str,
        x: Tensor | Sequence[Tensor],
        name: str,
        formula: Callable[..., object],
        **arguments: object,
    ) -> Tensor:
        """Call a layer of `keras_resnext.layers`; its formula only serves counting."""
        make = getattr(own, kind)
        return make(**arguments, kernel_regularizer=self._regularizer(), name=name)(x)

    def channels(self, x: Tensor) -> int:
        return x.shape[channel_axis()]

    def relu(self, x: Tensor, name: str) -> Tensor:
        return layers.ReLU(name=name)(x)

    def activation(self, x: Tensor, function: str, name: str) -> Tensor:
        return layers.Activation(function, name=name)(x)

    def max_pool(
        self, x: Tensor, size: Size, strides: int, name: str, padding: str = "valid"
    ) -> Tensor:
        return layers.MaxPooling2D(size, strides, padding, name=name)(x)

    def average_pool(
        self, x: Tensor, size: Size, strides: int, name: str, padding: str = "valid"
    ) -> Tensor:
        return layers.AveragePooling2D(size, strides, padding, name=name)(x)

    def blur_pool(self, x: Tensor, strides: int, name: str) -> Tensor:
        return own.BlurPool2D(strides, name=name)(x)

    def mean(self, x: Tensor, name: str) -> Tensor:
        return layers.GlobalAveragePooling2D(name=name)(x)

    def flatten(self, x: Tensor, name: str) -> Tensor:
        return layers.Flatten(name=name)(x)

    def scale(self, x: Tensor, gates: Tensor, name: str) -> Tensor:
        shape = [1, 1, 1]
        shape[channel_axis() % 4 - 1] = -1
        gates = layers.Reshape(shape, name=f"{name}_gates")(gates)
        return layers.Multiply(name=name)([x, gates])

    def zero_pad(self, x: Tensor, border: int | tuple[tuple[int, int], ...], name: str) -> Tensor:
        return layers.ZeroPadding2D(border, name=name)(x)

    def zero_channels(self, x: Tensor, count: int, name: str) -> Tensor:
        """Append zeros by a layer that takes the channels for a spatial axis."""
        if channel_axis() == -1:
            padding, data_format = ((0, 0), (0, count)), "channels_first"
        else:
            padding, data_format = ((0, count), (0, 0)), "channels_last"
        return layers.ZeroPadding2D(padding, data_format=data_format, name=name)(x)

    def add(self, maps: Sequence[Tensor], name: str) -> Tensor:
        return layers.Add(name=name)(maps)

    def scaled_add(self, x: Tensor, y: Tensor, factor: float, name: str) -> Tensor:
        return own.ScaledAdd(factor, name=name)([x, y])

    def upsample_add(self, small: Tensor, large: Tensor, name: str) -> Tensor:
        return own.UpsampleAdd(name=name)([small, large])

    def concatenate(self, maps: Sequence[Tensor], name: str) -> Tensor:
        return layers.Concatenate(channel_axis(), name=name)(maps)

    def split(self, x: Tensor, parts: int) -> Sequence[Tensor]:
        return ops.split(x, parts, axis=channel_axis())

    def dropout(self, x: Tensor, rate: float, name: str) -> Tensor:
        return layers.Dropout(rate, name=name)(x)

    def drop_path(self, x: Tensor, rate: float, name: str) -> Tensor:
        return own.DropPath(rate, self.config.drop_steps, name=name)(x)

    def drop_block(self, x: Tensor, scale: float, name: str) -> Tensor:
        return own.DropBlock2D(
            self.config.drop_block,
            self.config.drop_block_size,
            scale=scale,
            schedule_steps=self.config.drop_steps,
            name=name,
        )(x)

    def _regularizer(self) -> keras.regularizers.Regularizer | None:
        return keras.regularizers.L2(self.config.l2) if self.config.l2 else None


def channel_axis() -> int:
    """Return the axis of the channels in Keras's data format."""
    return -1 if keras.config.image_data_format() == "channels_last" else 1
