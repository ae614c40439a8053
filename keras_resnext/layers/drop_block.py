"""DropBlock: dropout of square regions."""

import keras
from keras import ops

from keras_resnext.layers.image_layer import ImageLayer
from keras_resnext.layers.scheduled_drop import ScheduledDrop


@keras.saving.register_keras_serializable("keras_resnext")
class DropBlock2D(ScheduledDrop, ImageLayer):
    """Drop square regions of a feature map, in every channel and image by itself.

    Seeds are drawn where a whole block fits, with the chance
    `scale * rate * H * W / (b**2 * (H - b + 1) * (W - b + 1))`, and grown to blocks of b x b.
    What is kept is multiplied by `count / kept`, over the batch, so that the mean stays.

    Args:
        rate: float, 0 <= rate < 1, the share of the map that is dropped (a little less, where
            blocks overlap).
        block_size: int, the blocks' height and width b in pixels; a smaller map is dropped
            whole.
        scale: float, a factor of the seeds' chance. The assembled paper has .25 in the stage
            before the last.
        schedule_steps, seed: see `ScheduledDrop`.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        `(batch, height, width, channels)`, or channels first by `data_format`.

    Output shape:
        That of the input.

    Raises:
        ValueError: if an argument is out of its range.

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

    def __init__(self, rate, block_size=7, scale=1.0, schedule_steps=0, seed=None, **kwargs):
        super().__init__(rate, schedule_steps=schedule_steps, seed=seed, **kwargs)
        if not isinstance(block_size, int) or isinstance(block_size, bool) or block_size < 1:
            raise ValueError(
                f"`block_size` must be a positive integer. Received: block_size={block_size!r}"
            )
        if isinstance(scale, bool) or not isinstance(scale, (int, float)) or scale <= 0:
            raise ValueError(f"`scale` must be positive. Received: scale={scale!r}")
        self.block_size = block_size
        self.scale = scale

    def drop(self, inputs, rate):
        kept = 1.0 - self._dropped(inputs, rate)
        # A map that is dropped whole has nothing to scale up.
        count = ops.cast(ops.size(kept), "float32")
        scale = count / ops.maximum(ops.sum(kept), 1.0)
        return inputs * ops.cast(kept * scale, inputs.dtype)

    def _dropped(self, inputs, rate):
        """Ones where blocks lie, in float32 and the shape of the input."""
        shape = ops.shape(inputs)
        chance, fits = self.scale * rate, 1.0
        for axis in self.spatial_axes:
            size = ops.cast(shape[axis], "float32")
            block = ops.minimum(float(self.block_size), size)
            chance = chance * size / (block * (size - block + 1.0))
            fits = fits * self._where_a_block_fits(shape[axis], block, axis)
        noise = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        dropped = ops.cast(noise < chance, "float32") * fits
        # A square window is a row's, then a column's: 2 b comparisons a pixel and not b * b.
        for window in ((self.block_size, 1), (1, self.block_size)):
            dropped = ops.max_pool(
                dropped, window, strides=1, padding="same", data_format=self.data_format
            )
        return dropped

    def _where_a_block_fits(self, size, block, axis):
        """Ones along `axis` at the centres of blocks that do not cross the border."""
        position = ops.arange(size, dtype="float32")
        before, after = ops.floor(block / 2), ops.floor((block - 1) / 2)
        last = ops.cast(size, "float32") - after
        inside = ops.logical_and(position >= before, position < last)
        new_shape = [1, 1, 1, 1]
        new_shape[axis] = -1
        return ops.reshape(ops.cast(inside, "float32"), new_shape)

    def get_config(self):
        return {**super().get_config(), "block_size": self.block_size, "scale": self.scale}
