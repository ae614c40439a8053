"""Downsampling that blurs first, so that a shifted image gives a shifted answer."""

import keras
from keras import ops

from keras_resnext.layers.image_layer import ImageLayer


@keras.saving.register_keras_serializable("keras_resnext")
class BlurPool2D(ImageLayer):
    """Blur with the binomial kernel [1, 2, 1] x [1, 2, 1] / 16 and subsample.

    The border is reflected, so that a constant image stays constant.

    Args:
        strides: int, the subsampling in height and width.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        `(batch, height, width, channels)`, or channels first by `data_format`.

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

    def call(self, inputs):
        # [1, 2, 1] / 4 is the mean of two neighbours, twice. Pooling has a fast kernel, with its
        # gradient, where depthwise convolution on a CPU has not.
        x = self._reflected(inputs)
        x = ops.average_pool(x, 2, strides=1, padding="valid", data_format=self.data_format)
        return ops.average_pool(
            x, 2, strides=self.strides, padding="valid", data_format=self.data_format
        )

    def _reflected(self, inputs):
        for axis in self.spatial_axes:
            # One pixel has no neighbour to reflect: it is its own.
            second = 0 if inputs.shape[axis] == 1 else 1
            before = _slice(inputs, axis, second, second + 1)
            after = _slice(inputs, axis, -1 - second, -second or None)
            inputs = ops.concatenate([before, inputs, after], axis=axis)
        return inputs

    def compute_output_shape(self, input_shape):
        shape = list(input_shape)
        for axis in self.spatial_axes:
            shape[axis] = None if shape[axis] is None else -(-shape[axis] // self.strides)
        return tuple(shape)

    def get_config(self):
        return {**super().get_config(), "strides": self.strides}


def _slice(x, axis, begin, end):
    return x[(slice(None),) * axis + (slice(begin, end),)]
