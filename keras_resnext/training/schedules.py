"""The learning rate, step by step."""

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

FACTOR = 0.1


def learning_rate_schedule(recipe: Recipe, steps: int):
    """Give the learning rate of each step: linear warm-up, then what the recipe says.

    Args:
        recipe: Resolved.
        steps: Of the whole training; where gradients are accumulated, the parts of batches.

    Returns:
        A ``keras.optimizers.schedules.LearningRateSchedule``.

    Example:

    >>> recipe = Recipe(learning_rate=0.4, schedule="cosine", warmup=0.1)
    >>> schedule = learning_rate_schedule(recipe, steps=100)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 55, 100)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
    """
    return _SCHEDULES[recipe.schedule](recipe, max(steps, 1), round(steps * recipe.warmup))


def _linear(recipe, steps, warmup):
    return LinearDecay(recipe.learning_rate, steps, warmup)


def _cosine(recipe, steps, warmup):
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(recipe.learning_rate, steps)
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=recipe.learning_rate, warmup_steps=warmup
    )


def _step(recipe, steps, warmup):
    boundaries = [round(share * steps) for share in recipe.milestones]
    return StepDecay(recipe.learning_rate, boundaries, warmup)


@keras.saving.register_keras_serializable("keras_resnext")
class LinearDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a rate that falls as straight to 0.

    Args:
        rate: Learning rate after the warm-up.
        steps: From the start to 0.
        warmup_steps: Steps over which it rises from 0.

    Example:

    >>> schedule = LinearDecay(0.1, 100, warmup_steps=20)
    >>> [round(float(schedule(step)), 4) for step in (0, 10, 20, 60, 100, 101)]
    [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]
    """

    def __init__(self, rate, steps, warmup_steps=0):
        self.rate, self.steps, self.warmup_steps = rate, steps, warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        risen = (step + 1e-9) / max(self.warmup_steps, 1e-9)
        left = (self.steps - step) / max(self.steps - self.warmup_steps, 1)
        return self.rate * ops.clip(ops.minimum(risen, left), 0.0, 1.0)

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps, "warmup_steps": self.warmup_steps}


@keras.saving.register_keras_serializable("keras_resnext")
class StepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then a rate that falls to a tenth at some steps.

    Args:
        rate: Learning rate after the warm-up.
        boundaries: Steps from which on it is a tenth of what it was before.
        warmup_steps: Steps over which it rises from 0.

    Example:

    >>> schedule = StepDecay(0.1, [50, 75], warmup_steps=10)
    >>> [round(float(schedule(step)), 4) for step in (5, 49, 50, 75)]
    [0.05, 0.1, 0.01, 0.001]
    """

    def __init__(self, rate, boundaries, warmup_steps=0):
        self.rate, self.boundaries, self.warmup_steps = rate, list(boundaries), warmup_steps

    def __call__(self, step):
        step = ops.cast(step, "float32")
        risen = ops.minimum((step + 1e-9) / max(self.warmup_steps, 1e-9), 1.0)
        fallen = sum(ops.cast(step >= boundary, "float32") for boundary in self.boundaries)
        return self.rate * risen * ops.power(FACTOR, fallen)

    def get_config(self):
        return {
            "rate": self.rate,
            "boundaries": self.boundaries,
            "warmup_steps": self.warmup_steps,
        }


_SCHEDULES = {"linear": _linear, "cosine": _cosine, "step": _step}
