"""The folder of a search: all its processes, on all machines, meet in it and nowhere else.

`state.json` is what the oracle knows. It is replaced as a whole, under the lock, so that a process
killed at any moment leaves what was there before. A trial is `trials/ID`: `trial.json` (what to
do), the folders of its runs, and at the end `result.json`, which makes it finished whatever
becomes of the processes. Whoever works on a trial holds its lock, which the operating system
releases when the process ends: then the others may take the trial up.
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
    """Paths and the lock of a search."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Return whether it holds a search."""
        return (self.path / SEARCH).is_file()

    def locked(self) -> FileLock:
        """Return a context in which no other process changes the state."""
        return FileLock(self.path / LOCK)

    def trial(self, trial_id: str) -> "TrialFolder":
        """Return the folder of a trial."""
        return TrialFolder(self.path / TRIALS / trial_id)

    def trials(self) -> list["TrialFolder"]:
        """Return the folders of all trials that have begun, in their order."""
        specs = (self.path / TRIALS).glob(f"*/{SPEC}")
        return [TrialFolder(p.parent) for p in sorted(specs, key=lambda p: int(p.parent.name))]

    def read(self, name: str) -> dict | None:
        """Return the content of one of its JSON files, or None if it is missing."""
        return read_if_there(self.path / name)

    def write(self, name: str, data: Mapping) -> None:
        """Replace one of its JSON files."""
        write_durably(self.path / name, data)


class TrialFolder:
    """Paths and locks of a trial."""

    def __init__(self, path: Path) -> None:
        self.path, self.id = path, path.name

    def claim(self) -> FileLock | None:
        """Take the lock, and return it; None if another search has it."""
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / LOCK)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return lock

    def working(self) -> FileLock:
        """Return a context that a trial's process waits for and stays in until it ends.

        The process of a search that was killed may live a moment longer than the search.
        """
        return FileLock(self.path / WORKING)

    @property
    def spec(self) -> dict:
        """Return what the trial is to do."""
        return read_json(self.path / SPEC)

    @property
    def result(self) -> dict | None:
        """Return the result, or None while the trial is not finished."""
        return read_if_there(self.path / RESULT)

    def finish(self, result: Mapping) -> None:
        """Write the result and its time."""
        write_durably(self.path / RESULT, {**result, "ended": time.time()})

    def run(self, execution: int) -> Path:
        """Return the folder of an execution, from 0."""
        return self.path / f"run-{execution + 1}"

    def large_files(self, with_models: bool) -> list[Path]:
        """Return what a finished trial does not need: checkpoints and, if wanted, models."""
        names = (CHECKPOINT, RUN_BEST, MODEL) if with_models else (CHECKPOINT, RUN_BEST)
        return [path for name in names for path in self.path.glob(f"run-*/{name}")]

    @property
    def models(self) -> list[Path]:
        """Return the saved models of its executions."""
        return sorted(self.path.glob(f"run-*/{MODEL}"))

    def note(self, event: bytes) -> None:
        """Count that a process `STARTED`, `DIED` of a signal or `STOPPED` with the search."""
        with open(self.path / EVENTS, "ab") as file:
            file.write(event)

    def count(self, event: bytes) -> int:
        """Return how often an event was noted."""
        path = self.path / EVENTS
        return path.read_bytes().count(event) if path.exists() else 0

    @property
    def epochs_done(self) -> int:
        """Return the number of epochs of all its executions so far."""
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
    """Replace a JSON file as a whole, and wait until the disk has it and its name."""
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
