"""A search whose trials train nothing, and the smallest data that a real one could train on."""

import pathlib
import sys

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor

from keras_resnext.search import driver, processes
from keras_resnext.search import folder as folder_module
from keras_resnext.search.space import Space

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))

import pretend  # noqa: E402


@pytest.fixture
def space():
    """Of 15 points, none of which fails."""
    return Space(
        model="ResNeXt35",
        budget={"macs": "ResNeXt35"},
        vary={"cardinality": [1, 2, 4, 8, 16], "label_smoothing": [0.0, 0.01, 0.02]},
        fixed={"epochs": 9},
    )


@pytest.fixture
def pretending(monkeypatch):
    """Trials are processes, of `pretend.py`."""
    monkeypatch.setattr(processes, "TRIAL", (sys.executable, str(HERE / "pretend.py")))


@pytest.fixture
def at_once(monkeypatch):
    """Trials are no processes: each is done when it is started, and counted."""
    return run_at_once(monkeypatch)


@pytest.fixture(scope="module")
def at_once_in_module():
    """The same for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        yield run_at_once(patch)


def run_at_once(monkeypatch):
    started = []

    class Done:
        stdin = open("/dev/null", "wb")  # noqa: SIM115 (for as long as the tests run)
        returncode = 0

        def __init__(self, command, **_):
            folder = processes.TrialFolder(pathlib.Path(command[len(processes.TRIAL)]))
            started.append(folder.id)
            folder.finish(pretend.run(folder))

        def poll(self):
            return 0

    monkeypatch.setattr(processes.subprocess, "Popen", Done)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_LOOKS", 0)
    monkeypatch.setattr(folder_module.os, "fsync", lambda descriptor: None)
    fit = GaussianProcessRegressor.fit

    def fit_once(gpr, x, y):
        return fit(gpr.set_params(n_restarts_optimizer=0), x, y)

    monkeypatch.setattr(GaussianProcessRegressor, "fit", fit_once)
    return started


@pytest.fixture
def arrays():
    """Four classes of 16x16 images, told apart by the quarter that is bright."""
    generator = np.random.default_rng(0)
    labels = np.arange(80) % 4
    images = generator.integers(0, 80, (80, 16, 16, 3)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[4 * label : 4 * label + 4] += 120
    return {
        "x_train": images[:60],
        "y_train": labels[:60],
        "x_test": images[60:],
        "y_test": labels[60:],
    }
