import json

import keras
import pytest

from keras_resnext.cli import main
from keras_resnext.evaluation import doctor
from keras_resnext.training import precision


def test_it_says_what_is_chosen(capsys):
    assert main(["doctor", "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["keras"] == keras.__version__
    assert found["precision"] == precision.resolve("auto")
    assert found["milliseconds"] == {}
    assert main(["doctor", "--quick"]) == 0
    out = capsys.readouterr().out
    assert keras.__version__ in out and found["precision"] in out
    assert "keras-team/keras#20585" in out


def test_a_step_takes_time(monkeypatch, eagerly):
    monkeypatch.setattr(doctor, "SECONDS", 0)
    assert 0.01 < doctor.timing("float32") < 60_000


@pytest.mark.parametrize(
    "flags, devices, capability, policy",
    [
        ({"avx512_bf16"}, ["cpu:0"], (0, 0), "mixed_bfloat16"),
        ({"avx2"}, ["cpu:0"], (0, 0), "float32"),
        (set(), ["gpu:0"], (8, 0), "mixed_bfloat16"),
        (set(), ["gpu:0"], (7, 5), "mixed_float16"),
        (set(), ["gpu:0"], (6, 1), "float32"),
        (set(), ["tpu:0"], (0, 0), "mixed_bfloat16"),
    ],
)
def test_auto_takes_what_the_device_is_fast_at(monkeypatch, flags, devices, capability, policy):
    monkeypatch.setattr(precision, "processor_flags", lambda: flags)
    monkeypatch.setattr(precision, "gpu_capability", lambda: capability)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda *_: devices)
    assert precision.resolve("auto") == policy
    assert precision.resolve("float32") == "float32"


def test_known_faults_are_told_where_they_hold(monkeypatch):
    monkeypatch.setattr(doctor, "is_x86", lambda: True)
    monkeypatch.setattr(doctor, "_onednn", lambda: False)
    monkeypatch.setattr(keras.distribution, "list_devices", lambda *_: ["gpu:0", "gpu:1"])
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "3.7.0")
    threads = {thread for _, thread in doctor.examine(measure=False)["faults"]}
    assert {"keras-team/keras#21061", "keras-team/keras#21366"} <= threads
    texts = " ".join(text for text, _ in doctor.examine(measure=False)["faults"])
    assert "oneDNN is off" in texts
