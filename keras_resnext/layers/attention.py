"""Attention over channels: squeeze-excite, efficient channel attention, selective kernel."""

import keras
from keras import ops

from keras_resnext.channels import neighbors, reduced_channels
from keras_resnext.layers.batch_norm import BatchNormalization
from keras_resnext.layers.image_layer import ImageLayer


@keras.saving.register_keras_serializable("keras_resnext")
class SqueezeExcite(ImageLayer):
    """Scale every channel by a gate computed from the means of all channels.

    `x * sigmoid(W2 relu(W1 mean(x)))`, the mean over height and width.

    Args:
        reduced: int, the units between the two dense layers. None takes a sixteenth of the
            channels, rounded to a multiple of 8 (timm's rule; see `reduced_channels`).
        use_bias: bool, whether the dense layers have a bias.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        `(batch, height, width, channels)`, or channels first by `data_format`.

    Output shape:
        That of the input.

    Raises:
        ValueError: if `reduced` is not a positive integer.

    Reference:
        [Hu et al., 2018](https://arxiv.org/abs/1709.01507)

    Example:

    >>> import numpy as np
    >>> tuple(SqueezeExcite()(np.ones((2, 7, 7, 256), "float32")).shape)
    (2, 7, 7, 256)
    """

    def __init__(self, reduced=None, use_bias=True, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.reduced = None if reduced is None else _positive("reduced", reduced)
        self.use_bias = use_bias

    def build(self, input_shape):
        channels = input_shape[self.channel_axis]
        reduced = self.reduced or reduced_channels(channels, 1 / 16, 8)
        self.reduce = self._dense(reduced, "relu", "reduce", channels)
        self.expand = self._dense(channels, "sigmoid", "expand", reduced)

    def _dense(self, units, activation, name, inputs):
        layer = keras.layers.Dense(
            units,
            activation,
            use_bias=self.use_bias,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )
        layer.build((None, inputs))
        return layer

    def call(self, inputs):
        axes = self.spatial_axes
        return _scaled(inputs, self.expand(self.reduce(_means(inputs, axes))), axes)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"reduced": self.reduced, "use_bias": self.use_bias}
        return {**super().get_config(), **own, **_regularizer_config(self)}


@keras.saving.register_keras_serializable("keras_resnext")
class EfficientChannelAttention(ImageLayer):
    """Scale every channel by a gate computed from the means of its neighbours (ECA).

    `x * sigmoid(conv1d(mean(x)))`, one kernel along the channels, without bias.

    Args:
        kernel_size: int, odd: how many neighbouring channels a gate sees. None takes the
            paper's rule, the odd number nearest to `(log2(channels) + 1) / 2`, at least 3.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        `(batch, height, width, channels)`, or channels first by `data_format`.

    Output shape:
        That of the input.

    Raises:
        ValueError: if `kernel_size` is not a positive odd integer.

    Reference:
        [Wang et al., 2020](https://arxiv.org/abs/1910.03151)

    Example:

    >>> layer = EfficientChannelAttention()
    >>> layer.build((None, 7, 7, 2048))
    >>> tuple(layer.weights[0].shape)
    (7, 1, 1)
    """

    def __init__(self, kernel_size=None, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        if kernel_size is not None and _positive("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"`kernel_size` must be odd. Received: kernel_size={kernel_size}")
        self.kernel_size = kernel_size

    def build(self, input_shape):
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

    def call(self, inputs):
        gates = self.conv(ops.expand_dims(_means(inputs, self.spatial_axes), -1))
        return _scaled(inputs, ops.squeeze(gates, -1), self.spatial_axes)

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"kernel_size": self.kernel_size}
        return {**super().get_config(), **own, **_regularizer_config(self)}


@keras.saving.register_keras_serializable("keras_resnext")
class SelectiveKernel(ImageLayer):
    """Weigh branches against each other, channel by channel, and sum them.

    `sum_i a_i * x_i`, where `a = softmax_i(W2 relu(BN(W1 mean(sum_i x_i))))`. The branches are
    the outputs of convolutions that see the image at different scales.

    Args:
        reduced: int, the units between the two dense layers, which have no bias. None takes
            a sixteenth of the channels, rounded to a multiple of 32 (see `reduced_channels`).
        momentum, epsilon: of the batch norm between them.
        kernel_regularizer: `keras.regularizers.Regularizer`, its name or None.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        List of at least two tensors `(batch, height, width, channels)`, or channels first
        by `data_format`.

    Output shape:
        That of one input.

    Raises:
        ValueError: if `reduced` is not a positive integer, or the inputs are fewer than two.

    Reference:
        [Li et al., 2019](https://arxiv.org/abs/1903.06586)

    Example:

    >>> import numpy as np
    >>> branch = np.ones((2, 7, 7, 64), "float32")  # of equal branches, the mean
    >>> round(float(np.max(SelectiveKernel()([branch, branch]))), 4)
    1.0
    """

    def __init__(self, reduced=None, momentum=0.9, epsilon=1e-5, kernel_regularizer=None, **kwargs):
        super().__init__(**kwargs)
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.reduced = None if reduced is None else _positive("reduced", reduced)
        self.momentum = momentum
        self.epsilon = epsilon

    def build(self, input_shape):
        if not isinstance(input_shape[0], (list, tuple)) or len(input_shape) < 2:
            raise ValueError(f"SelectiveKernel needs two or more inputs. Received: {input_shape}")
        channels = input_shape[0][self.channel_axis]
        reduced = self.reduced or reduced_channels(channels, 1 / 16, 32)
        self.reduce = self._dense(reduced, "reduce")
        self.norm = BatchNormalization(
            momentum=self.momentum, epsilon=self.epsilon, dtype=self.dtype_policy, name="norm"
        )
        self.select = self._dense(channels * len(input_shape), "select")
        self.reduce.build((None, channels))
        self.norm.build((None, reduced))
        self.select.build((None, reduced))

    def _dense(self, units, name):
        return keras.layers.Dense(
            units,
            use_bias=False,
            kernel_regularizer=self.kernel_regularizer,
            dtype=self.dtype_policy,
            name=name,
        )

    def call(self, inputs, training=None):
        axes = self.spatial_axes
        total = _means(inputs[0], axes)
        for branch in inputs[1:]:
            total = total + _means(branch, axes)
        hidden = ops.relu(self.norm(self.reduce(total), training=training))
        scores = ops.reshape(self.select(hidden), (-1, len(inputs), total.shape[-1]))
        weights = ops.cast(ops.softmax(_widened(scores), axis=1), inputs[0].dtype)
        output = _scaled(inputs[0], weights[:, 0], axes)
        for index, branch in enumerate(inputs[1:], start=1):
            output = output + _scaled(branch, weights[:, index], axes)
        return output

    def compute_output_shape(self, input_shape):
        return input_shape[0]

    def get_config(self):
        own = {"reduced": self.reduced, "momentum": self.momentum, "epsilon": self.epsilon}
        return {**super().get_config(), **own, **_regularizer_config(self)}


def _means(inputs, axes):
    """`(batch, channels)`, the means over height and width."""
    return ops.cast(ops.mean(_widened(inputs), axis=axes), inputs.dtype)


def _scaled(inputs, gates, axes):
    """Multiply each channel of an image by its gate, of shape `(batch, channels)`."""
    return inputs * ops.cast(ops.expand_dims(gates, axes), inputs.dtype)


def _widened(x):
    """At least in float32: half precision has not the digits for a sum."""
    half = keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16")
    return ops.cast(x, "float32") if half else x


def _regularizer_config(layer):
    return {"kernel_regularizer": keras.regularizers.serialize(layer.kernel_regularizer)}


def _positive(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a positive integer. Received: {name}={value!r}")
    return value
