"""The main job on whatever backend Keras runs: CI runs this file on each."""

import os
import signal
from io import StringIO

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_resnext import cli
from keras_resnext.data.datasets import Dataset, Part
from keras_resnext.training.environment import device, devices
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.run_folder import read_json
from keras_resnext.training.train import train

pytestmark = pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="all other tests of training are TensorFlow's"
)
SMALL = ("blocks=[1,1,1]", "filters=[8,8,8]", "stem_filters=8")


def test_devices_have_the_names_of_keras():
    assert devices() and all(name.split(":")[0] in ("cpu", "gpu", "tpu") for name in devices())
    if devices() == ["cpu:0"]:
        assert "cores" in device()


def test_the_command_trains_and_its_model_opens(toy, tmp_path):
    line = ["train", "--model", "ResNet20", "--data", str(toy), "--epochs", "1"]
    line += ["--batch-size", "16", "--output", str(tmp_path / "run")]
    for field in (*SMALL, "ema=0.5", "accumulate=2"):
        line += ["--set", field]
    assert cli.main(line) == 0
    summary = read_json(tmp_path / "run" / "summary.json")
    assert (summary["epochs"], summary["backend"]) == (1, keras.backend.backend())
    assert np.isfinite(summary["test_loss"])
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert model.predict(np.zeros((1, 32, 32, 3), "float32"), verbose=0).shape == (1, 2)


class Interrupting(Console):
    """A console that presses Ctrl-C when it prints its eighth line."""

    lines = 0

    def print(self, *arguments, **options):
        self.lines += 1
        if self.lines == 8:
            os.kill(os.getpid(), signal.SIGINT)


def test_ctrl_c_ends_training_between_two_steps(tmp_path):
    labels = np.arange(96) % 2
    images = np.zeros((96, 8, 8, 3), np.uint8)
    images[labels == 1] = 200
    part = Part(images, labels)
    dataset = Dataset("toy", "toy", part, part, ("a", "b"), 8, "shift_flip", 10, 24)
    layers = [
        keras.Input((8, 8, 3)),
        keras.layers.Conv2D(4, 3, use_bias=False),
        keras.layers.BatchNormalization(momentum=0.5),
        keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    model, console = keras.Sequential(layers, name="toy"), Interrupting(file=StringIO())
    summary = train(model, dataset, Recipe(), tmp_path / "run", console=console)
    assert summary["epochs"] == 8 and summary["interrupted"]
    saved = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert int(saved.optimizer.iterations) == 8 * 4 + 1
    assert summary["test_top1"] == 1.0, summary


def test_profile_times_the_step(toy, tmp_path, capsys):
    line = ["profile", "--data", str(toy), "--model", "ResNet20", "--seconds", "0.2"]
    assert cli.main([*line, "--output", str(tmp_path / "p.png")]) == 0
    assert "model" in capsys.readouterr().out
