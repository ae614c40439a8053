"""DropBlock: dropout of square regions."""

import keras
from keras import KerasTensor, ops

from keras_resnext.checks import check, integer, number
from keras_resnext.layers.image_layer import ImageLayer
from keras_resnext.layers.scheduled_drop import ScheduledDrop


@keras.saving.register_keras_serializable("keras_resnext")
class DropBlock2D(ScheduledDrop, ImageLayer):
    """Drop square regions of a feature map, separately in every channel and image.

    Block centers are drawn where a whole block fits, with the probability
    `scale * rate * H * W / (b**2 * (H - b + 1) * (W - b + 1))`, and grown to blocks of b x b.
    The rest is scaled up, over the batch, so that the mean stays.

    Args:
        rate: float, 0 <= rate < 1, share of the map that is dropped (a little less, where
            blocks overlap).
        block_size: int, height and width b of the blocks in pixels; a smaller map is dropped
            as a whole.
        scale: float above 0, factor of the probability. The assembled paper uses .25 in the
            stage before the last.
        schedule_steps: int, training steps over which the rate rises; see `ScheduledDrop`.
        seed: int or None, seed of the random numbers.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, channels)`, or channels first, depending on `data_format`. The
        output has the same shape.

    References:
        [Ghiasi et al., 2018](https://arxiv.org/abs/1810.12890),
        [Lee et al., 2020, section 3.2](https://arxiv.org/abs/2001.06268)

    Example:
    >>> import numpy as np
    >>> layer = DropBlock2D(0.1, block_size=3, seed=0)
    >>> y = np.array(layer(np.ones((8, 14, 14, 16), "float32"), training=True))
    >>> bool(0.05 < np.mean(y == 0) < 0.11), round(float(y.mean()), 3)
    (True, 1.0)
    """

    def __init__(
        self,
        rate: float,
        block_size: int = 7,
        scale: float = 1.0,
        schedule_steps: int = 0,
        seed: int | None = None,
        **kwargs,
    ) -> None:
        super().__init__(rate, schedule_steps=schedule_steps, seed=seed, **kwargs)
        check("block_size", block_size, integer(1))
        check("scale", scale, number(above=0))
        self.block_size = block_size
        self.scale = scale

    def drop(self, inputs: KerasTensor, rate: KerasTensor) -> KerasTensor:
        kept = 1.0 - self._dropped(inputs, rate)
        # The maximum is for a map that is dropped as a whole.
        count = ops.cast(ops.size(kept), "float32")
        scale = count / ops.maximum(ops.sum(kept), 1.0)
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def _dropped(self, inputs: KerasTensor, rate: KerasTensor) -> KerasTensor:
        """Return ones where blocks lie, in float32 and the shape of the input."""
        shape = ops.shape(inputs)
        chance, fits = self.scale * rate, 1.0
        for axis in self.spatial_axes:
            size = ops.cast(shape[axis], "float32")
            block = ops.minimum(float(self.block_size), size)
            chance = chance * size / (block * (size - block + 1.0))
            fits = fits * _where_a_block_fits(shape[axis], block, axis)
        noise = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        dropped = ops.cast(noise < chance, "float32") * fits
        # A row's window, then a column's: 2 b comparisons per pixel instead of b * b.
        for window in ((self.block_size, 1), (1, self.block_size)):
            dropped = ops.max_pool(
                dropped, window, strides=1, padding="same", data_format=self.data_format
            )
        return dropped

    def get_config(self) -> dict:
        return {**super().get_config(), "block_size": self.block_size, "scale": self.scale}


def _where_a_block_fits(size: int, block: KerasTensor, axis: int) -> KerasTensor:
    """Return ones along `axis` at the centers of blocks that do not cross the border."""
    position = ops.arange(size, dtype="float32")
    before, after = ops.floor(block / 2), ops.floor((block - 1) / 2)
    last = ops.cast(size, "float32") - after
    inside = ops.logical_and(position >= before, position < last)
    new_shape = [1, 1, 1, 1]
    new_shape[axis] = -1
    return ops.reshape(ops.cast(inside, "float32"), new_shape)
