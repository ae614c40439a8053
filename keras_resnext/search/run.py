"""Running a search: on any number of machines that share its folder, through any kill.

There is no chief to lose. Every process that works on a search takes the folder's lock, lets
KerasTuner's oracle know what has been finished, asks it for a trial, and writes the oracle's state
back (see ``folder``). KerasTuner's own chief and workers talk by gRPC: there a trial that finishes
while the chief is away is lost and run again, and a chief that is killed while it writes leaves
files that do not load.
"""

import functools
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console

from keras_resnext.data.datasets import absolute_source, load_dataset
from keras_resnext.data.sources import arrays
from keras_resnext.errors import one_of
from keras_resnext.models import variants
from keras_resnext.search import oracles
from keras_resnext.search.folder import (
    BEST,
    DIED,
    LOG,
    RECIPE,
    SEARCH,
    SPEC,
    STARTED,
    STATE,
    STOPPED,
    TABLE,
    Folder,
    TrialFolder,
    best_of,
    rows_of,
    write_durably,
)
from keras_resnext.search.progress import Progress
from keras_resnext.search.space import Candidates, Space, load_space, space_from, with_one_decay
from keras_resnext.search.trial import OBJECTIVES
from keras_resnext.training.recipe import changes, check_no_l2
from keras_resnext.training.run_folder import MODEL, write_rows, write_whole

TRIAL = (sys.executable, "-m", "keras_resnext.search.trial")
TRIALS = 30
SECONDS_BETWEEN_LOOKS = 0.2
# Where there is nothing to begin, how long until the folder is looked into again.
SECONDS_IDLE = 2.0
# A search whose first trials all fail has something wrong with it.
FAILURES_TO_STOP = 5
# A trial that has been begun so often without an end takes its worker down with it.
MOST_STARTS = 10


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a search was asked for: search.json.

    Args:
        space: As its file has it.
        data: What ``load_dataset`` takes.
        image_size: Edge of the images, pixels.
        classes: Of the data.
        oracle: A key of ``oracles.ORACLES``.
        trials: The greatest number of them, or None.
        epochs: Of a trial (with Hyperband: of a whole training).
        executions: Trainings of a trial, each from its own seed.
        objective: A key of ``trial.OBJECTIVES``.
        holdout: Share of the training images that trials are judged by.
        patience: Epochs without a better accuracy until a training is stopped, or None.
        time_limit: Seconds of a trial, or None.
        attempts: How often a trial may die of a signal before it has failed.
        factor: Hyperband's.
        on_error: What is done about broken images, as in ``load_dataset``.
        seed: Of everything.
        backend: Of Keras, or None for its own choice.
    """

    space: Mapping
    data: str
    image_size: int
    classes: int
    oracle: str
    trials: int | None
    epochs: int
    executions: int
    objective: str
    holdout: float
    patience: int | None
    time_limit: float | None
    attempts: int
    factor: int
    on_error: str
    seed: int
    backend: str | None

    def __post_init__(self):
        one_of("oracle", self.oracle, oracles.ORACLES)
        one_of("objective", self.objective, OBJECTIVES)
        for name, holds, expected in RULES:
            value = getattr(self, name)
            if not holds(value):
                raise ValueError(
                    f"Invalid value for `{name}`. Expected {expected}. Received: {name}={value!r}"
                )
        if self.oracle == "hyperband" and self.trials is not None:
            raise ValueError(
                "Hyperband's number of trials follows from `epochs` and `factor`: leave `trials` "
                f"out. Received: trials={self.trials}"
            )


def _integer(least):
    return lambda value: type(value) is int and value >= least


def _or_none(holds):
    return lambda value: value is None or holds(value)


RULES = (
    ("trials", _or_none(_integer(1)), "an integer of at least 1"),
    ("epochs", _integer(1), "an integer of at least 1"),
    ("executions", _integer(1), "an integer of at least 1"),
    ("attempts", _integer(1), "an integer of at least 1"),
    ("patience", _or_none(_integer(1)), "an integer of at least 1"),
    ("factor", _integer(2), "an integer of at least 2"),
    ("seed", _integer(0), "an integer of at least 0"),
    ("time_limit", _or_none(lambda value: value > 0), "seconds, above 0"),
    ("holdout", lambda value: 0 < value < 1, "a share above 0 and below 1"),
)


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
    """Search hyperparameters. A folder that holds the same search already is gone on with.

    Every trial is a process of its own: whatever happens to it costs that trial only, and is
    recorded. The test part of the data is never seen: a share of the training part is held out.

    Args:
        space: What is searched, or the path of its file.
        data: As in ``load_dataset``.
        output: The folder of the search.
        oracle: "random", "bayesian", "hyperband" or "grid": KerasTuner's.
        trials: The greatest number of trials. Default: 30; with "grid" all there are. "hyperband"
            takes none.
        epochs: Of a trial; with "hyperband", which begins with fewer, of the longest. Default: the
            space's, or the data set's own.
        executions: Trainings of each trial, from different seeds; its score is their mean.
        workers: Trials at a time on this machine. Each has a GPU of its own, if there are as many,
            else its share of the cores. More machines: call this there too, with the same
            ``output`` on a file system that they share.
        objective: "top1", or "top1_and_speed", where twice the images a second are worth 5 % of
            the accuracy (MnasNet's rule).
        holdout: Share of each class of the training part that trials are judged by.
        patience: Stop a training after so many epochs without a better accuracy. Default: never.
        time_limit: Seconds that a trial may take; then it has failed. Default: any.
        attempts: How often a trial may die of a signal (as from the kernel, when memory is short)
            before it has failed.
        factor: Of "hyperband": one of so many trials goes on, for so many times the epochs.
        image_size: Edge of the images, pixels. Default: the model's.
        on_error: As in ``load_dataset``.
        seed: Of draws, splits and trainings.
        console: To show progress on. Default: standard output.

    Returns:
        ``completed`` and ``failed``, the number of trials; ``best``, the row of the best in
        trials.csv, or None; ``output``; ``stopped``, a text if the search gave up.

    Raises:
        ValueError: For wrong arguments, and for a folder that holds another search.
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
    asked = Asked(
        space=space.written(),
        data=_source(data, folder),
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
    candidates = space.on(asked.image_size, asked.classes)
    worker = _Worker(folder, asked, candidates, workers, console or Console())
    _record(asked, folder, data)
    return worker.work()


def _source(data, folder: Folder) -> str:
    """Where every trial finds the data: arrays lie beside the search, in a file of their own."""
    if isinstance(data, Mapping):
        digest = hashlib.sha256()
        for name in sorted(data):
            digest.update(f"{name} {data[name].dtype} {data[name].shape}".encode())
            digest.update(data[name].tobytes())
        return str(folder.path.absolute() / f"data-{digest.hexdigest()[:16]}.npz")
    return absolute_source(data)


def _record(asked: Asked, folder: Folder, data) -> None:
    """Write what was asked for, unless the folder holds another search."""
    folder.path.mkdir(parents=True, exist_ok=True)
    with folder.locked():
        if folder.exists:
            _check_same(folder, asked)
        if isinstance(data, Mapping) and not Path(asked.data).is_file():
            write_whole(Path(asked.data), lambda part: np.savez(part, **data))
        folder.write(SEARCH, asdict(asked))


def go_on(
    output: str | Path,
    workers: int = 1,
    console: Console | None = None,
    *,
    trials: int | None = None,
    time_limit: float | None = None,
    attempts: int | None = None,
) -> dict:
    """Go on with a search, as it was asked for.

    Args:
        output: Its folder.
        workers: As in ``search``.
        console: As in ``search``.
        trials: As in ``search``, from now on. Default, as of the next two: as asked before.
        time_limit: As in ``search``.
        attempts: As in ``search``.

    Returns:
        As ``search``.

    Raises:
        ValueError: If the folder holds no search, or for wrong arguments.
    """
    folder = Folder(output)
    given = {"trials": trials, "time_limit": time_limit, "attempts": attempts}
    given = {name: value for name, value in given.items() if value is not None}
    asked = replace(asked_for(folder), **given)
    candidates = space_from(asked.space).on(asked.image_size, asked.classes)
    worker = _Worker(folder, asked, candidates, workers, console or Console())
    with folder.locked():
        folder.write(SEARCH, asdict(replace(asked_for(folder), **given)))
    return worker.work()


def asked_for(folder: Folder) -> Asked:
    """Give what a search was asked for.

    Raises:
        ValueError: If the folder holds no search.
    """
    found = folder.read(SEARCH)
    if found is None:
        raise ValueError(f'The folder "{folder.path}" holds no search: {SEARCH} is not there.')
    return Asked(**{**found, "space": with_one_decay(found["space"])})


def _check_same(folder: Folder, asked: Asked) -> None:
    """Refuse to go on with another search; more trials, or another time limit, are the same."""
    before, now = asked_for(folder), asked
    for name in ("trials", "time_limit", "attempts"):
        before = replace(before, **{name: getattr(now, name)})
    before, now = asdict(before), asdict(now)
    before["space"] = space_from(before["space"]).written()
    differing = [name for name in now if now[name] != before[name]]
    if differing:
        name = differing[0]
        raise ValueError(
            f'The folder "{folder.path}" holds a search with {name}={before[name]!r}. Name another '
            f"folder, or ask for the same. Received: {name}={now[name]!r}"
        )


@dataclass
class _Slot:
    """What one trial at a time runs on, and the trial."""

    cores: tuple[int, ...]
    gpu: str | None
    trial: TrialFolder | None = None
    lock: object = None
    process: subprocess.Popen | None = None

    def free(self):
        """Be done with the trial: its lock goes too."""
        self.lock.close()
        self.trial = self.lock = self.process = None


class _Worker:
    """Keeps its slots busy until the search has ended."""

    def __init__(self, folder, asked, candidates: Candidates, workers, console):
        if type(workers) is not int or workers < 1:
            raise ValueError(f"`workers` needs an integer of at least 1. Received: {workers!r}")
        self.folder, self.asked, self.candidates = folder, asked, candidates
        self.slots = make_slots(workers)
        # One for all the time: KerasTuner keeps every oracle that ever was.
        self.oracle = oracles.make_oracle(
            asked.oracle, candidates, asked.trials, asked.epochs, asked.factor, asked.seed
        )
        self.progress = Progress(folder, asked, oracles.expected_trials(self.oracle), console)
        self.ended, self.look_at, self.stopped = False, 0.0, None

    def work(self) -> dict:
        """Run trials until there are no more."""
        with ExitStack() as stack:
            stack.enter_context(_terminating())
            stack.callback(self._kill)
            stack.enter_context(self.progress)
            while not self.ended or any(slot.trial for slot in self.slots):
                for slot in self.slots:
                    if slot.trial and slot.process.poll() is not None:
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

    def _begin(self, slot) -> None:
        """Take up a trial that nobody works on any more, or else a new one."""
        with self.folder.locked():
            self._restore()
            self._collect()
            if self.ended:
                return
            claimed = self._adopt() or self._create()
        if claimed:
            slot.trial, slot.lock = claimed
            self._start(slot)
        else:
            self.look_at = time.monotonic() + SECONDS_IDLE

    def _restore(self) -> None:
        state = self.folder.read(STATE)
        if state:
            oracles.restore(self.oracle, state)

    def _collect(self) -> None:
        """Let the oracle know of every trial that has been finished, by whomever."""
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

    def _adopt(self):
        for trial in list(self.oracle.ongoing_trials.values()):
            found = self.folder.trial(trial.trial_id)
            lock = found.claim()
            if lock is None:
                continue
            lives = found.noted(STARTED) - found.noted(STOPPED)
            if found.result is None and lives < MOST_STARTS:
                return found, lock
            if found.result is None:
                reason = f"begun {lives} times, and each time the machine or the search died"
                found.finish({"status": "failed", "reason": reason})
            lock.close()
            self._collect()
        return None

    def _create(self):
        trial = oracles.begin(self.oracle)
        if trial.status != "RUNNING":
            self.ended = trial.status == "STOPPED" and not self.oracle.ongoing_trials
            return None
        found = self.folder.trial(trial.trial_id)
        lock = found.claim()
        write_durably(found.path / SPEC, self._spec(trial))
        self.folder.write(STATE, oracles.state_of(self.oracle))
        return found, lock

    def _spec(self, trial) -> dict:
        values, asked = trial.hyperparameters.values, self.asked
        draw = self.candidates.draw(values)
        total = values.get("tuner/epochs", asked.epochs)
        # The space's epochs may have been overruled.
        overruled = {"epochs": asked.epochs} if "epochs" in draw.training else {}
        recipe = self.candidates.recipe_of(draw).replace(
            name="tuned",
            about=f"Found by a {asked.oracle} search.",
            epochs=total,
            on_error=asked.on_error,
            seed=asked.seed,
        )
        return {
            "recipe": changes(recipe),
            "weights": self.candidates.space.weights,
            "network": draw.network,
            "training": {**draw.training, **overruled},
            "macs": draw.complexity.macs,
            "parameters": draw.complexity.parameters,
            # Hyperband's own: how long, and which trial it goes on from.
            "epochs": total - values.get("tuner/initial_epoch", 0),
            "previous": values.get("tuner/trial_id"),
            "executions": asked.executions,
            "objective": asked.objective,
            "patience": asked.patience,
            "data": asked.data,
            "image_size": asked.image_size,
            "holdout": asked.holdout,
            "split_seed": asked.seed,
        }

    def _start(self, slot) -> None:
        slot.trial.note(STARTED)
        command = [*TRIAL, str(slot.trial.path)]
        if slot.cores:
            command += ["--cores", ",".join(map(str, slot.cores))]
        if self.asked.time_limit:
            command += ["--time-limit", str(self.asked.time_limit)]
        with open(slot.trial.path / LOG, "ab") as log:
            slot.process = subprocess.Popen(
                command,
                # It ends when this process does, and with it the pipe.
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(slot, self.asked.backend),
                # As long as it lives, nobody else takes the trial up.
                pass_fds=(slot.lock.fileno(),),
                start_new_session=True,  # Ctrl-C is for this process
            )

    def _after(self, slot) -> None:
        """A trial's process has ended: its result is there, or why there is none."""
        slot.process.stdin.close()
        if slot.trial.result is None:
            code = slot.process.returncode
            if code < 0 and -code != signal.SIGALRM:
                slot.trial.note(DIED)
                if slot.trial.noted(DIED) < self.asked.attempts:
                    self._start(slot)
                    return
            reason = why_ended(code, self.asked.time_limit, slot.trial.path / LOG)
            slot.trial.finish({"status": "failed", "reason": reason})
        slot.free()
        with self.folder.locked():
            self._restore()
            self._collect()
        self.look_at = 0.0

    def _keep_best(self, rows) -> None:
        """Copy the best model; of the others keep those that are wanted yet."""
        best = best_of(rows)
        target = self.folder.path / BEST
        kept = self.folder.read(f"{BEST}/{SPEC}")
        if best and (kept is None or kept["id"] != best["trial"]):
            target.mkdir(exist_ok=True)
            trial = self.folder.trial(best["trial"])
            for model in trial.models[:1]:
                write_whole(target / MODEL, functools.partial(shutil.copyfile, model))
            write_durably(target / RECIPE, trial.spec["recipe"])
            write_durably(target / SPEC, {"id": trial.id, **best})
        for row in rows:
            if row["status"] == "running":
                continue
            # Hyperband's later rounds go on from earlier ones.
            wanted = row["front"] or row is best or self.asked.oracle == "hyperband"
            for path in self.folder.trial(row["trial"]).large_files(with_models=not wanted):
                path.unlink(missing_ok=True)

    def _stop_if_hopeless(self, rows) -> None:
        reasons = [row["reason"] for row in rows if row["status"] == "failed"]
        if len(reasons) >= FAILURES_TO_STOP and best_of(rows) is None:
            self.ended = True
            self.stopped = f"all of the first {len(reasons)} trials failed; the last: {reasons[-1]}"

    def _kill(self) -> None:
        for slot in self.slots:
            if slot.process and slot.process.poll() is None:
                slot.process.kill()
                slot.process.wait()
                slot.trial.note(STOPPED)
            if slot.trial:
                slot.free()


@contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM, which clusters send before they kill, end the search as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def make_slots(workers: int) -> list[_Slot]:
    """Share the machine out: a GPU each in turn, or the cores.

    Args:
        workers: Trials at a time.

    Returns:
        As many slots.
    """
    gpus = visible_gpus()
    if gpus or workers == 1 or not hasattr(os, "sched_getaffinity"):
        return [_Slot((), gpus[k % len(gpus)] if gpus else None) for k in range(workers)]
    cores = sorted(os.sched_getaffinity(0))
    return [
        _Slot(tuple(cores[k::workers] or cores[k % len(cores) :][:1]), None) for k in range(workers)
    ]


def visible_gpus() -> list[str]:
    """Give CUDA's numbers of the GPUs that this process may use. Imports no framework."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name not in ("", "-1")]
    # The files have the driver's numbers; CUDA counts those that are there, from 0.
    return [str(k) for k, _ in enumerate(Path("/dev").glob("nvidia[0-9]*"))]


def why_ended(code: int, time_limit: float | None, log: Path) -> str:
    """Say why a process left no result.

    Args:
        code: Its exit code; below 0 a signal.
        time_limit: Seconds that it had.
        log: What it has printed.

    Returns:
        A line.

    Example:

    >>> why_ended(-9, None, Path("nowhere"))
    'killed (SIGKILL): out of memory, most likely'
    """
    if code == -signal.SIGALRM:
        return f"not finished within the time limit of {time_limit:g} seconds"
    if code == -signal.SIGKILL:
        return "killed (SIGKILL): out of memory, most likely"
    if code < 0:
        return f"crashed (signal {-code}: {signal.strsignal(-code)})"
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return f"ended with exit code {code}: {lines[-1][:300] if lines else 'it said nothing'}"


def _environment(slot: _Slot, backend: str | None) -> dict[str, str]:
    environment = {"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ}
    environment.pop("KERAS_BACKEND", None)
    if backend:
        environment["KERAS_BACKEND"] = backend
    if slot.gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
    return environment
