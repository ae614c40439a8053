"""The learning rate, step by step."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule
FACTOR = 0.1


def learning_rate_schedule(recipe: Recipe, steps: int) -> LearningRateSchedule:
    """Return the schedule of a resolved recipe: a linear warm-up, then as its `schedule` says.

    `steps` are those of the whole training, counting each accumulated part of a batch.
    """
    return _SCHEDULES[recipe.schedule](recipe, max(steps, 1), round(steps * recipe.warmup))


def _linear(recipe: Recipe, steps: int, warmup: int) -> LearningRateSchedule:
    return LinearDecay(recipe.learning_rate, steps, warmup)


def _cosine(recipe: Recipe, steps: int, warmup: int) -> LearningRateSchedule:
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def _step(recipe: Recipe, steps: int, warmup: int) -> LearningRateSchedule:
    boundaries = [round(share * steps) for share in recipe.milestones]
    return StepDecay(recipe.learning_rate, boundaries, warmup)


@keras.saving.register_keras_serializable("keras_resnext")
class LinearDecay(LearningRateSchedule):
    """Rise linearly over `warmup_steps`, then fall linearly to 0 at `steps`."""

    def __init__(self, rate: float, steps: int, warmup_steps: int = 0) -> None:
        self.rate, self.steps, self.warmup_steps = rate, steps, warmup_steps

    def __call__(self, step: int | keras.KerasTensor) -> keras.KerasTensor:
        """Return the learning rate of a step."""
        step = ops.cast(step, "float32")
        risen = (step + 1e-9) / max(self.warmup_steps, 1e-9)
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.rate * ops.clip(ops.minimum(risen, left), 0.0, 1.0)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {"rate": self.rate, "steps": self.steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("keras_resnext")
class StepDecay(LearningRateSchedule):
    """Rise linearly over `warmup_steps`, then fall to a tenth at each of `boundaries`."""

    def __init__(self, rate: float, boundaries: Sequence[int], warmup_steps: int = 0) -> None:
        self.rate, self.boundaries, self.warmup_steps = rate, list(boundaries), warmup_steps

    def __call__(self, step: int | keras.KerasTensor) -> keras.KerasTensor:
        """Return the learning rate of a step."""
        step = ops.cast(step, "float32")
        risen = ops.minimum((step + 1e-9) / max(self.warmup_steps, 1e-9), 1.0)
        fallen = sum(ops.cast(step >= boundary, "float32") for boundary in self.boundaries)
        return self.rate * risen * ops.power(FACTOR, fallen)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {
            "rate": self.rate,
            "boundaries": self.boundaries,
            "warmup_steps": self.warmup_steps,
        }


_SCHEDULES = {"linear": _linear, "cosine": _cosine, "step": _step}
