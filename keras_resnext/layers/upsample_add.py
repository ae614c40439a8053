"""The sum of feature maps of two resolutions."""

import keras
from keras import KerasTensor, ops

from keras_resnext.layers.image_layer import ImageLayer


@keras.saving.register_keras_serializable("keras_resnext")
class UpsampleAdd(ImageLayer):
    """Add a feature map to one of twice its height and width: `upsample(x[0]) + x[1]`.

    Every pixel of the first is repeated to 2x2; if the second has an odd size, the last row or
    column of repetitions is left out.

    Args:
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        List of two tensors, `(batch, (height + 1) // 2, (width + 1) // 2, channels)` and
        `(batch, height, width, channels)`, or channels first, depending on `data_format`.

    Output shape:
        Same as the second input.

    Reference:
        [Chen et al., 2019](https://arxiv.org/abs/1807.03848)

    Example:
    >>> import numpy as np
    >>> small, large = np.ones((1, 2, 2, 1), "float32"), np.zeros((1, 3, 4, 1), "float32")
    >>> y = UpsampleAdd()([small, large])
    >>> tuple(y.shape), float(keras.ops.min(y))
    ((1, 3, 4, 1), 1.0)
    """

    def call(self, inputs: list) -> KerasTensor:
        small, large = inputs
        for axis in self.spatial_axes:
            small = ops.repeat(small, 2, axis=axis)
        height, width = (ops.shape(large)[axis] for axis in self.spatial_axes)
        last = self.data_format == "channels_last"
        small = small[:, :height, :width] if last else small[:, :, :height, :width]
        return small + large

    def compute_output_shape(self, input_shape: list) -> tuple:
        return input_shape[1]
