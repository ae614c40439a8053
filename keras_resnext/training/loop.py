"""The third step of a run: train to the end, from a checkpoint if there is one, and summarize."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console

from keras_resnext.data.pipeline import assemble
from keras_resnext.data.waiting import timed
from keras_resnext.models.complexity import complexity
from keras_resnext.training import checkpoint
from keras_resnext.training.build import Built
from keras_resnext.training.callbacks import RunCallbacks
from keras_resnext.training.environment import device
from keras_resnext.training.optimizers import inner
from keras_resnext.training.plan import Plan
from keras_resnext.training.run_folder import MODEL, SUMMARY, remove_run, write_json


def loop(
    plan: Plan,
    built: Built,
    folder: Path,
    console: Console,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Train, test and save until the last epoch or an interruption; return the summary.

    The folder must exist and hold config.json.
    """
    run = _Loop(plan, built, folder, console, callbacks)
    interrupted = False
    try:
        with run.callbacks.stop, run.callbacks.average:
            if run.position.step:
                # Keras creates metrics with the first batch: only then can their sums be restored.
                run.trained.evaluate(run.test.take(1), verbose=0)
            if run.position.step == plan.steps:
                run.end_epoch()
            for first, last in run.segments():
                run.fit(first, last)
                if run.trained.stop_training:
                    break
    except KeyboardInterrupt:
        if not run.callbacks.stop.steps and not plan.checkpoint:
            run.leave_nothing()
            raise
        interrupted = True
    finally:
        for bar in run.callbacks.bars:
            bar.stop()
    return run.finish(interrupted)


class _Loop:
    """The position of a run, its callbacks, and the steps of the loop."""

    def __init__(
        self, plan: Plan, built: Built, folder: Path, console: Console, callbacks: Sequence
    ) -> None:
        self.plan, self.folder, self.console = plan, folder, console
        self.trained, self.training, self.test = built.trained, built.training, built.test
        self.position, sums = checkpoint.Position(), None
        if plan.checkpoint:
            self.position, sums = checkpoint.restore(plan.checkpoint, self.trained, plan.model)
            self._say_where()
        self.callbacks = RunCallbacks(
            plan, self.trained, folder, console, callbacks, self.position, sums
        )
        # Keras would replace the weights by their average whenever `fit` ends.
        inner(self.trained.optimizer).finalize_variable_values = lambda variables: None

    def _say_where(self) -> None:
        at, epochs = self.position, self.plan.recipe.epochs
        text = f"resumed at epoch {at.epoch + 1}, step {at.step} of {self.plan.steps}"
        if at.epoch == epochs:
            text = f"nothing is left to train: all {epochs} epochs are done"
        self.console.print(text, highlight=False)

    def segments(self) -> Iterator[tuple[int, int]]:
        """Yield the epochs of each call of `fit`: the rest of a resumed one, then all others."""
        epoch, epochs = self.position.epoch, self.plan.recipe.epochs
        if self.position.step:
            yield epoch, epoch + 1
            epoch += 1
        if epoch < epochs:
            yield epoch, epochs

    def fit(self, first: int, last: int) -> None:
        """Train from epoch `first` up to epoch `last`, excluding it."""
        step = self.position.step
        batches = assemble(self.training, last, (first, step))
        # Several replicas prefetch, which hides the time spent waiting.
        if clock_is_readable() and not tf.distribute.has_strategy():
            measured = timed(batches)
            batches, self.callbacks.waiting.waited = measured.batches, measured.seconds
        self.trained.fit(
            batches,
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=self.plan.steps - step,
            validation_data=self.test,
            callbacks=self.callbacks.all,
            shuffle=False,  # the pipeline does it; Keras would only warn that it cannot
            verbose=0,
        )

    def end_epoch(self) -> None:
        """Test and write an epoch that was interrupted between its last step and its test."""
        average = [self.callbacks.average]
        tested = self.trained.evaluate(self.test, callbacks=average, verbose=0, return_dict=True)
        callbacks = keras.callbacks.CallbackList(self.callbacks.all, model=self.trained)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(self.position.epoch)
        logs = {name: float(value) for name, value in self.trained.get_metrics_result().items()}
        logs |= {f"val_{name}": value for name, value in tested.items()}
        callbacks.on_epoch_end(self.position.epoch, logs)

    def leave_nothing(self) -> None:
        """Remove the run's files, and its folder if it is empty."""
        remove_run(self.folder)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def finish(self, interrupted: bool) -> dict:
        """Save everything, and return the summary."""
        self.callbacks.checkpoints.save()
        self.callbacks.files.save(MODEL)
        self.callbacks.history.draw()
        summary = self._summary(interrupted)
        write_json(self.folder / SUMMARY, summary)
        return summary

    def _summary(self, interrupted: bool) -> dict:
        plan, rows = self.plan, self.position.history
        last = rows[-1] if rows else {}
        size = plan.dataset.image_size
        cost = complexity(plan.model, (size, size, 3))
        return {
            "test_top1": last.get("val_top1"),
            "test_top5": last.get("val_top5"),
            "test_loss": last.get("val_loss"),
            "best_top1": max((row["val_top1"] for row in rows), default=None),
            "images_per_second": _rounded(self.callbacks.speed.images_per_second, 1),
            "waiting_for_data": _rounded(self.callbacks.waiting.share, 4),
            "seconds": round(self.callbacks.speed.total_seconds, 2),
            "epochs": len(rows),
            "interrupted": interrupted,
            "recipe": plan.recipe.name,
            "model": plan.model.name,
            "parameters": cost.parameters,
            "trainable_parameters": cost.trainable,
            "macs": cost.macs,
            "data": plan.dataset.source,
            "train_images": len(plan.dataset.train),
            "test_images": len(plan.dataset.test),
            "skipped_images": len(plan.dataset.skipped),
            "precision": plan.precision,
            "backend": keras.backend.backend(),
            "device": device(),
            "output": str(self.folder),
        }


def clock_is_readable() -> bool:
    """Return whether TensorFlow can read a clock, which it cannot if it is deterministic."""
    try:
        tf.timestamp()
    except tf.errors.FailedPreconditionError:
        return False
    return True


def _rounded(value: float | None, digits: int) -> float | None:
    """Return a rounded value, or None for what was not measured."""
    return None if value is None or math.isnan(value) else round(value, digits)
