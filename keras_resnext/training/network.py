"""From a recipe to a network."""

import dataclasses

import keras

from keras_resnext.applications import create_model
from keras_resnext.data.datasets import Dataset
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.training.fine_tune import fine_tuned_model
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Recipe


def network_for(
    name: str, dataset: Dataset, recipe: Recipe, weights: str | None = None, **overrides
) -> keras.Model:
    """Build the network that a recipe trains.

    Args:
        name: That ``list_models()`` gives, or "keras:" and a name of keras.applications.
        dataset: For the image size and the classes.
        recipe: For the precision, the seed, and its fields of the network's configuration; those
            that the network does not have are left out.
        weights: To go on from, as in ``create_model``; the classifier is new.
        **overrides: Further fields of the configuration, or others than the recipe's.

    Returns:
        A functional model, not compiled.

    Raises:
        ValueError: As ``create_model``.

    Example:

    >>> from keras_resnext.data.datasets import load_dataset
    >>> network_for("ResNet20", load_dataset("digits"), Recipe()).output_shape
    (None, 10)
    """
    keras.utils.set_random_seed(recipe.seed)
    other_test = recipe.test_size not in (None, dataset.image_size)
    edge = None if other_test else dataset.image_size
    build = fine_tuned_model if weights else create_model
    with precision(recipe.precision):
        return build(
            name,
            weights=weights,
            input_shape=(edge, edge, 3),
            classes=dataset.classes,
            classifier_activation=None if recipe.loss == "binary_cross_entropy" else "softmax",
            **{**fitting(name, recipe.network), **overrides},
        )


def fitting(name: str, network: dict) -> dict:
    """Give those fields that the configuration of a network has.

    Args:
        name: Of the network.
        network: Fields and their values.

    Example:

    >>> fitting("InceptionV3", {"zero_gamma": True, "norm_momentum": 0.99})
    {'norm_momentum': 0.99}
    """
    if is_baseline(name):
        return {}
    known = {field.name for field in dataclasses.fields(variants.get(name).config)}
    return {key: value for key, value in network.items() if key in known}
