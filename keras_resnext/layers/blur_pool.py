"""Downsampling that blurs first, so that a shifted image gives a shifted answer."""

import keras
from keras import ops


@keras.saving.register_keras_serializable("keras_resnext")
class BlurPool2D(keras.layers.Layer):
    """Blur with the binomial kernel [1, 2, 1] x [1, 2, 1] / 16 and subsample.

    The border is reflected, so that a constant image stays constant.

    Args:
        strides: int, the subsampling in height and width.

    Input shape:
        `(batch, height, width, channels)`, or channels first in Keras's data format.

    Output shape:
        Height and width divided by `strides`, rounded up.

    Raises:
        ValueError: if `strides` is not a positive integer.

    Reference:
        [Zhang, 2019](https://arxiv.org/abs/1904.11486)

    Example:

    >>> import numpy as np
    >>> image = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    >>> np.array(BlurPool2D()(image)).ravel().tolist()
    [0.5, 2.0]
    """

    def __init__(self, strides=2, **kwargs):
        super().__init__(**kwargs)
        if not isinstance(strides, int) or isinstance(strides, bool) or strides < 1:
            raise ValueError(f"`strides` must be a positive integer. Received: strides={strides!r}")
        self.strides = strides
        self.data_format = keras.config.image_data_format()

    def call(self, inputs):
        # [1, 2, 1] / 4 is the mean of two neighbours, twice. Pooling has a fast kernel, with its
        # gradient, where depthwise convolution on a CPU has not.
        x = self._reflected(inputs)
        x = ops.average_pool(x, 2, strides=1, padding="valid", data_format=self.data_format)
        return ops.average_pool(
            x, 2, strides=self.strides, padding="valid", data_format=self.data_format
        )

    def _reflected(self, inputs):
        first = 1 if self.data_format == "channels_last" else 2
        for axis in (first, first + 1):
            widths = [(0, 0)] * 4
            widths[axis] = (1, 1)
            # One pixel has no neighbour to reflect: it is its own.
            mode = "symmetric" if inputs.shape[axis] == 1 else "reflect"
            inputs = ops.pad(inputs, widths, mode=mode)
        return inputs

    def compute_output_shape(self, input_shape):
        first = 1 if self.data_format == "channels_last" else 2
        shape = list(input_shape)
        for axis in (first, first + 1):
            shape[axis] = None if shape[axis] is None else -(-shape[axis] // self.strides)
        return tuple(shape)

    def get_config(self):
        return {**super().get_config(), "strides": self.strides}
