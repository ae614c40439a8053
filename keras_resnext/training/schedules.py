"""The learning rate, step by step."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

LearningRateSchedule = keras.optimizers.schedules.LearningRateSchedule
FACTOR = 0.1


def learning_rate_schedule(recipe: Recipe, steps: int) -> LearningRateSchedule:
    """Return the learning rate of each step: linear warm-up, then what the recipe says.

    Args:
        recipe: Recipe, resolved.
        steps: int, steps of the whole training; accumulated parts of a batch are steps, too.

    Returns:
        A `keras.optimizers.schedules.LearningRateSchedule`.

    Example:
    >>> recipe = Recipe(learning_rate=0.4, schedule="cosine", warmup=0.1)
    >>> schedule = learning_rate_schedule(recipe, steps=100)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 55, 100)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
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
    """Rise linearly in a warm-up, then fall linearly to 0.

    Args:
        rate: float, learning rate after the warm-up.
        steps: int, steps from the start to 0.
        warmup_steps: int, steps over which it rises from 0.

    Example:
    >>> schedule = LinearDecay(0.1, 100, warmup_steps=20)
    >>> [round(float(schedule(step)), 4) for step in (0, 10, 20, 60, 100, 101)]
    [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, rate: float, steps: int, warmup_steps: int = 0) -> None:
        self.rate, self.steps, self.warmup_steps = rate, steps, warmup_steps

    def __call__(self, step: int | keras.KerasTensor) -> keras.KerasTensor:
        step = ops.cast(step, "float32")
        risen = (step + 1e-9) / max(self.warmup_steps, 1e-9)
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.rate * ops.clip(ops.minimum(risen, left), 0.0, 1.0)

    def get_config(self) -> dict:
        return {"rate": self.rate, "steps": self.steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("keras_resnext")
class StepDecay(LearningRateSchedule):
    """Rise linearly in a warm-up, then fall to a tenth at some steps.

    Args:
        rate: float, learning rate after the warm-up.
        boundaries: Sequence of int, steps from which on it is a tenth of what it was before.
        warmup_steps: int, steps over which it rises from 0.

    Example:
    >>> schedule = StepDecay(0.1, [50, 75], warmup_steps=10)
    >>> [round(float(schedule(step)), 4) for step in (5, 49, 50, 75)]
    [0.05, 0.1, 0.01, 0.001]
    """

    def __init__(self, rate: float, boundaries: Sequence[int], warmup_steps: int = 0) -> None:
        self.rate, self.boundaries, self.warmup_steps = rate, list(boundaries), warmup_steps

    def __call__(self, step: int | keras.KerasTensor) -> keras.KerasTensor:
        step = ops.cast(step, "float32")
        risen = ops.minimum((step + 1e-9) / max(self.warmup_steps, 1e-9), 1.0)
        fallen = sum(ops.cast(step >= boundary, "float32") for boundary in self.boundaries)
        return self.rate * risen * ops.power(FACTOR, fallen)

    def get_config(self) -> dict:
        return {
            "rate": self.rate,
            "boundaries": self.boundaries,
            "warmup_steps": self.warmup_steps,
        }


_SCHEDULES = {"linear": _linear, "cosine": _cosine, "step": _step}
