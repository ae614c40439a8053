"""The optimizers of recipes, what they decay, and the average of the weights that they keep."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np
from keras import ops

from keras_resnext.checks import check, number
from keras_resnext.training.recipe import Recipe

STAGES = 4
Schedule = keras.optimizers.schedules.LearningRateSchedule
Tensor, Variable = keras.KerasTensor, keras.Variable


def build_optimizer(
    model: keras.Model, recipe: Recipe, schedule: Schedule | float
) -> keras.optimizers.Optimizer:
    """Return the optimizer of a resolved recipe, not built."""
    optimizer = _OPTIMIZERS[recipe.optimizer](recipe, schedule, _shared(recipe))
    if optimizer.weight_decay and not recipe.decay_vectors:
        optimizer.exclude_from_weight_decay(var_list=vectors(model))
    return optimizer


def vectors(model: keras.Model) -> list[Variable]:
    """Return the trainable variables of a built model that are not kernels."""
    return [variable for variable in model.trainable_variables if len(variable.shape) < 2]


def penalize(model: keras.Model, l2: float, with_vectors: bool = False) -> None:
    """Add `l2 * |w|^2` to the loss for every kernel of a built model.

    The layers' configurations include the penalty. `l2=0` restores what an earlier call replaced.
    """
    regularizer = keras.regularizers.L2(l2) if l2 else None
    for layer in model._flatten_layers(include_self=False):
        if hasattr(layer, "kernel_regularizer"):
            _regularize(layer, "kernel_regularizer", regularizer)
    for variable in model.variables:
        wanted = variable.trainable and (with_vectors or len(variable.shape) >= 2)
        _regularize(variable, "regularizer", regularizer if wanted else None)


def _regularize(
    owner: keras.Layer | keras.Variable, name: str, regularizer: keras.Regularizer | None
) -> None:
    """Set the regularizer of a layer or a variable; None restores the one it was built with."""
    if not hasattr(owner, "built_regularizer"):
        owner.built_regularizer = getattr(owner, name)
    setattr(owner, name, owner.built_regularizer if regularizer is None else regularizer)


def _shared(recipe: Recipe) -> dict:
    """Return the arguments that all optimizers have in common."""
    return {
        "weight_decay": (recipe.decouples and recipe.decay) or None,
        "global_clipnorm": recipe.clip_norm,
        "use_ema": recipe.ema > 0,
        # Keras averages at every step, even if several make one update.
        "ema_momentum": recipe.ema ** (1 / recipe.accumulate),
        "gradient_accumulation_steps": recipe.accumulate if recipe.accumulate > 1 else None,
    }


def _sgd(recipe: Recipe, schedule: Schedule | float, shared: dict) -> "StagewiseSGD":
    nesterov = recipe.nesterov and recipe.momentum > 0
    return StagewiseSGD(
        schedule,
        stage_decay=recipe.stage_decay,
        momentum=recipe.momentum,
        nesterov=nesterov,
        **shared,
    )


def stage_of(name: str) -> int | None:
    """Return the stage in a layer's or a weight's name: 0 for the stem, None for the classifier."""
    if name.startswith("stem"):
        return 0
    match = re.match(r"stage(\d+)_", name)
    if match:
        return int(match[1])
    return STAGES if name.startswith("features") else None


@keras.saving.register_keras_serializable("keras_resnext")
class StagewiseSGD(keras.optimizers.SGD):
    """SGD with a learning rate per stage, which falls from the classifier down to the stem.

    Each stage learns, and decays, at `stage_decay` times the rate of the one above (arXiv
    1801.06146, section 3.2). `keras.optimizers.MultiOptimizer` would clip the gradients of each
    stage separately, and order the variables differently than earlier checkpoints.
    """

    def __init__(
        self, learning_rate: Schedule | float = 0.01, stage_decay: float = 1.0, **kwargs: object
    ) -> None:
        super().__init__(learning_rate, **kwargs)
        check("stage_decay", stage_decay, number(above=0, most=1))
        if stage_decay != 1 and keras.backend.backend() == "torch":
            raise ValueError("`stage_decay` has no effect on the PyTorch backend: leave it at 1.")
        self.stage_decay = stage_decay

    def factor(self, name: str) -> float:
        """Return the factor of the learning rate for a weight's name."""
        stage = stage_of(name)
        return 1.0 if stage is None else float(self.stage_decay) ** (STAGES + 1 - stage)

    def _apply_weight_decay(self, variables: list) -> None:
        """Leave it to `update_step`, where the rate of the stage is known."""
        if self.stage_decay == 1:
            super()._apply_weight_decay(variables)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Update a variable at the rate of its stage."""
        # On TensorFlow this is a `tf.Variable`, whose name is the path.
        name = getattr(variable, "path", variable.name)
        rate = learning_rate * self.factor(name)
        if self.stage_decay != 1 and self.weight_decay and self._use_weight_decay(variable):
            decay = ops.cast(rate * self.weight_decay, variable.dtype)
            self.assign(variable, variable - variable * decay)
        super().update_step(gradient, variable, rate)

    def get_config(self) -> dict:
        """Return the arguments of the constructor."""
        return {**super().get_config(), "stage_decay": self.stage_decay}


@keras.saving.register_keras_serializable("keras_resnext")
class LAMB(keras.optimizers.Lamb):
    """Adam whose step in each weight tensor is scaled to the tensor's norm (arXiv 1904.00962).

    Unlike in `keras.optimizers.Lamb`, weight decay is part of the step before it is scaled, as
    published. Tensors that are not decayed (batch norms and biases) are not scaled, as in timm.
    """

    def _apply_weight_decay(self, variables: list) -> None:
        """Leave it to `update_step`."""

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        """Update a variable and its moments."""
        index, dtype = self._get_variable_index(variable), variable.dtype
        rate, gradient = ops.cast(learning_rate, dtype), ops.cast(gradient, dtype)
        step = ops.cast(self.iterations + 1, dtype)
        mean, square = self._momentums[index], self._velocities[index]
        self.assign(mean, mean + (gradient - mean) * (1 - self.beta_1))
        self.assign(square, square + (gradient * gradient - square) * (1 - self.beta_2))
        unbiased = mean / (1 - ops.power(ops.cast(self.beta_1, dtype), step))
        scale = square / (1 - ops.power(ops.cast(self.beta_2, dtype), step))
        update = unbiased / (ops.sqrt(scale) + self.epsilon)
        if self.weight_decay and self._use_weight_decay(variable):
            update = update + self.weight_decay * variable
            rate = rate * _trust(_length(variable), _length(update))
        self.assign(variable, variable - rate * update)


def _length(tensor: Tensor) -> Tensor:
    return ops.sqrt(ops.sum(ops.square(tensor)))


def _trust(weight: Tensor, update: Tensor) -> Tensor:
    """Return the ratio of two norms, 1 if either is 0."""
    sound = ops.logical_and(weight > 0, update > 0)
    return ops.where(sound, weight / ops.where(sound, update, 1.0), 1.0)


_OPTIMIZERS: dict[str, Callable] = {
    "sgd": _sgd,
    "adam": lambda recipe, schedule, shared: keras.optimizers.Adam(schedule, **shared),
    "adamw": lambda recipe, schedule, shared: keras.optimizers.AdamW(schedule, **shared),
    "lamb": lambda recipe, schedule, shared: LAMB(schedule, epsilon=1e-6, **shared),
}


def value_of(variable: Variable) -> np.ndarray:
    """Return a copy of a variable's value: on JAX the next step reuses its memory."""
    value = variable.value
    # Under tf.distribute NumPy cannot read the copies of several devices.
    value = value.read_value() if hasattr(value, "read_value") else value
    return np.array(ops.convert_to_numpy(value))


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer inside the one with which Keras scales the loss, or itself."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Replace the weights of a compiled model by their average in this context, if there is one.

    Keras's `SwapEMAWeights` rounds; here every weight is restored to the last bit.
    """
    optimizer = inner(model.optimizer) if model.optimizer else None
    if optimizer is None or not optimizer.use_ema or not optimizer.built:
        yield
        return
    trained = optimizer._trainable_variables
    before = [value_of(variable) for variable in trained]
    for variable, average in zip(trained, optimizer._model_variables_moving_average, strict=True):
        variable.assign(value_of(average))
    try:
        yield
    finally:
        for variable, value in zip(trained, before, strict=True):
            variable.assign(value)
