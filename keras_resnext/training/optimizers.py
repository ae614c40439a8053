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
    """Return the optimizer of a recipe, not built.

    Args:
        model: A built `keras.Model`, for what is a kernel and what is not.
        recipe: Recipe, resolved.
        schedule: The learning rate, or a schedule of it.
    """
    optimizer = _OPTIMIZERS[recipe.optimizer](recipe, schedule, _shared(recipe))
    if optimizer.weight_decay and not recipe.decay_vectors:
        optimizer.exclude_from_weight_decay(var_list=vectors(model))
    return optimizer


def vectors(model: keras.Model) -> list[Variable]:
    """Return the trainable variables of a built model that are no kernels."""
    return [variable for variable in model.trainable_variables if len(variable.shape) < 2]


def penalize(model: keras.Model, l2: float, with_vectors: bool = False) -> None:
    """Add `l2 * |w|^2` to the loss for every kernel of a model.

    Args:
        model: A built `keras.Model`. Its layers take the penalty into their configurations.
        l2: float, factor of `keras.regularizers.L2`; 0 restores what was there before an earlier
            call.
        with_vectors: bool, whether batch norms and biases are penalized too.

    Example:
    >>> dense = keras.layers.Dense(2, kernel_initializer="ones")
    >>> model = keras.Sequential([keras.Input((3,)), dense])
    >>> penalize(model, 0.5)
    >>> float(sum(model.losses))
    3.0
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
    """Set the regularizer of a layer or a variable; None sets the one it was built with."""
    if not hasattr(owner, "built_regularizer"):
        owner.built_regularizer = getattr(owner, name)
    setattr(owner, name, owner.built_regularizer if regularizer is None else regularizer)


def _shared(recipe: Recipe) -> dict:
    """Return the arguments of every optimizer of Keras."""
    return {
        "weight_decay": (recipe.decouples and recipe.decay) or None,
        "global_clipnorm": recipe.clip_norm,
        "use_ema": recipe.ema > 0,
        # Keras averages at every step, also if several make one update.
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
    """Return the stage in a layer's or a weight's name: 0 for the stem, None for the top.

    Example:
    >>> stage_of("stage2_block1_conv2/kernel"), stage_of("stem_conv"), stage_of("predictions")
    (2, 0, None)
    """
    if name.startswith("stem"):
        return 0
    match = re.match(r"stage(\d+)_", name)
    if match:
        return int(match[1])
    return STAGES if name.startswith("features") else None


@keras.saving.register_keras_serializable("keras_resnext")
class StagewiseSGD(keras.optimizers.SGD):
    """SGD whose learning rate falls from the classifier down to the stem.

    The classifier learns at the given rate, each stage below it at `stage_decay` times the rate
    of the one above (Howard and Ruder, 2018, call it discriminative fine-tuning). Weights decay
    at the rates of their stages, too. `keras.optimizers.MultiOptimizer` would clip the gradients of
    each stage by itself, and order the variables otherwise than the checkpoints of earlier runs.

    Args:
        learning_rate: float or schedule, as in `keras.optimizers.SGD`.
        stage_decay: float, 0 < stage_decay <= 1.
        **kwargs: Further arguments of `keras.optimizers.SGD`.

    Raises:
        ValueError: If `stage_decay` is out of its range, or on the PyTorch backend, where Keras
            updates all weights at once.

    Reference:
        [Howard and Ruder, 2018, section 3.2](https://arxiv.org/abs/1801.06146)

    Example:
    >>> optimizer = StagewiseSGD(0.1, stage_decay=0.5)
    >>> [optimizer.factor(name) for name in ("predictions/kernel", "stage4_block1_conv1/kernel")]
    [1.0, 0.5]
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
        """Leave it to `update_step`, where each stage has a rate of its own."""
        if self.stage_decay == 1:
            super()._apply_weight_decay(variables)

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
        # TensorFlow's optimizers hand over its own variable, which has the path as its name.
        name = getattr(variable, "path", variable.name)
        rate = learning_rate * self.factor(name)
        if self.stage_decay != 1 and self.weight_decay and self._use_weight_decay(variable):
            decay = ops.cast(rate * self.weight_decay, variable.dtype)
            self.assign(variable, variable - variable * decay)
        super().update_step(gradient, variable, rate)

    def get_config(self) -> dict:
        return {**super().get_config(), "stage_decay": self.stage_decay}


@keras.saving.register_keras_serializable("keras_resnext")
class LAMB(keras.optimizers.Lamb):
    """Adam whose step in each weight tensor is scaled to the size of the tensor.

    `weight_decay` is part of the step before it is scaled, as it was published;
    `keras.optimizers.Lamb` subtracts it separately. What is not decayed (batch norms and biases)
    is not scaled either, as in timm.

    Args:
        **kwargs: As in `keras.optimizers.Lamb`.

    Reference:
        [You et al., 2020, algorithm 2](https://arxiv.org/abs/1904.00962)

    Example:
    >>> optimizer = LAMB(0.1, weight_decay=0.02)
    >>> weight = keras.Variable([[3.0, 4.0]])
    >>> optimizer.build([weight])
    >>> optimizer.apply([ops.zeros((1, 2))])  # all that is left is the decay, of unit length
    >>> [round(float(w), 2) for w in weight[0]]
    [2.7, 3.6]
    """

    def _apply_weight_decay(self, variables: list) -> None:
        """Leave it to `update_step`."""

    def update_step(self, gradient: Tensor, variable: Variable, learning_rate: Tensor) -> None:
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
    """Return a copy of a variable's value, outside of a step, on one device or several.

    On JAX the next step takes over what the variable holds.
    """
    value = variable.value
    # Under tf.distribute NumPy cannot read the copies of several devices.
    value = value.read_value() if hasattr(value, "read_value") else value
    return np.array(ops.convert_to_numpy(value))


def inner(optimizer: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Return the optimizer itself if Keras has wrapped it to scale the loss."""
    return getattr(optimizer, "inner_optimizer", optimizer)


@contextmanager
def averaged(model: keras.Model) -> Iterator[None]:
    """Replace the weights of a compiled model by the average that its optimizer keeps, if any.

    Keras's `SwapEMAWeights` swaps by adding and subtracting, which rounds; here every weight
    returns as it was, to the last bit.
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
