"""Running a search in any number of processes, on machines that share its folder.

There is no chief: each process takes the folder's lock, asks KerasTuner's oracle for a trial and
saves its state, so that any of them may be killed.
"""

import functools
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from filelock import FileLock
from rich.console import Console

from keras_resnext.checks import check, integer
from keras_resnext.data.datasets import absolute_source, load_dataset
from keras_resnext.data.sources import arrays
from keras_resnext.models import variants
from keras_resnext.search import oracles
from keras_resnext.search.candidates import Candidates
from keras_resnext.search.folder import (
    BEST,
    RECIPE,
    SEARCH,
    SPEC,
    STARTED,
    STATE,
    STOPPED,
    TABLE,
    Folder,
    TrialFolder,
    write_durably,
)
from keras_resnext.search.processes import Slot, make_slots
from keras_resnext.search.progress import Progress
from keras_resnext.search.settings import Settings, check_same, read_settings
from keras_resnext.search.space import Space, load_space, space_from
from keras_resnext.search.table import best_of, rows_of
from keras_resnext.training.recipe import changes, check_no_l2
from keras_resnext.training.run_folder import MODEL, write_rows, write_whole

TRIALS = 30
SECONDS_BETWEEN_LOOKS = 0.2
# Seconds between looks at the folder if there is no trial to begin.
SECONDS_IDLE = 2.0
# Give up if this many first trials all fail.
FAILURES_TO_STOP = 5
# Settings that a trial needs.
FOR_A_TRIAL = ("executions", "objective", "patience", "data", "image_size", "holdout")
# A trial that has started this often without ending kills its search.
MOST_STARTS = 10


def search(
    space: Space | str | Path,
    data: str | Path | Mapping[str, np.ndarray],
    output: str | Path,
    *,
    oracle: str = "bayesian",
    trials: int | None = None,
    epochs: int | None = None,
    executions: int = 1,
    workers: int = 1,
    objective: str = "top1",
    holdout: float = 0.2,
    patience: int | None = None,
    time_limit: float | None = None,
    attempts: int = 3,
    factor: int = 3,
    image_size: int | None = None,
    on_error: str = "raise",
    seed: int = 0,
    console: Console | None = None,
) -> dict:
    """Search hyperparameters, or resume the search if the folder contains the same one.

    Every trial is its own process: a crash costs only that trial, and is recorded. The test part of
    the data is never used: a share of the training part is held out.

    Args:
        space: `Space` to search, or the path of its file.
        data: Source that `load_dataset` takes.
        output: str, path of the search's folder.
        oracle: str, KerasTuner's "random", "bayesian", "hyperband" or "grid".
        trials: int, greatest number of trials, not for "hyperband". Defaults to 30, or with "grid"
            to all.
        epochs: int, epochs per trial; with "hyperband", of the longest. Defaults to the space's, or
            the data set's own.
        executions: int, trainings per trial, with different seeds; its score is their mean.
        workers: int, simultaneous trials on this machine, each with its own GPU or share of the
            cores. To use more machines, call this there with the same `output` on a shared file
            system.
        objective: str, "top1", or "top1_and_speed", for which twice the images per second are worth
            5 % of the accuracy (MnasNet's rule).
        holdout: float, share of each class of the training part on which trials are measured.
        patience: int, epochs without a better accuracy after which a training stops. Defaults to
            never.
        time_limit: float, seconds after which a trial fails. Defaults to none.
        attempts: int, how often a trial may be killed by a signal, as when memory is short, before
            it fails.
        factor: int, for "hyperband": one in this many trials continues, for this many times the
            epochs.
        image_size: int, height and width of the images in pixels. Defaults to the model's.
        on_error: str, what to do about broken images, as in `load_dataset`.
        seed: int, seed of draws, splits and trainings.
        console: `rich.console.Console` to show progress on. Defaults to standard output.

    Returns:
        A dictionary: `completed` and `failed`, numbers of trials; `best`, the row of the best trial
        in trials.csv, or None; `output`; `stopped`, a text if the search gave up.

    Raises:
        ValueError: If an argument is invalid, or the folder contains another search.
    """
    space = space if isinstance(space, Space) else load_space(space)
    check_no_l2({**space.vary, **space.fixed})
    folder = Folder(output)
    if image_size is None:
        image_size = variants.get(space.model).input_size
    dataset = load_dataset(data, image_size, seed, on_error)
    if isinstance(data, Mapping):
        data = arrays.plain(data)
    if epochs is None:
        epochs = space.training.epochs or dataset.epochs
    if trials is None and oracle in ("random", "bayesian"):
        trials = TRIALS
    settings = Settings(
        space=space.to_dict(),
        data=source_of(data, folder),
        image_size=dataset.image_size,
        classes=dataset.classes,
        oracle=oracle,
        trials=trials,
        epochs=epochs,
        executions=executions,
        objective=objective,
        holdout=holdout,
        patience=patience,
        time_limit=time_limit,
        attempts=attempts,
        factor=factor,
        on_error=on_error,
        seed=seed,
        backend=os.environ.get("KERAS_BACKEND"),
    )
    driver = _Driver(folder, settings, space, workers, console)
    _write_settings(settings, folder, data)
    return driver.run()


def resume(
    output: str | Path,
    workers: int = 1,
    console: Console | None = None,
    *,
    trials: int | None = None,
    time_limit: float | None = None,
    attempts: int | None = None,
) -> dict:
    """Resume a search with the settings in its folder.

    Args:
        output: str, path of the search's folder.
        workers: int, as in `search`.
        console: `rich.console.Console`, as in `search`.
        trials: int, replaces the setting from now on, as do the following.
        time_limit: float, as in `search`.
        attempts: int, as in `search`.

    Returns:
        The dictionary that `search` returns.

    Raises:
        ValueError: If the folder does not contain a search, or an argument is invalid.
    """
    folder = Folder(output)
    limits = {"trials": trials, "time_limit": time_limit, "attempts": attempts}
    limits = {name: value for name, value in limits.items() if value is not None}
    settings = replace(read_settings(folder), **limits)
    driver = _Driver(folder, settings, space_from(settings.space), workers, console)
    with folder.locked():
        folder.write(SEARCH, asdict(replace(read_settings(folder), **limits)))
    return driver.run()


def source_of(data: str | Path | Mapping[str, np.ndarray], folder: Folder) -> str:
    """Return the source for all trials; arrays are saved as a file in the folder."""
    if not isinstance(data, Mapping):
        return absolute_source(data)
    digest = hashlib.sha256()
    for name in sorted(data):
        digest.update(f"{name} {data[name].dtype} {data[name].shape}".encode())
        digest.update(data[name].tobytes())
    return str(folder.path.absolute() / f"data-{digest.hexdigest()[:16]}.npz")


def _write_settings(settings: Settings, folder: Folder, data: object) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.locked():
        if folder.exists:
            check_same(folder, settings)
        if isinstance(data, Mapping) and not Path(settings.data).is_file():
            write_whole(Path(settings.data), lambda part: np.savez(part, **data))
        folder.write(SEARCH, asdict(settings))


class _Driver:
    """Keeps its slots busy until the search ends."""

    def __init__(
        self,
        folder: Folder,
        settings: Settings,
        space: Space,
        workers: int,
        console: Console | None,
    ) -> None:
        check("workers", workers, integer(1))
        self.folder, self.settings = folder, settings
        self.candidates: Candidates = space.on(settings.image_size, settings.classes)
        self.slots = make_slots(workers)
        # Only one, since KerasTuner keeps a reference to every oracle.
        self.oracle = oracles.make_oracle(
            settings.oracle,
            self.candidates,
            settings.trials,
            settings.epochs,
            settings.factor,
            settings.seed,
        )
        expected = oracles.expected_trials(self.oracle)
        self.progress = Progress(folder, settings.oracle, expected, console or Console())
        self.ended, self.look_at, self.stopped = False, 0.0, None

    def run(self) -> dict:
        with ExitStack() as stack:
            stack.enter_context(_terminating())
            stack.callback(lambda: [slot.kill() for slot in self.slots])
            stack.enter_context(self.progress)
            while not self.ended or any(slot.trial for slot in self.slots):
                for slot in self.slots:
                    if slot.ended:
                        self._after(slot)
                    if not slot.trial and not self.ended and time.monotonic() >= self.look_at:
                        self._begin(slot)
                self.progress.show([slot.trial for slot in self.slots if slot.trial])
                time.sleep(SECONDS_BETWEEN_LOOKS)
        rows = rows_of(self.folder)
        return {
            "completed": sum(row["status"] == "completed" for row in rows),
            "failed": sum(row["status"] == "failed" for row in rows),
            "best": best_of(rows),
            "stopped": self.stopped,
            "output": str(self.folder.path),
        }

    def _begin(self, slot: Slot) -> None:
        """Resume a trial that no process works on, or else begin a new one."""
        with self.folder.locked():
            self._restore()
            self._collect()
            if self.ended:
                return
            claim = self._adopt() or self._create()
        if claim:
            slot.trial, slot.lock = claim
            slot.start(self.settings)
        else:
            self.look_at = time.monotonic() + SECONDS_IDLE

    def _after(self, slot: Slot) -> None:
        slot.after(self.settings)
        if slot.trial is None:
            with self.folder.locked():
                self._restore()
                self._collect()
            self.look_at = 0.0

    def _restore(self) -> None:
        state = self.folder.read(STATE)
        if state:
            oracles.restore(self.oracle, state)

    def _collect(self) -> None:
        """Tell the oracle about all trials that have finished, on any machine."""
        ongoing = sorted(trial.trial_id for trial in self.oracle.ongoing_trials.values())
        results = {name: self.folder.trial(name).result for name in ongoing}
        finished = {name: result for name, result in results.items() if result}
        for name, result in finished.items():
            oracles.end(self.oracle, name, result)
        if finished:
            rows = rows_of(self.folder)
            write_rows(self.folder.path / TABLE, rows)
            self._keep_best(rows)
            self._stop_if_hopeless(rows)
            # Last: until then all of it is done again.
            self.folder.write(STATE, oracles.state_of(self.oracle))

    def _adopt(self) -> tuple[TrialFolder, FileLock] | None:
        for trial in list(self.oracle.ongoing_trials.values()):
            folder = self.folder.trial(trial.trial_id)
            lock = folder.claim()
            if lock is None:
                continue
            starts = folder.count(STARTED) - folder.count(STOPPED)
            if folder.result is None and starts < MOST_STARTS:
                return folder, lock
            if folder.result is None:
                reason = f"begun {starts} times, and each time the machine or the search died"
                folder.finish({"status": "failed", "reason": reason})
            lock.release()
            self._collect()
        return None

    def _create(self) -> tuple[TrialFolder, FileLock] | None:
        trial = oracles.begin(self.oracle)
        if trial.status != "RUNNING":
            self.ended = trial.status == "STOPPED" and not self.oracle.ongoing_trials
            return None
        folder = self.folder.trial(trial.trial_id)
        lock = folder.claim()
        write_durably(folder.path / SPEC, self._spec(trial))
        self.folder.write(STATE, oracles.state_of(self.oracle))
        return folder, lock

    def _spec(self, trial: oracles.Trial) -> dict:
        values, settings = trial.hyperparameters.values, self.settings
        draw = self.candidates.draw(values)
        total, before = oracles.epochs_of(values, settings.epochs)
        # The space's epochs may have been overruled.
        overruled = {"epochs": settings.epochs} if "epochs" in draw.training else {}
        recipe = self.candidates.recipe_of(draw).replace(
            name="tuned",
            about=f"Found by a {settings.oracle} search.",
            epochs=total,
            on_error=settings.on_error,
            seed=settings.seed,
        )
        return {
            "recipe": changes(recipe),
            "weights": self.candidates.space.weights,
            "network": draw.network,
            "training": {**draw.training, **overruled},
            "macs": draw.complexity.macs,
            "parameters": draw.complexity.parameters,
            "epochs": total - before,
            "previous": oracles.previous_of(values),
            **{name: getattr(settings, name) for name in FOR_A_TRIAL},
            "split_seed": settings.seed,
        }

    def _keep_best(self, rows: Sequence[Mapping]) -> None:
        """Copy the best model, and delete models that are no longer needed."""
        best = best_of(rows)
        target = self.folder.path / BEST
        saved = self.folder.read(f"{BEST}/{SPEC}")
        if best and (saved is None or saved["id"] != best["trial"]):
            target.mkdir(exist_ok=True)
            trial = self.folder.trial(best["trial"])
            for model in trial.models[:1]:
                write_whole(target / MODEL, functools.partial(shutil.copyfile, model))
            write_durably(target / RECIPE, trial.spec["recipe"])
            write_durably(target / SPEC, {"id": trial.id, **best})
        for row in rows:
            if row["status"] == "running":
                continue
            # Hyperband's later rounds continue earlier ones.
            needed = row["front"] or row is best or self.settings.oracle == "hyperband"
            for path in self.folder.trial(row["trial"]).large_files(with_models=not needed):
                path.unlink(missing_ok=True)

    def _stop_if_hopeless(self, rows: Sequence[Mapping]) -> None:
        reasons = [row["reason"] for row in rows if row["status"] == "failed"]
        if len(reasons) >= FAILURES_TO_STOP and best_of(rows) is None:
            self.ended = True
            self.stopped = f"all of the first {len(reasons)} trials failed; the last: {reasons[-1]}"


@contextmanager
def _terminating() -> Iterator[None]:
    """Handle SIGTERM, which clusters send before they kill, like Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
