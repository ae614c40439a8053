"""The main job on whatever backend Keras runs: CI runs this file on each."""

import keras
import numpy as np
import pytest

from keras_resnext import cli
from keras_resnext.training.environment import device, devices
from keras_resnext.training.run_folder import read_json

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


def test_profile_times_the_step(toy, tmp_path, capsys):
    line = ["profile", "--data", str(toy), "--model", "ResNet20", "--seconds", "0.2"]
    assert cli.main([*line, "--output", str(tmp_path / "p.png")]) == 0
    assert "model" in capsys.readouterr().out
