"""The second step of a run: its network, optimizer, loss and batches."""

import dataclasses
from dataclasses import dataclass

import keras
import numpy as np
import tensorflow as tf

from keras_resnext.applications import create_model
from keras_resnext.data.datasets import Dataset
from keras_resnext.data.mixing import Mixing
from keras_resnext.data.pipeline import Training, prepare_training, test_batches
from keras_resnext.layers import Preprocessing, set_schedule_steps
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.models.description import can_be_described, describe
from keras_resnext.models.remat import remat_model
from keras_resnext.training.distillation import load_teacher, stored_answers, taught_model
from keras_resnext.training.distribution import devices_of_a_worker, worker
from keras_resnext.training.fine_tune import fine_tuned_model, freeze
from keras_resnext.training.losses import find_loss
from keras_resnext.training.maps import activation_maps
from keras_resnext.training.optimizers import build_optimizer, penalize
from keras_resnext.training.plan import Plan, as_tested
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Recipe, own_rate
from keras_resnext.training.recipes import get_recipe
from keras_resnext.training.schedules import learning_rate_schedule

# With fewer classes than this, top-5 accuracy says nothing.
CLASSES_FOR_TOP5 = 6


def network_for(
    name: str, dataset: Dataset, recipe: Recipe, weights: str | None = None, **overrides: object
) -> keras.Model:
    """Build the network that a recipe trains.

    Args:
        name: str, a name that `list_models()` has, or "keras:" and a name of keras.applications.
        dataset: Dataset, for the image size and the classes.
        recipe: Recipe, for the precision, the seed, and those of its configuration fields that the
            network has.
        weights: str, pretrained weights as in `create_model`; the classifier is new.
        **overrides: Further fields of the configuration; they take precedence over the recipe's.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        ValueError: As `create_model`.

    Example:
    >>> from keras_resnext.data.datasets import load_dataset
    >>> network_for("ResNet20", load_dataset("digits"), Recipe()).output_shape
    (None, 10)
    """
    keras.utils.set_random_seed(recipe.seed)
    other_test = recipe.test_size not in (None, dataset.image_size)
    edge = None if other_test else dataset.image_size
    create = fine_tuned_model if weights else create_model
    with precision(recipe.precision):
        return create(
            name,
            weights=weights,
            input_shape=(edge, edge, 3),
            classes=dataset.classes,
            classifier_activation=None if recipe.loss == "binary_cross_entropy" else "softmax",
            **{**fitting(name, recipe.network), **overrides},
        )


def fitting(name: str, network: dict) -> dict:
    """Return those of the given fields that a network's configuration has."""
    if is_baseline(name):
        return {}
    known = {field.name for field in dataclasses.fields(variants.get(name).config)}
    return {key: value for key, value in network.items() if key in known}


@dataclass(frozen=True, eq=False)
class Built:
    """What the loop runs.

    `trained` is what `fit` is called on: the compiled network, or a model around it (teacher,
    remat).
    """

    trained: keras.Model
    training: Training
    test: tf.data.Dataset


def build(plan: Plan) -> Built:
    """Build what a plan needs: teacher, compiled model, batches."""
    model, recipe, answers = plan.model, plan.recipe, None
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    trained = model
    if recipe.distilled:
        teacher = load_teacher(recipe.teacher, plan.dataset)
        trained = taught_model(model, teacher, recipe)
    if recipe.remat:
        trained = remat_model(trained, plan.dataset.image_size)
    compile_recipe(trained, recipe, plan.total_steps, student=model)
    if recipe.distilled and recipe.teacher_stored:
        answers = stored_answers(teacher, plan.dataset, recipe)
    training, test = pipelines(model, plan.dataset, recipe, plan.mixing, answers)
    if can_be_described(model):  # for `predict` and `export`
        seen = plan.tested
        layer = test_preprocessing(seen.image_size, plan.test_edge, seen.mean, seen.std)
        describe(model, layer, seen.class_names)
    return Built(trained, training, test)


def compile_recipe(
    model: keras.Model, recipe: Recipe | str, steps: int, student: keras.Model | None = None
) -> None:
    """Compile a classifier of one-hot or mixed labels as a recipe says.

    This sets the optimizer (built), its schedule, weight decay, frozen stages, the schedules of
    DropBlock and stochastic depth, the loss, top-1 and, with six classes or more, top-5 accuracy.
    Augmentation, mixing and label smoothing are left to `training_batches`.

    Args:
        model: A built `keras.Model` that ends in a softmax or in logits.
        recipe: Recipe, or its name. Its learning rate is not scaled to the batch size: use
            `recipe.resolved(dataset)` for that.
        steps: int, steps of the whole training: batches per epoch times epochs.
        student: The part of the model that is trained, if it is not the whole.

    Raises:
        ValueError: If the recipe is unknown, or does not suit the model.

    Example:
    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt35()
    >>> compile_recipe(model, "adam_l2", steps=1000)
    >>> type(model.optimizer).__name__, len(model.losses) > 30  # a penalty per kernel
    ('Adam', True)
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if recipe.learning_rate is None:
        recipe = recipe.replace(learning_rate=own_rate(recipe.optimizer, batch_size=64))
    student = student or model
    freeze(student, recipe.freeze)
    penalize(student, 0.0 if recipe.decouples else recipe.decay / 2, recipe.decay_vectors)
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
    # Otherwise Keras builds it within the first step, which TensorFlow then traces twice.
    model.optimizer.build(model.trainable_variables)


def pipelines(
    model: keras.Model,
    dataset: Dataset,
    recipe: Recipe,
    mixing: Mixing,
    answers: np.ndarray | None = None,
) -> tuple[Training, tf.data.Dataset]:
    """Return the training data and the test batches of a run.

    Both share the memory budget in proportion to their sizes. `answers` are a teacher's
    probabilities (count, classes) for the training images.
    """
    budget = recipe.memory_budget
    share = len(dataset.train) / (len(dataset.train) + len(dataset.test))
    training = prepare_training(
        dataset,
        recipe.step_batch,
        seed=recipe.seed,
        mixing=mixing,
        label_smoothing=recipe.label_smoothing,
        smoothing_over=recipe.smoothing_over,
        drop_remainder=True,
        cache=recipe.cache,
        memory_budget=None if budget is None else int(budget * share),
        maps=activation_maps(model) if mixing.needs_maps else None,
        teacher_probabilities=answers,
        worker=worker(),
    )
    test = test_batches(
        as_tested(dataset, recipe),
        recipe.step_batch,
        cache=recipe.cache,
        memory_budget=None if budget is None else int(budget * (1 - share)),
        crop=recipe.test_crop,
    )
    devices = devices_of_a_worker()
    if devices > 1:  # all get equally many images
        test = test.map(
            lambda x, y: tuple(t[: tf.shape(t)[0] // devices * devices] for t in (x, y))
        )
        test = test.filter(lambda x, y: tf.shape(x)[0] > 0)
    if answers is not None:
        nothing = np.zeros_like(answers[:1])
        test = test.map(lambda x, y: ((x, tf.repeat(nothing, tf.shape(x)[0], axis=0)), y))
    return training, test


def test_preprocessing(size: int, edge: int, mean: tuple, std: tuple) -> Preprocessing:
    """Return the layer that prepares an image as a run's test images are prepared.

    `edge` is the shorter side in pixels before the crop to `size`; `mean` and `std` are per
    channel, for pixels from 0 to 1.
    """
    return Preprocessing(size, size / edge, mean=mean, std=std, resize_fitting=False)


test_preprocessing.__test__ = False
