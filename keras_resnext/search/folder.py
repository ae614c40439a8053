"""The folder of a search: all its processes, on all machines, meet in it and nowhere else.

``state.json`` is what the oracle knows. It is replaced whole, under the lock, so that a process
killed at any moment leaves what was there before. A trial is ``trials/ID``: ``trial.json`` (what to
do), the folders of its runs, and at the end ``result.json``, which makes it finished whatever
becomes of the processes. Whoever works on a trial holds its lock, which the operating system takes
away from a process that is no more: that is how the others know that it is free again.
"""

import fcntl
import os
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from keras_resnext.training.run_folder import BEST as RUN_BEST
from keras_resnext.training.run_folder import CHECKPOINT, HISTORY, MODEL, read_json, write_json

SEARCH, STATE, TRIALS = "search.json", "state.json", "trials"
SPEC, RESULT, LOG = "trial.json", "result.json", "log.txt"
LOCK, EVENTS = "lock", "events"
STARTED, DIED, STOPPED = b".", b"x", b"-"
BEST, RECIPE, TABLE, REPORT = "best", "recipe.json", "trials.csv", "report.html"

# Columns of the table that a result has.
RESULTS = ("status", "score", "top1", "spread", "held_out_loss", "images_per_second", "seconds")
RESULTS += ("trained_epochs", "ended")
# Of these what a result calls otherwise: hyperparameters have columns of those names.
IN_A_RESULT = {"held_out_loss": "loss", "trained_epochs": "epochs"}


class Folder:
    """Paths and locks of a search.

    Args:
        path: Of the folder.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def exists(self) -> bool:
        """Whether it holds a search."""
        return (self.path / SEARCH).is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Wait until no other process changes the state."""
        with open(self.path / LOCK, "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def trial(self, trial_id: str) -> "TrialFolder":
        """The folder of a trial."""
        return TrialFolder(self.path / TRIALS / trial_id)

    def trials(self) -> list["TrialFolder"]:
        """Of all trials that have been begun, in their order."""
        found = (self.path / TRIALS).glob(f"*/{SPEC}")
        return [TrialFolder(p.parent) for p in sorted(found, key=lambda p: int(p.parent.name))]

    def read(self, name: str) -> dict | None:
        """One of its JSON files, or None."""
        return read_if_there(self.path / name)

    def write(self, name: str, data: Mapping) -> None:
        """Replace one of its JSON files."""
        write_durably(self.path / name, data)


class TrialFolder:
    """Paths and the lock of a trial.

    Args:
        path: Of the folder.
    """

    def __init__(self, path: Path):
        self.path, self.id = path, path.name

    def claim(self):
        """Take the lock, or None if another process has it.

        Returns:
            An open file: the lock is held until it and its copies in child processes are closed.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        file = open(self.path / LOCK, "a")  # noqa: SIM115 (it outlives this)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    @property
    def spec(self) -> dict:
        """What the trial is to do."""
        return read_json(self.path / SPEC)

    @property
    def result(self) -> dict | None:
        """What came of it, or None while it is not finished."""
        return read_if_there(self.path / RESULT)

    def finish(self, result: Mapping) -> None:
        """Write the result, and when it came."""
        write_durably(self.path / RESULT, {**result, "ended": time.time()})

    def run(self, execution: int) -> Path:
        """The folder of an execution, from 0."""
        return self.path / f"run-{execution + 1}"

    def large_files(self, with_models: bool) -> list[Path]:
        """What a finished trial does not need: checkpoints to go on from, and models."""
        names = (CHECKPOINT, RUN_BEST, MODEL) if with_models else (CHECKPOINT, RUN_BEST)
        return [path for name in names for path in self.path.glob(f"run-*/{name}")]

    @property
    def models(self) -> list[Path]:
        """The saved models of its executions."""
        return sorted(self.path.glob(f"run-*/{MODEL}"))

    def note(self, event: bytes) -> None:
        """Remember something that a process for the trial did: a byte more in a file.

        Args:
            event: ``STARTED``, ``DIED`` (of a signal) or ``STOPPED`` (because the search was).
        """
        with open(self.path / EVENTS, "ab") as file:
            file.write(event)

    def noted(self, event: bytes) -> int:
        """How often that was."""
        path = self.path / EVENTS
        return path.read_bytes().count(event) if path.exists() else 0

    @property
    def epochs_done(self) -> int:
        """Epochs of all its executions so far."""
        return sum(max(0, _lines(p) - 1) for p in self.path.glob(f"run-*/{HISTORY}"))


def rows_of(folder: Folder) -> list[dict]:
    """Give the table of a search: a row a trial, all with the same columns.

    Args:
        folder: Of the search.

    Returns:
        ``trial``, ``status`` ("completed", "failed" or "running"), what came of it (the
        ``trained_epochs`` are those of all its executions), what it costs, whether it is on the
        ``front`` of accuracy against throughput, and a column for each hyperparameter.
    """
    found = [
        (trial, trial.spec, trial.result or {"status": "running"}) for trial in folder.trials()
    ]
    names = list(dict.fromkeys(name for _, spec, _ in found for name in hyperparameters(spec)))
    rows = [
        {
            "trial": trial.id,
            **{name: result.get(IN_A_RESULT.get(name, name)) for name in RESULTS},
            "starts": trial.noted(STARTED),
            "previous": spec["previous"],
            "macs": spec["macs"],
            "parameters": spec["parameters"],
            "front": False,
            **{name: hyperparameters(spec).get(name) for name in names},
            "reason": result.get("reason"),
        }
        for trial, spec, result in found
    ]
    for row in front(rows):
        row["front"] = True
    return rows


def hyperparameters(spec: Mapping) -> dict:
    """Give what a trial has of the network's and the training's fields."""
    return {**spec["network"], **spec["training"]}


def front(rows: Sequence[Mapping]) -> list[Mapping]:
    """Give the rows that no other beats in accuracy and in images a second at once.

    Example:

    >>> rows = [{"top1": a, "images_per_second": s} for a, s in ((0.9, 10), (0.8, 20), (0.8, 15))]
    >>> [(row["top1"], row["images_per_second"]) for row in front(rows)]
    [(0.9, 10), (0.8, 20)]
    """
    measured = [r for r in rows if r["top1"] is not None and r["images_per_second"] is not None]
    measured.sort(key=lambda r: (r["images_per_second"], r["top1"]), reverse=True)
    kept = []
    for row in measured:
        if not kept or row["top1"] > kept[-1]["top1"]:
            kept.append(row)
    return kept[::-1]


def best_of(rows: Sequence[Mapping]) -> Mapping | None:
    """Give the completed trial of the highest score, the earliest of equals; None if none is."""
    completed = [row for row in rows if row["status"] == "completed"]
    return max(completed, key=lambda row: row["score"], default=None)


def training_command(folder: Folder) -> str:
    """Give the command that trains the best configuration on all training images."""
    asked = folder.read(SEARCH)
    command = ["keras-resnext", "train", "--recipe", str(folder.path / BEST / RECIPE)]
    command += ["--data", asked["data"], "--image-size", str(asked["image_size"])]
    weights = asked["space"]["weights"]
    return shlex.join([*command, *(["--weights", weights] if weights else [])])


def read_if_there(path: Path) -> dict | None:
    """Read a JSON file; None if there is none."""
    return read_json(path) if path.exists() else None


def write_durably(path: Path, data: Mapping) -> None:
    """Write a JSON file whole, and wait until the disk has it and its name."""
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
