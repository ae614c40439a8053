"""The course of a run: its callbacks, where it is, and what comes of it."""

import math
from pathlib import Path

import keras
import tensorflow as tf
from tensorflow.python.framework.config import is_op_determinism_enabled

from keras_resnext.data.pipeline import assemble
from keras_resnext.data.waiting import timed
from keras_resnext.models.complexity import complexity
from keras_resnext.training import callbacks as run_callbacks
from keras_resnext.training import checkpoint
from keras_resnext.training.environment import device
from keras_resnext.training.optimizers import inner
from keras_resnext.training.precision import resolve
from keras_resnext.training.run_data import steps_per_epoch
from keras_resnext.training.run_folder import MODEL, SUMMARY, remove_run, write_json
from keras_resnext.training.schedules import learning_rate_schedule


class Run:
    """The callbacks of a run, and what is done with them when it ends.

    Args:
        folder: Of the run; there, and with a config.json.
        trained: The model that `fit` is called of, compiled by ``compile_recipe``: `model`, or one
            that teaches it.
        model: That is trained and written.
        dataset: From ``load_dataset``.
        recipe: Resolved.
        console: To show progress on.
        callbacks: More than those of every run.
    """

    def __init__(self, folder, trained, model, dataset, recipe, console, callbacks):
        self.folder, self.trained, self.model = folder, trained, model
        self.dataset, self.recipe, self.console = dataset, recipe, console
        self.more = callbacks
        self.steps = steps_per_epoch(dataset, recipe)
        self.schedule = learning_rate_schedule(recipe, self.steps * recipe.epochs)
        size = dataset.image_size
        self.counted = complexity(model, (size, size, 3))
        self.position, self.sums = checkpoint.Position(), None

    def fit(self, training, test, resume: Path | None) -> dict:
        """Train to the end, from a checkpoint if there is one.

        Args:
            training: As ``assemble`` takes it.
            test: Batches.
            resume: The checkpoint, or None.

        Returns:
            What summary.json holds.
        """
        if resume:
            restored = checkpoint.restore(resume, self.trained, self.model)
            self.position, self.sums = restored.position, restored.sums
            self._tell_resumed()
        self._make_callbacks()
        # Keras would put the average in the place of the weights whenever `fit` ends.
        inner(self.trained.optimizer).finalize_variable_values = lambda variables: None
        interrupted = False
        try:
            with self.stop, self.average:
                if self.position.step:
                    # Keras makes the metrics with the first batch: their sums are put back after.
                    self.trained.evaluate(test.take(1), verbose=0)
                if self.position.step == self.steps:
                    self._end_epoch(test)
                for first, last in self._segments():
                    self._fit(training, test, first, last)
                    if self.trained.stop_training:
                        break
        except KeyboardInterrupt:
            if not self.stop.steps and not resume:
                self._leave_nothing()
                raise
            interrupted = True
        finally:
            for bar in self.bars:
                bar.stop()
        return self._finish(interrupted)

    def _make_callbacks(self):
        """Track and Speed first: the others show and write what they know. Stopping last."""
        recipe, folder, position = self.recipe, self.folder, self.position
        self.speed = run_callbacks.Speed(recipe.step_batch, position.seconds)
        self.waiting = run_callbacks.WaitingShare()
        self.history = run_callbacks.HistoryFiles(
            folder, f"{self.model.name} on {self.dataset.name}", position.history
        )
        self.files = run_callbacks.ModelFiles(folder, self.model, position)
        self.track = run_callbacks.Track(position, self.sums)
        self.checkpoints = run_callbacks.Checkpoints(folder, self.model, self.track, self.speed)
        self.stop = run_callbacks.StopSafely()
        self.average = run_callbacks.TestAverage()
        self.bars = []
        if self.console.is_terminal:
            bar = run_callbacks.ProgressBar(
                self.console, recipe.epochs, recipe.step_batch, self.steps, position
            )
            self.bars.append(bar)
        self.callbacks = [
            self.track,
            self.waiting,
            self.speed,
            run_callbacks.StopOnNaN(position, self.schedule, self.steps, folder),
            self.average,
            self.history,
            run_callbacks.event_files(folder),
            run_callbacks.EpochLines(self.console, recipe.epochs),
            *self.bars,
            *self.more,
            self.files,
            self.checkpoints,
            self.stop,
        ]
        for callback in (self.files, self.checkpoints):  # also where nothing is left to fit
            callback.set_model(self.trained)

    def _segments(self):
        """Epochs to be fitted at once: the rest of one that was begun, then all the others."""
        epoch, step = self.position.epoch, self.position.step
        if step:
            yield epoch, epoch + 1
            epoch += 1
        if epoch < self.recipe.epochs:
            yield epoch, self.recipe.epochs

    def _fit(self, training, test, first: int, last: int):
        """Train on batches that are those of all these epochs, one after the other."""
        step = self.position.step
        batches = assemble(training, last, (first, step))
        # TensorFlow reads no clock where it is deterministic; several replicas fetch ahead.
        if not is_op_determinism_enabled() and not tf.distribute.has_strategy():
            measured = timed(batches)
            batches, self.waiting.waited = measured.batches, measured.seconds
        self.trained.fit(
            batches,
            initial_epoch=first,
            epochs=last,
            steps_per_epoch=self.steps - step,
            validation_data=test,
            callbacks=self.callbacks,
            shuffle=False,  # the pipeline does it; Keras would only warn that it cannot
            verbose=0,
        )

    def _end_epoch(self, test):
        """Test and write, where a run was interrupted after the last step of an epoch."""
        epoch = self.position.epoch
        tested = self.trained.evaluate(test, callbacks=[self.average], verbose=0, return_dict=True)
        callbacks = keras.callbacks.CallbackList(self.callbacks, model=self.trained)
        callbacks.on_train_begin()
        callbacks.on_epoch_begin(epoch)
        logs = {name: float(value) for name, value in self.trained.get_metrics_result().items()}
        callbacks.on_epoch_end(epoch, {**logs, **{f"val_{k}": v for k, v in tested.items()}})

    def _tell_resumed(self):
        position = self.position
        told = f"going on from epoch {position.epoch + 1}, step {position.step} of {self.steps}"
        if position.epoch == self.recipe.epochs:
            told = f"nothing is left to train: all {position.epoch} epochs are done"
        self.console.print(told, highlight=False)

    def _finish(self, interrupted: bool) -> dict:
        self.checkpoints.save()
        self.files.save(MODEL)
        self.history.draw()
        summary = self._summary(interrupted)
        write_json(self.folder / SUMMARY, summary)
        return summary

    def _leave_nothing(self):
        remove_run(self.folder)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _summary(self, interrupted: bool) -> dict:
        rows = self.position.history
        last = rows[-1] if rows else {}
        rate = self.speed.images_per_second
        return {
            "test_top1": last.get("val_top1"),
            "test_top5": last.get("val_top5"),
            "test_loss": last.get("val_loss"),
            "best_top1": max((row["val_top1"] for row in rows), default=None),
            "images_per_second": _rounded(rate, 1),
            "waiting_for_data": _rounded(self.waiting.share, 4),
            "seconds": round(self.speed.total_seconds, 2),
            "epochs": len(rows),
            "interrupted": interrupted,
            "recipe": self.recipe.name,
            "model": self.model.name,
            "parameters": self.counted.parameters,
            "trainable_parameters": self.counted.trainable,
            "macs": self.counted.macs,
            "data": self.dataset.source,
            "train_images": len(self.dataset.train),
            "test_images": len(self.dataset.test),
            "skipped_images": len(self.dataset.skipped),
            "precision": resolve(self.recipe.precision),
            "backend": keras.backend.backend(),
            "device": device(),
            "output": str(self.folder),
        }


def _rounded(value, digits):
    """None for what was not measured."""
    return None if value is None or math.isnan(value) else round(value, digits)
