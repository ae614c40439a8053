"""The data of a run: what it trains on and is tested on, batch by batch."""

from collections.abc import Sequence
from dataclasses import replace

import keras
import numpy as np
import tensorflow as tf

from keras_resnext.data.datasets import Dataset
from keras_resnext.data.mixing import parse_mixing
from keras_resnext.data.pipeline import prepare_training, test_batches
from keras_resnext.layers import Preprocessing
from keras_resnext.training.distribution import devices_of_a_worker, worker
from keras_resnext.training.maps import activation_maps
from keras_resnext.training.recipe import Recipe


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Give the number of steps in an epoch; a last batch that is not full is left out.

    That leaves one shape to compile, and no batch norm over a rest of one image.

    Args:
        dataset: From ``load_dataset``.
        recipe: Resolved.
    """
    return len(dataset.train) // recipe.step_batch


def pipelines(model: keras.Model, dataset: Dataset, recipe: Recipe, answers=None):
    """Give the data of a run; memory is shared by the sizes of its parts.

    Args:
        model: That is trained.
        dataset: From ``load_dataset``.
        recipe: Resolved.
        answers: Of a teacher, for each training image, or None.

    Returns:
        Training as ``assemble`` takes it, and test batches.
    """
    budget = recipe.memory_budget
    share = len(dataset.train) / (len(dataset.train) + len(dataset.test))
    mixing = parse_mixing(recipe.mixing)
    training = prepare_training(
        dataset,
        recipe.step_batch,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
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
        tested(dataset, recipe),
        recipe.step_batch,
        cache=recipe.cache,
        memory_budget=None if budget is None else int(budget * (1 - share)),
        crop=recipe.test_crop,
    )
    devices = devices_of_a_worker()
    if devices > 1:  # each gets as many images
        test = test.map(
            lambda x, y: tuple(t[: tf.shape(t)[0] // devices * devices] for t in (x, y))
        )
        test = test.filter(lambda x, y: tf.shape(x)[0] > 0)
    if answers is not None:
        nothing = np.zeros_like(answers[:1])
        test = test.map(lambda x, y: ((x, tf.repeat(nothing, tf.shape(x)[0], axis=0)), y))
    return training, test


def tested(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Give a data set as it is tested on: with images of that size.

    Args:
        dataset: From ``load_dataset``.
        recipe: For the size.
    """
    return replace(dataset, image_size=recipe.test_size or dataset.image_size)


def test_preprocessing(size: int, edge: int, mean: Sequence, std: Sequence) -> Preprocessing:
    """Give the layer that prepares an image as those of a run's test are.

    Args:
        size: Pixels of the square that the network takes.
        edge: Pixels of the shorter side before the crop.
        mean, std: Of each channel, of pixels from 0 to 1.
    """
    return Preprocessing(size, size / edge, mean=mean, std=std, resize_fitting=False)
