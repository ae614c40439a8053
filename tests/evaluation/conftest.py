"""A trained network on toy pictures, in the folder of a run."""

import json

import keras
import numpy as np
import pytest
from PIL import Image
from toy import NAMES, SIZE, transformed

from keras_resnext import create_model
from keras_resnext.evaluation.classifier import load_classifier


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """Twelve photographs of two sizes, four of each class, in a folder."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.RandomState(0)
    for number in range(12):
        label = number % 3
        shape = (48, 40, 3) if number % 2 else (36, 50, 3)
        pixels = random.normal((40, 200, 90)[label], 5, shape)
        if label == 2:
            pixels[..., 0] += 120
        pixels[14:20, 12:18] = 0  # every photograph has something dark and something bright
        pixels[14:20, 20:26] = 255
        image = Image.fromarray(np.clip(pixels, 0, 255).astype("uint8"))
        image.save(folder / f"{number:02d}-{NAMES[label]}.{'jpg' if number % 4 else 'png'}")
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory, pictures):
    """What a training run leaves, of a small ResNeXt that knows the three classes."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    folder.mkdir()
    keras.utils.set_random_seed(1)
    shape = {"blocks": (1, 1, 1), "filters": (16, 32, 64)}
    model = create_model("ResNeXt35", classes=3, **shape)
    x = np.stack([transformed(path) for path in sorted(pictures.iterdir())])
    pooled = keras.Model(model.inputs, model.get_layer("avg_pool").output)
    features = np.asarray(pooled.predict_on_batch(x))
    # Least squares in place of epochs.
    kernel = np.linalg.lstsq(features, 6 * np.eye(3)[np.arange(12) % 3], rcond=1e-2)[0]
    model.layers[-1].set_weights([kernel, np.zeros(3)])
    model.save(folder / "model.keras")
    facts = {
        "class_names": NAMES,
        "preprocessing": {
            "image_size": SIZE,
            "resize_shorter_side": 37,
            "mean": (0.4, 0.4, 0.4),
            "std": (0.25, 0.25, 0.25),
        },
    }
    (folder / "config.json").write_text(json.dumps(facts))
    return folder


@pytest.fixture(scope="session")
def classifier(run_folder):
    """It, loaded once: for tests that do not change it."""
    return load_classifier(run_folder)
