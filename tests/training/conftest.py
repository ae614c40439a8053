"""A data set and a network that train in a second."""

import keras
import numpy as np
import pytest

from keras_resnext.data.datasets import Dataset, Part


@pytest.fixture
def traced():
    """For a test that is about what TensorFlow makes of a step."""


@pytest.fixture(autouse=True)
def _eager(request):
    """Other tests do not wait for it: tracing a step takes longer than a hundred of them."""
    if "traced" not in request.fixturenames:
        request.getfixturevalue("eagerly")


@pytest.fixture
def dataset():
    """Eight classes of noisy images, told apart by which eighth of the rows is bright."""
    generator = np.random.default_rng(0)

    def part(count):
        labels = np.arange(count) % 8
        images = generator.integers(0, 100, (count, 16, 16, 3))
        for image, label in zip(images, labels, strict=True):
            image[2 * label : 2 * label + 2] += 100
        return Part(images.astype(np.uint8), labels)

    names = tuple("abcdefgh")
    return Dataset("rows", "rows.npz", part(200), part(72), names, 16, "none", 6, 32)


@pytest.fixture
def make_model():
    def make(classes=8, size=16, activation="softmax"):
        keras.utils.set_random_seed(0)
        layers = keras.layers
        return keras.Sequential(
            [
                keras.Input((size, size, 3)),
                layers.Conv2D(8, 3, strides=2, use_bias=False),
                layers.BatchNormalization(momentum=0.8),
                layers.ReLU(),
                layers.Flatten(),
                layers.Dense(classes, activation=activation, dtype="float32"),
            ],
            name="tiny",
        )

    return make


@pytest.fixture
def rows(tmp_path, dataset):
    """The path of the data set as a file, for other processes."""
    path = tmp_path / "rows.npz"
    parts = {"train": dataset.train, "test": dataset.test}
    arrays = {f"x_{name}": part.images for name, part in parts.items()}
    np.savez(path, **arrays, **{f"y_{name}": part.labels for name, part in parts.items()})
    return str(path)
