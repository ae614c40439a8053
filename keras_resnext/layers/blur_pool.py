"""Downsampling that blurs first, so that a shifted image gives a shifted output."""

import keras
from keras import KerasTensor, ops

from keras_resnext.checks import check, integer
from keras_resnext.layers.image_layer import ImageLayer


@keras.saving.register_keras_serializable("keras_resnext")
class BlurPool2D(ImageLayer):
    """Blur with the binomial kernel [1, 2, 1] x [1, 2, 1] / 16 and subsample.

    The border is reflected, so that a constant image stays constant.

    Args:
        strides: int, subsampling of height and width.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or channels first, depending on `data_format`.

    Output shape:
        Height and width divided by `strides`, rounded up.

    Reference:
        [Zhang, 2019](https://arxiv.org/abs/1904.11486)

    Example:
    >>> import numpy as np
    >>> image = np.arange(4, dtype="float32").reshape(1, 1, 4, 1)
    >>> np.array(BlurPool2D()(image)).ravel().tolist()
    [0.5, 2.0]
    """

    def __init__(self, strides: int = 2, **kwargs) -> None:
        super().__init__(**kwargs)
        check("strides", strides, integer(1))
        self.strides = strides

    def call(self, inputs: KerasTensor) -> KerasTensor:
        # [1, 2, 1] / 4 is the mean of two neighbors, twice. Pooling has a fast kernel and
        # gradient on a CPU, depthwise convolution does not.
        x = self._reflected(inputs)
        for strides in (1, self.strides):
            x = ops.average_pool(x, 2, strides, padding="valid", data_format=self.data_format)
        return x

    def _reflected(self, inputs: KerasTensor) -> KerasTensor:
        for axis in self.spatial_axes:
            # A single pixel has no neighbor to reflect and is repeated.
            second = 0 if inputs.shape[axis] == 1 else 1
            before = _slice(inputs, axis, second, second + 1)
            after = _slice(inputs, axis, -1 - second, -second or None)
            inputs = ops.concatenate([before, inputs, after], axis=axis)
        return inputs

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        shape = list(input_shape)
        for axis in self.spatial_axes:
            shape[axis] = None if shape[axis] is None else -(-shape[axis] // self.strides)
        return tuple(shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "strides": self.strides}


def _slice(x: KerasTensor, axis: int, begin: int, end: int | None) -> KerasTensor:
    return x[(slice(None),) * axis + (slice(begin, end),)]
