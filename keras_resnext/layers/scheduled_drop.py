"""Random dropping at a rate that rises with the training step."""

import keras
from keras import KerasTensor, ops

from keras_resnext.checks import check, integer, number


class ScheduledDrop(keras.layers.Layer):
    """The base of the layers that drop parts of their input in training.

    The number of training steps taken is a weight of the layer, so that a loaded model resumes
    where it stopped.

    Args:
        rate: float, 0 <= rate < 1, share that is dropped in the end.
        schedule_steps: int, training steps over which the rate rises linearly from 0 to `rate`;
            0 means a constant rate. It may be set until the model is first trained.
        seed: int or None, seed of the random numbers; None draws one.
        **kwargs: Arguments of `keras.layers.Layer`.
    """

    def __init__(
        self, rate: float, schedule_steps: int = 0, seed: int | None = None, **kwargs
    ) -> None:
        super().__init__(**kwargs)
        check("rate", rate, number(0, below=1))
        self.rate = rate
        self.schedule_steps = schedule_steps
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)

    @property
    def schedule_steps(self) -> int:
        """Training steps over which the rate rises; 0 if it is constant."""
        return self._schedule_steps

    @schedule_steps.setter
    def schedule_steps(self, steps: int) -> None:
        check("schedule_steps", steps, integer(0))
        self._schedule_steps = steps

    def build(self, input_shape: tuple) -> None:
        self.step = self.add_weight(
            name="step",
            shape=(),
            dtype="float32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )

    def current_rate(self) -> KerasTensor:
        """Return the rate of the current step, a float32 scalar."""
        if not self.schedule_steps:
            return ops.convert_to_tensor(self.rate, "float32")
        done = ops.minimum(ops.convert_to_tensor(self.step) / self.schedule_steps, 1.0)
        return self.rate * done

    def call(self, inputs: KerasTensor, training: bool = False) -> KerasTensor:
        if not training or not self.rate:
            return inputs
        outputs = self.drop(inputs, self.current_rate())
        self.step.assign_add(1.0)
        return outputs

    def drop(self, inputs: KerasTensor, rate: KerasTensor) -> KerasTensor:
        """Return the inputs with the share `rate`, a scalar tensor, dropped."""
        raise NotImplementedError

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return input_shape

    def get_config(self) -> dict:
        own = {"rate": self.rate, "schedule_steps": self.schedule_steps, "seed": self.seed}
        return {**super().get_config(), **own}


def set_schedule_steps(model: keras.Model, steps: int) -> None:
    """Let the rates of every DropBlock and DropPath in a model rise over `steps` steps.

    Args:
        model: `keras.Model` that has not been trained yet.
        steps: int, number of training steps; 0 means constant rates.

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
