"""Stochastic depth."""

import keras
from keras import KerasTensor, ops

from keras_resnext.layers.scheduled_drop import ScheduledDrop


@keras.saving.register_keras_serializable("keras_resnext")
class DropPath(ScheduledDrop):
    """Drop a residual branch, separately for each image of the batch (stochastic depth).

    The images that are not dropped are divided by their expected share, so that inference
    changes nothing.

    Args:
        rate: float, 0 <= rate < 1, probability that the branch of an image is dropped.
        schedule_steps: int, training steps over which the rate rises; see `ScheduledDrop`.
        seed: int or None, seed of the random numbers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        Any, the batch first. The output has the same shape.

    Reference:
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382)

    Example:
    >>> import numpy as np
    >>> layer = DropPath(0.5, seed=0)
    >>> y = np.array(layer(np.ones((100, 2), "float32"), training=True))
    >>> sorted(set(y.ravel().tolist()))  # dropped, or doubled
    [0.0, 2.0]
    """

    def drop(self, inputs: KerasTensor, rate: KerasTensor) -> KerasTensor:
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        noise = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        scale = ops.cast(noise >= rate, "float32") / (1.0 - rate)
        return inputs * ops.cast(scale, inputs.dtype)
