"""The progress that a user sees: a line per epoch, and a bar on a terminal."""

import math
import time

import keras
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from keras_resnext.training.checkpoint import Position

SECONDS_BETWEEN_DISPLAYS = 0.2
# From this share on, the line of an epoch mentions waiting for data.
WORTH_SAYING = 0.05


class EpochLines(keras.callbacks.Callback):
    """Print a line per epoch."""

    def __init__(self, console: Console, epochs: int) -> None:
        super().__init__()
        self.console, self.epochs = console, epochs

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print the line."""
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
    """Show the steps of the current epoch on a terminal, and disappear afterwards."""

    def __init__(
        self, console: Console, epochs: int, batch_size: int, steps: int, position: Position
    ) -> None:
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
            auto_refresh=False,  # a refreshing thread would slow down the steps
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Show an empty bar."""
        for task in self.bar.task_ids:
            self.bar.remove_task(task)
        self.task = self.bar.add_task("compiling", total=self.steps, facts="")
        self.bar.start()
        self.bar.refresh()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start measuring the epoch."""
        self.epoch, self.begin, self.shown = epoch, time.perf_counter(), 0.0

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Update the bar, a few times per second."""
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

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Show that the model is being tested."""
        self.bar.update(self.task, description=f"epoch {self.epoch + 1}/{self.epochs}, testing")
        self.bar.refresh()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Empty the bar."""
        self.bar.reset(self.task, total=self.steps, facts="")

    def stop(self) -> None:
        """Remove the bar, even if training ends with an error."""
        self.bar.stop()


def _rate(images_per_second: float) -> str:
    return f"  {images_per_second:,.0f} img/s" if math.isfinite(images_per_second) else ""


def _waiting(share: float) -> str:
    return f"  {share:.0%} waiting for data" if share >= WORTH_SAYING else ""


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
