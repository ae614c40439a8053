"""Every recipe, small, from the first step to the file that comes of it."""

import csv
import math
import os
from io import StringIO

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.parts import take
from keras_resnext.training.build import network_for
from keras_resnext.training.recipes import RECIPES, get_recipe
from keras_resnext.training.train import train

# The last of a chain has what those before it have: they are traced, in half precision.
LAST = RECIPES if "SOAK" in os.environ else ("a1", "adam_l2", "e12", "fine_tuning")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """Of random weights: what is learnt from it is not looked at here."""
    path = tmp_path_factory.mktemp("teacher") / "teacher.keras"
    keras.Sequential(
        [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, strides=4),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    ).save(path)
    return str(path)


@pytest.fixture(scope="module")
def digits():
    from dataclasses import replace

    whole = load_dataset("digits", 64)
    return replace(whole, train=take(whole.train, range(32)), test=take(whole.test, range(16)))


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(tmp_path, digits, teacher, name):
    train_small(tmp_path, digits, teacher, name, "float32")


@pytest.mark.slow
@pytest.mark.parametrize("name", LAST)
def test_recipes_train_in_half_precision(tmp_path, digits, teacher, name, traced):
    train_small(tmp_path, digits, teacher, name, "mixed_float16")


def train_small(folder, digits, teacher, name, policy):
    recipe = get_recipe(name).smoke().replace(precision=policy)
    if recipe.distilled:
        recipe = recipe.replace(teacher=teacher)
    model = network_for(recipe.model, digits, recipe)
    summary = train(model, digits, recipe, folder / "run", console=Console(file=StringIO()))
    rows = list(csv.DictReader((folder / "run" / "history.csv").read_text().splitlines()))
    assert len(rows) == summary["epochs"] == 2
    assert all(math.isfinite(float(row[k])) for row in rows for k in ("loss", "val_loss"))
    saved = keras.saving.load_model(folder / "run" / "model.keras")
    size = recipe.test_size or 64
    images = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("float32")
    np.testing.assert_allclose(
        saved(images), model(images), atol=2e-2 if policy != "float32" else 1e-4
    )
