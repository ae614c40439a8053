"""Attention over channels: squeeze-excite, efficient channel attention, selective kernel."""

import functools

import keras
from keras import KerasTensor, ops

from keras_resnext.channels import neighbors, reduced_channels
from keras_resnext.checks import Rule, check, integer, optional
from keras_resnext.layers.batch_norm import BatchNormalization
from keras_resnext.layers.image_layer import ImageLayer

Regularizer = keras.regularizers.Regularizer | str | None
_ODD = Rule("an odd integer of at least 1", lambda x: integer(1).holds(x) and x % 2 == 1)


class _Attention(ImageLayer):
    """What the attentions share: the penalty on their kernels, and dense layers."""

    def __init__(self, kernel_regularizer: Regularizer = None, **kwargs) -> None:
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)

    def _dense(self, units: int, inputs: int, name: str, **options) -> keras.layers.Dense:
        layer = keras.layers.Dense(
            units,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
            **options,
        )
        layer.build((None, inputs))
        return layer

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        regularizer = keras.regularizers.serialize(self.kernel_regularizer)
        return {**super().get_config(), "kernel_regularizer": regularizer}


@keras.saving.register_keras_serializable("keras_resnext")
class SqueezeExcite(_Attention):
    """Scale every channel by a gate computed from the means of all channels.

    `x * sigmoid(W2 relu(W1 mean(x)))`, the mean over height and width.

    Args:
        reduced: int, units of the first dense layer. None means a sixteenth of the channels,
            rounded to a multiple of 8 (timm's rule).
        use_bias: bool, whether the dense layers have a bias.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or channels first, depending on `data_format`. The
        output has the same shape.

    Reference:
        [Hu et al., 2018](https://arxiv.org/abs/1709.01507)

    Example:
    >>> import numpy as np
    >>> tuple(SqueezeExcite()(np.ones((2, 7, 7, 256), "float32")).shape)
    (2, 7, 7, 256)
    """

    def __init__(
        self,
        reduced: int | None = None,
        use_bias: bool = True,
        kernel_regularizer: Regularizer = None,
        **kwargs,
    ) -> None:
        super().__init__(kernel_regularizer, **kwargs)
        check("reduced", reduced, optional(integer(1)))
        self.reduced = reduced
        self.use_bias = use_bias

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        reduced = self.reduced or reduced_channels(channels, 1 / 16, 8)
        self.reduce = self._dense(
            reduced, channels, "reduce", activation="relu", use_bias=self.use_bias
        )
        self.expand = self._dense(
            channels, reduced, "expand", activation="sigmoid", use_bias=self.use_bias
        )

    def call(self, inputs: KerasTensor) -> KerasTensor:
        axes = self.spatial_axes
        return _scaled(inputs, self.expand(self.reduce(_means(inputs, axes))), axes)

    def get_config(self) -> dict:
        return {**super().get_config(), "reduced": self.reduced, "use_bias": self.use_bias}


@keras.saving.register_keras_serializable("keras_resnext")
class EfficientChannelAttention(_Attention):
    """Scale every channel by a gate computed from the means of its neighbors (ECA).

    `x * sigmoid(conv1d(mean(x)))`, with one kernel along the channels and no bias.

    Args:
        kernel_size: int, odd number of neighboring channels that a gate sees. None means the
            paper's rule: the odd number nearest to `(log2(channels) + 1) / 2`, at least 3.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or channels first, depending on `data_format`. The
        output has the same shape.

    Reference:
        [Wang et al., 2020](https://arxiv.org/abs/1910.03151)

    Example:
    >>> layer = EfficientChannelAttention()
    >>> layer.build((None, 7, 7, 2048))
    >>> tuple(layer.weights[0].shape)
    (7, 1, 1)
    """

    def __init__(
        self, kernel_size: int | None = None, kernel_regularizer: Regularizer = None, **kwargs
    ) -> None:
        super().__init__(kernel_regularizer, **kwargs)
        check("kernel_size", kernel_size, optional(_ODD))
        self.kernel_size = kernel_size

    def build(self, input_shape: tuple) -> None:
        channels = input_shape[self.channel_axis]
        self.conv = keras.layers.Conv1D(
            1,
            self.kernel_size or neighbors(channels),
            padding="same",
            data_format="channels_last",
            activation="sigmoid",
            use_bias=False,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name="conv",
        )
        self.conv.build((None, channels, 1))

    def call(self, inputs: KerasTensor) -> KerasTensor:
        gates = self.conv(ops.expand_dims(_means(inputs, self.spatial_axes), -1))
        return _scaled(inputs, ops.squeeze(gates, -1), self.spatial_axes)

    def get_config(self) -> dict:
        return {**super().get_config(), "kernel_size": self.kernel_size}


@keras.saving.register_keras_serializable("keras_resnext")
class SelectiveKernel(_Attention):
    """Weight branches against each other, channel by channel, and sum them.

    `sum_i a_i * x_i`, where `a = softmax_i(W2 relu(BN(W1 mean(sum_i x_i))))`. The branches are
    the outputs of convolutions that see the image at different scales.

    Args:
        reduced: int, units of the first dense layer. None means a sixteenth of the channels,
            rounded to a multiple of 32.
        momentum: float, momentum of the batch norm between the dense layers.
        epsilon: float, epsilon of that batch norm.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        List of at least two tensors `(batch, height, width, channels)`, or channels first,
        depending on `data_format`.

    Output shape:
        Same as one input.

    Reference:
        [Li et al., 2019](https://arxiv.org/abs/1903.06586)

    Example:
    >>> import numpy as np
    >>> branch = np.ones((2, 7, 7, 64), "float32")  # the mean of equal branches is the same
    >>> round(float(np.max(SelectiveKernel()([branch, branch]))), 4)
    1.0
    """

    def __init__(
        self,
        reduced: int | None = None,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        kernel_regularizer: Regularizer = None,
        **kwargs,
    ) -> None:
        super().__init__(kernel_regularizer, **kwargs)
        check("reduced", reduced, optional(integer(1)))
        self.reduced = reduced
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape: list) -> None:
        if not isinstance(input_shape[0], (list, tuple)) or len(input_shape) < 2:
            raise ValueError(
                "Invalid inputs of SelectiveKernel. Expected two or more tensors. "
                f"Received shapes: {input_shape}"
            )
        channels = input_shape[0][self.channel_axis]
        reduced = self.reduced or reduced_channels(channels, 1 / 16, 32)
        self.reduce = self._dense(reduced, channels, "reduce", use_bias=False)
        self.norm = BatchNormalization(
            momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.norm.build((None, reduced))
        self.select = self._dense(channels * len(input_shape), reduced, "select", use_bias=False)

    def call(self, inputs: list, training: bool | None = None) -> KerasTensor:
        axes = self.spatial_axes
        total = functools.reduce(ops.add, (_means(branch, axes) for branch in inputs))
        hidden = ops.relu(self.norm(self.reduce(total), training=training))
        scores = ops.reshape(self.select(hidden), (-1, len(inputs), total.shape[-1]))
        weights = ops.cast(ops.softmax(_widened(scores), axis=1), inputs[0].dtype)
        scaled = (_scaled(x, weights[:, index], axes) for index, x in enumerate(inputs))
        return functools.reduce(ops.add, scaled)

    def compute_output_shape(self, input_shape: list) -> tuple:
        return input_shape[0]

    def get_config(self) -> dict:
        own = {"reduced": self.reduced, "momentum": self.momentum, "epsilon": self.epsilon}
        return {**super().get_config(), **own}


def _means(inputs: KerasTensor, axes: tuple) -> KerasTensor:
    """Return the means over height and width, `(batch, channels)`."""
    return ops.cast(ops.mean(_widened(inputs), axis=axes), inputs.dtype)


def _scaled(inputs: KerasTensor, gates: KerasTensor, axes: tuple) -> KerasTensor:
    """Multiply each channel of an image by its gate, of shape `(batch, channels)`."""
    return inputs * ops.cast(ops.expand_dims(gates, axes), inputs.dtype)


def _widened(x: KerasTensor) -> KerasTensor:
    """Return `x` in at least float32: half precision has too few digits for a sum."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x
