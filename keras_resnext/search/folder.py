"""The folder of a search, through which all its processes communicate.

`state.json` is replaced atomically, under the lock. A trial that has no `result.json`, and whose
lock is free because its process was killed, may be resumed by any other.
"""

import os
import shlex
import time
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout

from keras_resnext.training.run_folder import BEST as RUN_BEST
from keras_resnext.training.run_folder import CHECKPOINT, HISTORY, MODEL, read_json, write_json

SEARCH, STATE, TRIALS = "search.json", "state.json", "trials"
SPEC, RESULT, LOG = "trial.json", "result.json", "log.txt"
LOCK, WORKING, EVENTS = "lock", "working", "events"
STARTED, DIED, STOPPED = b".", b"x", b"-"
BEST, RECIPE, TABLE, REPORT = "best", "recipe.json", "trials.csv", "report.html"


class Folder:
    """The paths and the lock of a search."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Return whether it contains a search."""
        return (self.path / SEARCH).is_file()

    def locked(self) -> FileLock:
        """Return a context in which no other process changes the state."""
        return FileLock(self.path / LOCK)

    def trial(self, trial_id: str) -> "TrialFolder":
        """Return the folder of a trial."""
        return TrialFolder(self.path / TRIALS / trial_id)

    def trials(self) -> list["TrialFolder"]:
        """Return the folders of all trials that have begun, in order."""
        specs = (self.path / TRIALS).glob(f"*/{SPEC}")
        return [TrialFolder(p.parent) for p in sorted(specs, key=lambda p: int(p.parent.name))]

    def read(self, name: str) -> dict | None:
        """Return the content of a JSON file, or None if it is missing."""
        return read_if_there(self.path / name)

    def write(self, name: str, data: Mapping) -> None:
        """Replace a JSON file."""
        write_durably(self.path / name, data)


class TrialFolder:
    """The paths and locks of a trial."""

    def __init__(self, path: Path) -> None:
        self.path, self.id = path, path.name

    def claim(self) -> FileLock | None:
        """Acquire the lock and return it, or None if another search holds it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def working(self) -> FileLock:
        """Return the lock with which a trial's process waits until its predecessor has ended."""
        return FileLock(self.path / WORKING)

    @property
    def spec(self) -> dict:
        """Return the settings of the trial."""
        return read_json(self.path / SPEC)

    @property
    def result(self) -> dict | None:
        """Return the result, or None if the trial has not finished."""
        return read_if_there(self.path / RESULT)

    def finish(self, result: Mapping) -> None:
        """Write the result and its time."""
        write_durably(self.path / RESULT, {**result, "ended": time.time()})

    def run(self, execution: int) -> Path:
        """Return the folder of an execution, from 0."""
        return self.path / f"run-{execution + 1}"

    def large_files(self, with_models: bool) -> list[Path]:
        """Return what a finished trial does not need: checkpoints and, optionally, models."""
        names = (CHECKPOINT, RUN_BEST, MODEL) if with_models else (CHECKPOINT, RUN_BEST)
        return [path for name in names for path in self.path.glob(f"run-*/{name}")]

    @property
    def models(self) -> list[Path]:
        """Return the saved models of its executions."""
        return sorted(self.path.glob(f"run-*/{MODEL}"))

    def note(self, event: bytes) -> None:
        """Count a process that `STARTED`, `DIED` of a signal, or `STOPPED` with the search."""
        with open(self.path / EVENTS, "ab") as file:
            file.write(event)

    def count(self, event: bytes) -> int:
        """Return the number of such events."""
        path = self.path / EVENTS
        return path.read_bytes().count(event) if path.exists() else 0

    @property
    def epochs_done(self) -> int:
        """Return the number of epochs of all executions so far."""
        return sum(max(0, _lines(p) - 1) for p in self.path.glob(f"run-*/{HISTORY}"))


def training_command(folder: Folder) -> str:
    """Return the command that trains the best configuration on all training images."""
    settings = folder.read(SEARCH)
    command = ["keras-resnext", "train", "--recipe", str(folder.path / BEST / RECIPE)]
    command += ["--data", settings["data"], "--image-size", str(settings["image_size"])]
    weights = settings["space"]["weights"]
    return shlex.join([*command, *(["--weights", weights] if weights else [])])


def read_if_there(path: Path) -> dict | None:
    """Return the content of a JSON file, or None if it is missing."""
    return read_json(path) if path.exists() else None


def write_durably(path: Path, data: Mapping) -> None:
    """Replace a JSON file atomically, and wait until it is on the disk."""
    write_json(path, data)
    for name in (path, path.parent):
        descriptor = os.open(name, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _lines(path: Path) -> int:
    try:
        return path.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0
