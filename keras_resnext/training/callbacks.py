"""What happens beside the steps: measuring, showing, writing, stopping."""

import math
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from keras_resnext.plots import plot_history
from keras_resnext.training import checkpoint
from keras_resnext.training.checkpoint import Position
from keras_resnext.training.optimizers import averaged, value_of
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

SECONDS_BETWEEN_DISPLAYS = 0.2
SECONDS_BETWEEN_SAVES = 60
# A picture is drawn, a checkpoint written, when the last took no more than this share of the time
# since.
PLOT_SHARE, CHECKPOINT_SHARE = 0.03, 0.03
PLOT_SECONDS = 0.3  # of the first; then it is known
# Share of waiting for data from which the line of an epoch says it.
WORTH_SAYING = 0.05


class DivergedError(ArithmeticError):
    """The loss is no longer a number."""


class Track(keras.callbacks.Callback):
    """Keeps the position of a run; where it was resumed within an epoch, its metrics go on too.

    Args:
        position: Kept up to date: where the run is after the step that has just been done.
        sums: Of the metrics, to be put back into the first epoch.

    Attributes:
        sums: Those of the epoch while the metrics hold something else: until they are put back,
            and during a test. Else None.
    """

    def __init__(self, position: Position, sums=None):
        super().__init__()
        self.position, self.sums = position, sums

    def on_epoch_begin(self, epoch, logs=None):
        if epoch != self.position.epoch:
            self.position.epoch, self.position.step = epoch, 0
        self.before = self.position.step
        if self.before and self.sums:
            for variable, value in zip(self.model.metrics_variables, self.sums, strict=True):
                variable.assign(value)
        self.sums = None

    def on_train_batch_end(self, batch, logs=None):
        self.position.step = self.before + batch + 1

    def on_test_begin(self, logs=None):
        if hasattr(self.model, "jax_state_sync"):
            self.model.jax_state_sync()
        self.sums = [value_of(variable) for variable in self.model.metrics_variables]

    def on_test_end(self, logs=None):
        self.sums = None


class Speed(keras.callbacks.Callback):
    """Measures training, without compiling and testing, and adds what it finds to the logs.

    Logs get ``learning_rate``, ``images_per_second`` and ``seconds`` (since the start).

    Args:
        batch_size: Images a step.
        seconds: That the run had taken when it was interrupted.
    """

    def __init__(self, batch_size: int, seconds: float = 0.0):
        super().__init__()
        self.batch_size, self.earlier = batch_size, seconds
        self.images, self.seconds = 0, 0.0
        self.epoch_images, self.epoch_seconds = 0, 0.0
        self.started = self.mark = time.perf_counter()
        self.warm = False

    @property
    def images_per_second(self) -> float | None:
        """Of everything measured so far; None before the second call of the compiled step."""
        return self.images / self.seconds if self.seconds else None

    @property
    def total_seconds(self) -> float:
        """Since this was made, and before that."""
        return self.earlier + time.perf_counter() - self.started

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch_images, self.epoch_seconds = 0, 0.0
        self.done, self.mark = 0, time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        images = (batch + 1 - self.done) * self.batch_size
        if self.warm:  # the first call compiles
            self.epoch_images += images
            self.epoch_seconds += now - self.mark
            self.images += images
            self.seconds += now - self.mark
        self.warm, self.done, self.mark = True, batch + 1, now

    def on_epoch_end(self, epoch, logs=None):
        logs["learning_rate"] = float(self.model.optimizer.learning_rate)
        rate = self.epoch_images / self.epoch_seconds if self.epoch_seconds else math.nan
        logs["images_per_second"] = round(rate, 1)
        logs["seconds"] = round(self.total_seconds, 2)


class WaitingShare(keras.callbacks.Callback):
    """Adds ``waiting`` to the logs: the share of an epoch's steps spent waiting for data.

    ``waited`` is set before training: it gives the seconds waited since it was last called
    (``data.waiting.Timed.seconds``). Otherwise the share is not known.
    """

    def __init__(self):
        super().__init__()
        self.seconds, self.total = 0.0, 0.0
        self.waited: Callable[[], float] = lambda: math.nan

    @property
    def share(self) -> float | None:
        """Of everything measured so far, from 0 to 1."""
        return min(self.seconds / self.total, 1.0) if self.total else None

    def on_epoch_begin(self, epoch, logs=None):
        self.waited()
        self.begin = self.end = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None):
        self.end = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        waited, total = self.waited(), self.end - self.begin
        self.seconds += waited
        self.total += total
        logs["waiting"] = round(min(waited / total, 1.0), 4) if total else math.nan


class StopOnNaN(keras.callbacks.Callback):
    """Stops with an error when the loss is no number any more.

    Args:
        position: Of the run.
        schedule: The learning rate by step.
        steps: An epoch.
        folder: Of the run.
    """

    def __init__(self, position: Position, schedule, steps: int, folder: Path):
        super().__init__()
        self.position, self.schedule, self.steps, self.folder = position, schedule, steps, folder

    def on_train_batch_end(self, batch, logs=None):
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
    """Lets Ctrl-C end training between two steps, where the weights are those of a whole step.

    So does SIGTERM, which clusters send before they kill. A KeyboardInterrupt in the middle of a
    step would, on JAX, leave no weights at all. Before the first step is done there is nothing to
    keep, and a second Ctrl-C does not wait.

    Use as a context, in which ``fit`` is called.
    """

    def __init__(self):
        super().__init__()
        self.steps, self.asked = 0, False

    def __enter__(self):
        self.previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self._interrupt)
        return self

    def __exit__(self, *_):
        for number, previous in self.previous.items():
            signal.signal(number, previous)

    def _interrupt(self, number, frame):
        at_once = self.asked or not self.steps
        # Also where it is raised: TensorFlow may lose it while it traces the first step.
        self.asked = True
        if at_once:
            raise KeyboardInterrupt

    def _stop_if_asked(self):
        if self.asked:
            raise KeyboardInterrupt

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        self._stop_if_asked()

    def on_test_batch_end(self, batch, logs=None):
        self._stop_if_asked()


class HistoryFiles(keras.callbacks.Callback):
    """Writes history.csv after each epoch, history.png as often as costs next to nothing.

    Args:
        folder: Of the run.
        title: Of the picture.
        rows: Of the epochs that are done; each that ends is added.
    """

    def __init__(self, folder: Path, title: str, rows: list[dict]):
        super().__init__()
        self.folder, self.title = folder, title
        # A run of seconds is drawn when it ends, and not before.
        self.rows, self.pause, self.drawn_at = rows, PLOT_SECONDS / PLOT_SHARE, time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append({"epoch": epoch + 1, **logs})
        write_rows(self.folder / HISTORY, self.rows)
        if time.perf_counter() - self.drawn_at >= self.pause:
            self.draw()

    def draw(self):
        """Draw history.png."""
        if not self.rows:
            return
        begin = time.perf_counter()
        path = self.folder / HISTORY
        write_whole(self.folder / PLOT, lambda part: plot_history(path, part, self.title))
        self.drawn_at = time.perf_counter()
        self.pause = (self.drawn_at - begin) / PLOT_SHARE


def event_files(folder: Path) -> keras.callbacks.Callback:
    """Give the callback that writes what TensorBoard shows.

    Args:
        folder: Of the run.
    """
    return keras.callbacks.TensorBoard(folder / EVENTS, write_graph=False, update_freq="epoch")


class TestAverage(keras.callbacks.Callback):
    """Tests the average of the weights in their place, where the optimizer keeps one.

    Use as a context, in which ``fit`` is called.
    """

    __test__ = False  # pytest takes it for a test

    def __enter__(self):
        self.swapped = ExitStack()
        return self

    def __exit__(self, *_):
        self.swapped.close()

    def on_test_begin(self, logs=None):
        self.swapped.enter_context(averaged(self.model))

    def on_test_end(self, logs=None):
        self.swapped.close()


class ModelFiles(keras.callbacks.Callback):
    """Saves the model that is best on the test part, and, once a minute has passed, the last.

    With an average of the weights, that is what is saved.

    Args:
        folder: Of the run.
        model: That is saved: the one in training, or the student in it.
        position: Of the run: holds the best accuracy so far.
    """

    def __init__(self, folder: Path, model: keras.Model, position: Position):
        super().__init__()
        self.folder, self.saved, self.position = folder, model, position
        self.saved_at = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_top1"] > self.position.best:
            self.position.best = float(logs["val_top1"])
            self.save(BEST)
        if time.perf_counter() - self.saved_at >= SECONDS_BETWEEN_SAVES:
            self.save(MODEL)
            self.saved_at = time.perf_counter()

    def save(self, name: str):
        """Save the model.

        Args:
            name: Of the file.
        """
        with averaged(self.model):
            write_whole(self.folder / name, self.saved.save)


class Checkpoints(keras.callbacks.Callback):
    """Writes a checkpoint at the end of epochs and within them, as often as costs next to nothing.

    Args:
        folder: Of the run.
        model: Whose weights are kept: the one in training, or the student in it.
        track: Of the run, for its position and the sums of its metrics.
        speed: For the time that the run has taken.
    """

    def __init__(self, folder: Path, model: keras.Model, track: Track, speed: Speed):
        super().__init__()
        self.path, self.kept = folder / CHECKPOINT, model
        self.track, self.position, self.speed = track, track.position, speed
        self.saved_at, self.took = time.perf_counter(), 0.0

    def on_train_batch_end(self, batch, logs=None):
        if time.perf_counter() - self.saved_at >= SECONDS_BETWEEN_SAVES:
            self.save()

    def on_epoch_end(self, epoch, logs=None):
        self.position.epoch, self.position.step = epoch + 1, 0
        if time.perf_counter() - self.saved_at >= self.took / CHECKPOINT_SHARE:
            self.save()

    def save(self):
        """Write the checkpoint, unless weights are no numbers any more."""
        begin = time.perf_counter()
        self.position.seconds = self.speed.total_seconds
        checkpoint.save(self.path, self.model, self.kept, self.position, self.track.sums)
        self.saved_at = time.perf_counter()
        self.took = self.saved_at - begin


class EpochLines(keras.callbacks.Callback):
    """Prints a line an epoch.

    Args:
        console: To print on.
        epochs: How many there will be.
    """

    def __init__(self, console: Console, epochs: int):
        super().__init__()
        self.console, self.epochs = console, epochs

    def on_epoch_end(self, epoch, logs=None):
        left = logs["seconds"] / (epoch + 1) * (self.epochs - epoch - 1)
        self.console.print(
            f"epoch {epoch + 1:{len(str(self.epochs))}}/{self.epochs}"
            f"  loss {logs['loss']:.4f}  top-1 {logs['top1']:6.2%}"
            f"  test loss {logs['val_loss']:.4f}  test top-1 {logs['val_top1']:6.2%}"
            f"{_rate(logs['images_per_second'])}{_waiting(logs['waiting'])}  {_clock(left)} left",
            highlight=False,
            soft_wrap=True,
        )


class ProgressBar(keras.callbacks.Callback):
    """Shows the steps of the epoch under way, on a terminal, and takes itself away after.

    Args:
        console: To show it on, the same that ``EpochLines`` prints on.
        epochs: How many there will be.
        batch_size: Images a step.
        steps: An epoch.
        position: Of the run.
    """

    def __init__(self, console, epochs: int, batch_size: int, steps: int, position: Position):
        super().__init__()
        self.epochs, self.batch_size = epochs, batch_size
        self.steps, self.position = steps, position
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TextColumn("{task.fields[facts]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            auto_refresh=False,  # a thread of its own would take time from the steps
        )

    def on_train_begin(self, logs=None):
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.task = self.bar.add_task("compiling", total=self.steps, facts="")
        self.bar.start()
        self.bar.refresh()

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.begin, self.shown = epoch, time.perf_counter(), 0.0

    def on_train_batch_end(self, batch, logs=None):
        now = time.perf_counter()
        if now - self.shown < SECONDS_BETWEEN_DISPLAYS:
            return
        self.shown = now
        rate = (batch + 1) * self.batch_size / (now - self.begin)
        self.bar.update(
            self.task,
            description=f"epoch {self.epoch + 1}/{self.epochs}",
            completed=self.position.step,
            facts=f"loss {logs['loss']:.4f}  top-1 {logs['top1']:.2%}  {rate:,.0f} img/s",
        )
        self.bar.refresh()

    def on_test_begin(self, logs=None):
        self.bar.update(self.task, description=f"epoch {self.epoch + 1}/{self.epochs}, testing")
        self.bar.refresh()

    def on_epoch_end(self, epoch, logs=None):
        self.bar.reset(self.task, total=self.steps, facts="")

    def stop(self):
        """Take the bar away: also where training ends with an error."""
        self.bar.stop()


def _rate(images_per_second: float) -> str:
    known = math.isfinite(images_per_second)
    return f"  {images_per_second:,.0f} img/s" if known else ""


def _waiting(share: float) -> str:
    """Only what is worth a remark."""
    return f"  {share:.0%} waiting for data" if share >= WORTH_SAYING else ""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
