"""Random dropping at a rate that rises with the training step."""

import keras
from keras import ops


class ScheduledDrop(keras.layers.Layer):
    """The base of the layers that drop parts of their input in training.

    The number of training steps taken is a weight of the layer, so that a saved model goes on
    where it stopped.

    Args:
        rate: float, 0 <= rate < 1, the share that is dropped in the end.
        schedule_steps: int, the training steps over which the rate rises linearly from 0 to
            `rate`; 0 keeps it constant. It may be set until the model is first trained.
        seed: int, of the layer's random numbers; None draws one.

    Raises:
        ValueError: if an argument is out of its range.
    """

    def __init__(self, rate, schedule_steps=0, seed=None, **kwargs):
        super().__init__(**kwargs)
        if isinstance(rate, bool) or not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise ValueError(f"`rate` needs 0 <= rate < 1. Received: rate={rate!r}")
        self.rate = rate
        self.schedule_steps = schedule_steps
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def schedule_steps(self):
        """The training steps over which the rate rises; 0: it is constant."""
        return self._schedule_steps

    @schedule_steps.setter
    def schedule_steps(self, steps):
        if not isinstance(steps, int) or isinstance(steps, bool) or steps < 0:
            raise ValueError(
                "`schedule_steps` must be an integer, 0 or more. "
                f"Received: schedule_steps={steps!r}"
            )
        self._schedule_steps = steps

    def build(self, input_shape):
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="float32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def current_rate(self):
        """The rate at the step that is being taken, a float32 scalar."""
        if not self.schedule_steps:
            return ops.convert_to_tensor(self.rate, "float32")
        done = ops.minimum(ops.convert_to_tensor(self.step) / self.schedule_steps, 1.0)
        return self.rate * done

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        outputs = self.drop(inputs, self.current_rate())
        self.step.assign_add(1.0)
        return outputs

    def drop(self, inputs, rate):
        """Return the inputs with the share `rate`, a scalar tensor, dropped."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        own = {"rate": self.rate, "schedule_steps": self.schedule_steps, "seed": self.seed}
        return {**super().get_config(), **own}


def set_schedule_steps(model, steps):
    """Let the rates of every DropBlock and DropPath in a model rise over `steps` steps.

    Args:
        model: `keras.Model`, before it is first trained.
        steps: int, the training steps; 0 keeps the rates constant.

    Example:

    >>> from keras_resnext import DropPath
    >>> model = keras.Sequential([DropPath(0.2)])
    >>> set_schedule_steps(model, 1000)
    >>> model.layers[0].schedule_steps
    1000
    """
    for layer in model._flatten_layers():
        if isinstance(layer, ScheduledDrop):
            layer.schedule_steps = steps
