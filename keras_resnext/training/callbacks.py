"""The callbacks of a run: measuring, writing files, stopping."""

import math
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

import keras
import numpy as np
from rich.console import Console

from keras_resnext.plots import plot_history
from keras_resnext.training import checkpoint
from keras_resnext.training.checkpoint import Position
from keras_resnext.training.optimizers import averaged, value_of
from keras_resnext.training.plan import Plan
from keras_resnext.training.progress import EpochLines, ProgressBar
from keras_resnext.training.run_folder import (
    BEST,
    CHECKPOINT,
    EVENTS,
    HISTORY,
    MODEL,
    PLOT,
    write_rows,
    write_whole,
)
from keras_resnext.training.schedules import learning_rate_schedule

SECONDS_BETWEEN_SAVES = 60
# Draw a plot, or write a checkpoint, if the last one took at most this share of the time since.
PLOT_SHARE, CHECKPOINT_SHARE = 0.03, 0.03
PLOT_SECONDS = 0.3  # a guess for the first; later ones are measured

Logs = dict | None


class DivergedError(ArithmeticError):
    """The loss is NaN or infinite."""


class RunCallbacks:
    """The callbacks of a run, by name, and in `all` in the order in which Keras calls them.

    `sums` are the metrics' sums of a resumed epoch.
    """

    def __init__(
        self,
        plan: Plan,
        trained: keras.Model,
        folder: Path,
        console: Console,
        more: Sequence[keras.callbacks.Callback],
        position: Position,
        sums: list[np.ndarray] | None,
    ) -> None:
        recipe, title = plan.recipe, f"{plan.model.name} on {plan.dataset.name}"
        schedule = learning_rate_schedule(recipe, plan.total_steps)
        self.track = Track(position, sums)
        self.waiting = WaitingShare()
        self.speed = Speed(recipe.step_batch, position.seconds)
        self.average = TestAverage()
        self.history = HistoryFiles(folder, title, position.history)
        self.files = ModelFiles(folder, plan.model, position)
        self.checkpoints = Checkpoints(folder, plan.model, self.track, self.speed)
        self.stop = StopSafely()
        self.bars = []
        if console.is_terminal:
            self.bars.append(
                ProgressBar(console, recipe.epochs, recipe.step_batch, plan.steps, position)
            )
        # Track and Speed first: the others show and write what they measure. Stopping last.
        self.all = [
            self.track,
            self.waiting,
            self.speed,
            StopOnNaN(position, schedule, plan.steps, folder),
            self.average,
            self.history,
            keras.callbacks.TensorBoard(folder / EVENTS, write_graph=False, update_freq="epoch"),
            EpochLines(console, recipe.epochs),
            *self.bars,
            *more,
            self.files,
            self.checkpoints,
            self.stop,
        ]
        for callback in (self.files, self.checkpoints):  # even if nothing is left to fit
            callback.set_model(trained)


class Track(keras.callbacks.Callback):
    """Keep the position of a run up to date, and restore its metrics in a resumed epoch.

    `sums` holds the epoch's sums while the metrics hold others: before they are restored, and
    during a test.
    """

    def __init__(self, position: Position, sums: list[np.ndarray] | None = None) -> None:
        super().__init__()
        self.position, self.sums = position, sums

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start counting steps, and restore the metrics of a resumed epoch."""
        if epoch != self.position.epoch:
            self.position.epoch, self.position.step = epoch, 0
        self.before = self.position.step
        if self.before and self.sums:
            for variable, value in zip(self.model.metrics_variables, self.sums, strict=True):
                variable.assign(value)
        self.sums = None

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count the step."""
        self.position.step = self.before + batch + 1

    def on_test_begin(self, logs: Logs = None) -> None:
        """Save the sums of the epoch, which the test resets."""
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.sums = [value_of(variable) for variable in self.model.metrics_variables]

    def on_test_end(self, logs: Logs = None) -> None:
        """Forget the saved sums."""
        self.sums = None


class Speed(keras.callbacks.Callback):
    """Measure training, without compiling and testing.

    Adds `learning_rate`, `images_per_second` and `seconds` (since the start of the run) to the
    logs.
    """

    def __init__(self, batch_size: int, seconds: float = 0.0) -> None:
        super().__init__()
        self.batch_size, self.earlier = batch_size, seconds
        self.images, self.seconds = 0, 0.0
        self.epoch_images, self.epoch_seconds = 0, 0.0
        self.started = self.mark = time.perf_counter()
        self.warm = False

    @property
    def images_per_second(self) -> float | None:
        """The mean so far; None before the second call of the compiled step."""
        return self.images / self.seconds if self.seconds else None

    @property
    def total_seconds(self) -> float:
        """Seconds of the run, including those before an interruption."""
        return self.earlier + time.perf_counter() - self.started

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start measuring the epoch."""
        self.epoch_images, self.epoch_seconds = 0, 0.0
        self.done, self.mark = 0, time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Measure the steps since the last call; the first one compiles."""
        now = time.perf_counter()
        images = (batch + 1 - self.done) * self.batch_size
        if self.warm:  # the first call compiles
            self.epoch_images += images
            self.epoch_seconds += now - self.mark
            self.images += images
            self.seconds += now - self.mark
        self.warm, self.done, self.mark = True, batch + 1, now

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add the measurements to the logs."""
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        rate = self.epoch_images / self.epoch_seconds if self.epoch_seconds else math.nan
        logs["images_per_second"] = round(rate, 1)
        logs["seconds"] = round(self.total_seconds, 2)


class WaitingShare(keras.callbacks.Callback):
    """Add `waiting` to the logs: the share of an epoch's steps spent waiting for data.

    Set `waited` before training to a function that returns the seconds waited since its last call.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seconds, self.total = 0.0, 0.0
        self.waited: Callable[[], float] = lambda: math.nan

    @property
    def share(self) -> float | None:
        """The mean so far, from 0 to 1."""
        return min(self.seconds / self.total, 1.0) if self.total else None

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Start measuring the epoch."""
        self.waited()
        self.begin = self.end = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Note the time of the last step."""
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Add the share to the logs."""
        waited, total = self.waited(), self.end - self.begin
        self.seconds += waited
        self.total += total
        logs["waiting"] = round(min(waited / total, 1.0), 4) if total else math.nan


class StopOnNaN(keras.callbacks.Callback):
    """Raise a `DivergedError` when the loss becomes NaN or infinite."""

    def __init__(
        self, position: Position, schedule: Callable[[int], float], steps: int, folder: Path
    ) -> None:
        super().__init__()
        self.position, self.schedule, self.steps, self.folder = position, schedule, steps, folder

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Check the loss."""
        if math.isfinite(logs["loss"]):
            return
        epoch, step = self.position.epoch, self.position.step
        # Within an epoch, JAX's optimizer does not know its own step.
        rate = float(self.schedule(epoch * self.steps + step - 1))
        raise DivergedError(
            f"The loss became {logs['loss']} in epoch {epoch + 1}, step {step}, at a learning rate "
            f"of {rate:.3g}. Try a lower one (--learning-rate).{self._last_good()}"
        )

    def _last_good(self) -> str:
        path = self.folder / CHECKPOINT
        if not path.is_file():
            return ""
        at = checkpoint.position_of(path)
        return f' The last good checkpoint is "{path}", of epoch {at.epoch + 1}, step {at.step}.'


class StopSafely(keras.callbacks.Callback):
    """Let Ctrl-C and SIGTERM end training between two steps; use as a context around `fit`.

    Within a step, JAX's weights could not be saved. Before the end of the first step there is
    nothing to save, so that a signal ends training at once; so does a second signal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.requested = 0, False

    def __enter__(self) -> "StopSafely":
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_: object) -> None:
        for number, previous in self.previous.items():
            signal.signal(number, previous)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        at_once = self.requested or not self.steps
        # Even if raising: TensorFlow may swallow the exception while it traces the first step.
        self.requested = True
        if at_once:
            raise KeyboardInterrupt

    def _stop_if_requested(self) -> None:
        if self.requested:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Count the step, and stop if requested."""
        self.steps += 1
        self._stop_if_requested()

    def on_test_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Stop if requested."""
        self._stop_if_requested()


class HistoryFiles(keras.callbacks.Callback):
    """Write history.csv after each epoch, and history.png as often as costs little time.

    An epoch that ends is added to `rows`.
    """

    def __init__(self, folder: Path, title: str, rows: list[dict]) -> None:
        super().__init__()
        self.folder, self.title = folder, title
        # A run of seconds is drawn only when it ends.
        self.rows, self.pause, self.drawn_at = rows, PLOT_SECONDS / PLOT_SHARE, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Write the epoch."""
        self.rows.append({"epoch": epoch + 1, **logs})
        write_rows(self.folder / HISTORY, self.rows)
        if time.perf_counter() - self.drawn_at >= self.pause:
            self.draw()

    def draw(self) -> None:
        """Draw history.png."""
        if not self.rows:
            return
        begin = time.perf_counter()
        path = self.folder / HISTORY
        write_whole(self.folder / PLOT, lambda part: plot_history(path, part, self.title))
        self.drawn_at = time.perf_counter()
        self.pause = (self.drawn_at - begin) / PLOT_SHARE


class TestAverage(keras.callbacks.Callback):
    """Test the average of the weights if the optimizer keeps one; use as a context around `fit`."""

    __test__ = False  # pytest takes it for a test

    def __enter__(self) -> "TestAverage":
        self.swapped = ExitStack()
        return self

    def __exit__(self, *_: object) -> None:
        self.swapped.close()

    def on_test_begin(self, logs: Logs = None) -> None:
        """Swap in the average."""
        self.swapped.enter_context(averaged(self.model))

    def on_test_end(self, logs: Logs = None) -> None:
        """Swap the weights back."""
        self.swapped.close()


class ModelFiles(keras.callbacks.Callback):
    """Save the best model on the test images when it improves, and the last one every minute.

    `model` is the network, or the student in it. An average of the weights is saved instead of
    them.
    """

    def __init__(self, folder: Path, model: keras.Model, position: Position) -> None:
        super().__init__()
        self.folder, self.saved, self.position = folder, model, position
        self.saved_at = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Save the models that are due."""
        if logs["val_top1"] > self.position.best:
            self.position.best = float(logs["val_top1"])
            self.save(BEST)
        if time.perf_counter() - self.saved_at >= SECONDS_BETWEEN_SAVES:
            self.save(MODEL)
            self.saved_at = time.perf_counter()

    def save(self, name: str) -> None:
        """Save the model under a name in the folder."""
        with averaged(self.model):
            write_whole(self.folder / name, self.saved.save)


class Checkpoints(keras.callbacks.Callback):
    """Write a checkpoint every minute, and after epochs as often as costs little time."""

    def __init__(self, folder: Path, model: keras.Model, track: Track, speed: Speed) -> None:
        super().__init__()
        self.path, self.student = folder / CHECKPOINT, model
        self.track, self.position, self.speed = track, track.position, speed
        self.saved_at, self.took = time.perf_counter(), 0.0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Write a checkpoint if the last is a minute old."""
        if time.perf_counter() - self.saved_at >= SECONDS_BETWEEN_SAVES:
            self.save()

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Move on to the next epoch, and write a checkpoint if that costs little time."""
        self.position.epoch, self.position.step = epoch + 1, 0
        if time.perf_counter() - self.saved_at >= self.took / CHECKPOINT_SHARE:
            self.save()

    def save(self) -> None:
        """Write a checkpoint, unless a weight is NaN."""
        begin = time.perf_counter()
        self.position.seconds = self.speed.total_seconds
        checkpoint.save(self.path, self.model, self.student, self.position, self.track.sums)
        self.saved_at = time.perf_counter()
        self.took = self.saved_at - begin
