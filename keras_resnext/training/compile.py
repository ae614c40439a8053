"""From a recipe to a compiled model."""

import keras

from keras_resnext.layers import set_schedule_steps
from keras_resnext.training.fine_tune import freeze
from keras_resnext.training.losses import find_loss
from keras_resnext.training.optimizers import build_optimizer, penalise
from keras_resnext.training.recipe import LEARNING_RATE, Recipe
from keras_resnext.training.recipes import get_recipe
from keras_resnext.training.schedules import learning_rate_schedule

# Fewer classes than this make "one of the best five" say nothing.
CLASSES_FOR_TOP5 = 6


def compile_recipe(model: keras.Model, recipe: Recipe | str, steps: int, student=None) -> None:
    """Compile a classifier of one-hot or mixed labels as a recipe says.

    The optimizer, built, with its schedule, what is decayed and penalised, frozen stages, the
    schedules of DropBlock and stochastic depth, the loss, top-1 and (of six classes or more) top-5.
    What is about data, augmentation, mixing and label smoothing, is ``training_batches``'.

    Args:
        model: Built, ends in a softmax or in logits.
        recipe: Or its name. Its learning rate is taken as it is: for a batch of another size
            ``recipe.resolved(dataset)`` changes it in proportion.
        steps: Of the whole training: batches an epoch times epochs.
        student: The part of the model that is trained, if it is not the whole.

    Raises:
        ValueError: For an unknown recipe, or one that does not suit the model.

    Example:

    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt35()
    >>> compile_recipe(model, "adam_l2", steps=1000)
    >>> type(model.optimizer).__name__, len(model.losses) > 30  # a penalty a kernel
    ('Adam', True)
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if recipe.learning_rate is None:
        recipe = recipe.replace(learning_rate=LEARNING_RATE)
    student = student or model
    freeze(student, recipe.freeze)
    penalise(student, 0.0 if recipe.decouples else recipe.decay / 2, recipe.decay_vectors)
    if recipe.drop_ramp:
        set_schedule_steps(student, max(1, round(steps * recipe.drop_ramp)))
    metrics = [keras.metrics.CategoricalAccuracy(name="top1")]
    if student.output_shape[-1] >= CLASSES_FOR_TOP5:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(5, name="top5"))
    model.compile(
        build_optimizer(student, recipe, learning_rate_schedule(recipe, steps)),
        loss=find_loss(student, recipe),
        metrics=metrics,
    )
    # Keras would build it within the first step, which TensorFlow then traces twice.
    model.optimizer.build(model.trainable_variables)
