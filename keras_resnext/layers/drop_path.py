"""Stochastic depth."""

import keras
from keras import ops

from keras_resnext.layers.scheduled_drop import ScheduledDrop


@keras.saving.register_keras_serializable("keras_resnext")
class DropPath(ScheduledDrop):
    """Drop a residual branch, for each image of the batch by itself (stochastic depth).

    What is kept is divided by the share that is kept, so that inference changes nothing.

    Args:
        rate: float, 0 <= rate < 1, the chance that an image's branch is dropped.
        schedule_steps, seed, **kwargs: see `ScheduledDrop`.

    Input shape:
        Any, the batch first.

    Output shape:
        That of the input.

    Reference:
        [Huang et al., 2016](https://arxiv.org/abs/1603.09382)

    Example:

    >>> import numpy as np
    >>> layer = DropPath(0.5, seed=0)
    >>> y = np.array(layer(np.ones((100, 2), "float32"), training=True))
    >>> sorted(set(y.ravel().tolist()))  # dropped, or doubled
    [0.0, 2.0]
    """

    def drop(self, inputs, rate):
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        noise = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator)
        kept = ops.cast(noise >= rate, "float32") / (1.0 - rate)
        return inputs * ops.cast(kept, inputs.dtype)
