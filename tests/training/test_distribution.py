"""One run on two devices, or in two processes, is the run on one."""

import os
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from keras_resnext.training import distribution

RUN = """
import os, sys
import keras, numpy as np
keras.utils.set_random_seed(0)
if os.environ.get("LOGICAL"):
    import tensorflow as tf
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from io import StringIO
from dataclasses import replace
from rich.console import Console
from keras_resnext import ResNetConfig, create_model
from keras_resnext.data.datasets import load_dataset
from keras_resnext.checks import choice
from keras_resnext.training import callbacks
from keras_resnext.training.distribution import distributed, join, synchronize, worker
from keras_resnext.training.train import train
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Machine, Recipe

# No recipe's: here, so that rounding does not grow.
Machine.RULES["precision"] = choice(("float32", "mixed_float16", "float64"))
folder, strategy, policy = sys.argv[1:]
join(strategy)
data = load_dataset(os.environ["DATA"])
config = ResNetConfig(blocks=(1, 1), filters=(8, 8), block="basic", stem="cifar", stem_filters=8,
                      norm_momentum=0.7)
callbacks.SECONDS_BETWEEN_SAVES = 0
recipe = Recipe(learning_rate=0.01, epochs=int(os.environ.get("EPOCHS", 2)), batch_size=32,
                weight_decay=2e-4, ema=0.8, augmentation="none", precision=policy,
                remat="REMAT" in os.environ)
with distributed(strategy):
    with precision(policy):
        model = create_model(config, input_shape=(16, 16, 3), classes=8)
    synchronize(model)
    summary = train(model, data, recipe, folder, resume=True,
                    console=Console(file=open(folder + f"-{worker()[0]}.log", "a")))
np.savez(folder + f"-{worker()[0]}.npz", *[np.asarray(w.value) for w in model.variables])
"""


def start(folder, strategy, policy="float32", **environment):
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(folder), strategy, policy],
        env={**os.environ, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes):
    for process in processes:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err[-3000:]


def weights(path):
    with np.load(path) as file:
        return [file[name] for name in file.files]


def assert_close(ours, expected, rtol=1e-4, atol=1e-5):
    for a, b in zip(weights(ours), weights(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def assert_equal_but_for_the_loss(ours, expected):
    """Up to the float32 in which losses are computed in a network of float64."""
    assert_close(ours, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.only_tensorflow
@pytest.mark.slow
@pytest.mark.parametrize(
    "policy, options",
    [("mixed_float16", {}), ("float32", {"REMAT": "1"})],
    ids=["mixed_float16", "remat"],
)
def test_two_mirrored_devices_are_one(tmp_path, rows, policy, options):
    finish(start(tmp_path / "one", "none", policy, DATA=rows))
    finish(start(tmp_path / "two", "mirrored", policy, LOGICAL="1", DATA=rows, **options))
    if policy == "float32":
        assert_close(tmp_path / "two-0.npz", tmp_path / "one-0.npz")
        histories = [(tmp_path / n / "history.csv").read_text() for n in ("one", "two")]
        losses = [[float(r.split(",")[1]) for r in h.splitlines()[1:]] for h in histories]
        np.testing.assert_allclose(*losses, rtol=1e-4)
    else:  # each device rounds for itself
        pairs = zip(weights(tmp_path / "two-0.npz"), weights(tmp_path / "one-0.npz"), strict=True)
        for a, b in pairs:
            np.testing.assert_allclose(a, b, rtol=0.1, atol=0.02)


def cluster(number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return {
        "KERAS_BACKEND": "jax",
        distribution.ADDRESS: f"127.0.0.1:{port}",
        distribution.WORKERS: str(number),
    }


@pytest.mark.slow
def test_two_processes_on_jax_are_one_killed_or_not(tmp_path, rows):
    """Two that compute activations twice, and two of which one is killed and comes back."""
    pytest.importorskip("jax")
    data = {"DATA": rows, "EPOCHS": "10"}
    one = start(tmp_path / "one", "none", "float64", KERAS_BACKEND="jax", **data)

    def both(name, **options):
        shared = {**data, **cluster(2), **options}
        return [
            start(
                tmp_path / name,
                "multi_worker",
                "float64",
                **{**shared, distribution.WORKER: str(n)},
            )
            for n in range(2)
        ]

    finish(one, *both("remat", REMAT="1"))
    processes = both("killed")
    history = tmp_path / "killed" / "history.csv"
    limit = time.monotonic() + 120
    while not history.is_file() and time.monotonic() < limit:
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGKILL)
    assert processes[0].wait(timeout=200) != 0, "it cannot go on alone, and must not wait forever"
    assert not (tmp_path / "killed" / "summary.json").exists()
    finish(*both("killed"))
    assert len(history.read_text().splitlines()) == 11
    for name in ("remat", "killed"):
        pair = [tmp_path / f"{name}-{n}.npz" for n in range(2)]
        assert_equal_but_for_the_loss(pair[0], tmp_path / "one-0.npz")
        for a, b in zip(*map(weights, pair), strict=True):
            np.testing.assert_array_equal(a, b)
        assert (tmp_path / name / "history.csv").is_file()


def test_what_is_refused(monkeypatch):
    backend = distribution.keras.backend.backend()
    with pytest.raises(ValueError, match='Unknown strategy "horovod"'), _within("horovod"):
        pass
    for name in (distribution.ADDRESS, distribution.WORKERS, distribution.WORKER):
        monkeypatch.delenv(name, raising=False)
    message = "KERAS_DISTRIBUTION_JOB_ADDRESSES" if backend == "jax" else "Set KERAS_BACKEND=jax"
    with pytest.raises(ValueError, match=message):
        distribution.join("multi_worker")
    if backend == "torch":
        with pytest.raises(ValueError, match="needs TensorFlow or JAX"), _within("mirrored"):
            pass


def _within(strategy):
    return distribution.distributed(strategy)


def test_a_worker_that_fails_is_started_again(tmp_path, capfd):
    count = tmp_path / "count"
    script = (
        "import pathlib, sys; p = pathlib.Path(sys.argv[1]); "
        "n = len(p.read_text()) if p.exists() else 0; p.write_text('x' * (n + 1)); "
        "sys.exit(0 if n == 2 else 9)"
    )
    command = [sys.executable, "-c", script, str(count)]
    assert distribution.supervise(command, 1, (0,)) == 9
    assert count.read_text() == "xx"
    assert distribution.supervise(command, 1, (0,)) == 0
    assert "worker ended with 9" in capfd.readouterr().err


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 7), (signal.SIGTERM, 9)])
def test_a_worker_saves_what_it_has_when_all_is_to_end(tmp_path, number, code):
    """It is waited for, and told of SIGTERM, which reaches the process that watches it alone."""
    script = (
        "import os, pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(9))\n"
        "os.kill(os.getppid(), int(sys.argv[1]))\n"
        "time.sleep(1)\n"
        "pathlib.Path(sys.argv[2]).write_text('saved')\n"
        "sys.exit(7)\n"
    )
    command = [sys.executable, "-c", script, str(int(number)), str(tmp_path / "saved")]
    assert distribution.supervise(command, 3 if code == 9 else 0, (0,)) == code
    assert (tmp_path / "saved").exists() == (code == 7)
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
