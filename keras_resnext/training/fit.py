"""One training run: a network, a data set, a recipe; a folder that holds what came of it."""

import datetime
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from keras_resnext.data.cache import find_undecodable, name_undecodable
from keras_resnext.data.datasets import Dataset
from keras_resnext.data.mixing import find_mixing
from keras_resnext.data.parts import Part
from keras_resnext.data.pipeline import assemble, prepare_training, test_batches, test_edge
from keras_resnext.data.sources.folders import without
from keras_resnext.data.waiting import timed
from keras_resnext.layers import Preprocessing
from keras_resnext.models.complexity import complexity
from keras_resnext.models.description import can_be_described, describe
from keras_resnext.training import callbacks as run_callbacks
from keras_resnext.training import checkpoint
from keras_resnext.training.compile import compile_recipe
from keras_resnext.training.distillation import load_teacher, stored_answers, taught_model
from keras_resnext.training.distribution import devices_of_a_worker, worker
from keras_resnext.training.environment import device, package_versions
from keras_resnext.training.maps import activation_maps
from keras_resnext.training.optimizers import inner
from keras_resnext.training.precision import resolve
from keras_resnext.training.recipes import Recipe, from_fields, get_recipe
from keras_resnext.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    MODEL,
    SKIPPED,
    SUMMARY,
    check_output,
    make_folder,
    read_json,
    remove_run,
    write_json,
    write_rows,
)
from keras_resnext.training.schedules import learning_rate_schedule


def train(
    model: keras.Model,
    dataset: Dataset,
    recipe: Recipe | str = "default",
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    record: Mapping | None = None,
    console: Console | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> dict:
    """Train a classifier as a recipe says, with its progress shown, and write the run's folder.

    The folder holds model.keras (of the last epoch) and best.keras (of the best), history.csv,
    history.png and TensorBoard's events/ (all kept up to date in training), checkpoint.safetensors
    to go on from, config.json (what was asked for) and summary.json (what came of it), and
    skipped.csv if broken files were left out. Ctrl-C ends training after the step under way:
    everything is kept as it is then, and the summary says ``"interrupted": true``
    with the test results of the last whole epoch.

    Args:
        model: Takes images of ``dataset.image_size`` and gives probabilities or logits, one a
            class; ``training.network.network_for`` builds one for a recipe. It is compiled here.
            Call ``keras.utils.set_random_seed`` before building it for a run that can be
            repeated.
        dataset: From ``load_dataset``.
        recipe: How to train, or the name of a row of the table.
        output: The folder. Default: ``runs/<model>-<data>``, with -2, -3 if that exists.
        overwrite: Whether a run that ``output`` already holds may be replaced.
        resume: Whether the run that ``output`` holds is gone on with, from its last checkpoint:
            with the same model, data and recipe it ends as if it had never been interrupted.
            Where none is there, it is begun.
        record: More to write into config.json, such as the configuration of the network.
        console: To show progress on. Default: standard output.
        callbacks: More than those of a run, such as ``keras.callbacks.EarlyStopping``.

    Returns:
        What summary.json holds: ``test_top1``, ``test_top5`` (None for fewer than 6 classes) and
        ``test_loss``, ``best_top1``, ``images_per_second`` (of training, without compiling and
        testing), ``seconds``, ``parameters``, ``macs``, ``epochs`` and more, and ``output``, the
        folder.

    Raises:
        ValueError: For an output that cannot be used, a model that does not fit the data or the
            recipe, an image that cannot be decoded, and a checkpoint of another run.
        DivergedError: If the loss is no number any more; what has been saved stays.
        WriteError: If a file cannot be written: what was there before is as it was.
    """
    recipe = get_recipe(recipe) if isinstance(recipe, str) else recipe
    resume = resume and output is not None and Path(output, CHECKPOINT).is_file()
    chief = worker()[0] == 0
    if chief:
        check_output(output, overwrite or resume)
    check_model(model, dataset, recipe)
    console = console or Console(quiet=not chief)
    if recipe.on_error == "skip":
        dataset = without_undecodable(dataset)
    asked, recipe = recipe, recipe.resolved(dataset)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    facts = {**describe_run(model, dataset, recipe), **(record or {})}
    if resume:
        check_same_run(Path(output), facts)
    trained, answers = model, None
    if recipe.distilled:
        teacher = load_teacher(recipe.teacher, dataset)
        trained = taught_model(model, teacher, recipe)
    steps = steps_per_epoch(dataset, recipe) * recipe.epochs
    compile_recipe(trained, recipe, steps, student=model)
    with _naming_undecodable(dataset):
        if recipe.distilled and recipe.teacher_stored:
            answers = stored_answers(teacher, dataset, recipe)
        training, test = pipelines(model, dataset, recipe, answers)
        _describe(model, tested(dataset, recipe), recipe)
        folder = Path(output) if resume and chief else _new_folder(output, model, dataset)
        facts["cache"] = f"{training.plan.kind}: {training.plan.reason}"
        if not resume:
            write_json(folder / CONFIG, facts)
        _tell(console, folder, dataset, training.plan)
        _tell_rate(console, asked, recipe)
        run = _Run(folder, trained, model, dataset, recipe, console, callbacks)
        return run.fit(training, test, Path(output, CHECKPOINT) if resume else None)


def _new_folder(output, model: keras.Model, dataset: Dataset) -> Path:
    """Of several workers one writes the folder of the run; the others have one for nothing."""
    if worker()[0] > 0:
        return Path(tempfile.mkdtemp(prefix="keras-resnext-worker-"))
    return make_folder(output, model.name, dataset.name)


def check_same_run(folder: Path, facts: Mapping) -> None:
    """Refuse to go on with a run of another recipe or other data.

    Args:
        folder: Of the run.
        facts: From ``describe_run``, of what is to go on.

    Raises:
        ValueError: If they differ from those in the folder's config.json.
    """
    before = read_json(folder / CONFIG)
    for key in ("class_names", "train_images", "test_images", "model"):
        old, new = before.get(key), facts[key]
        old, new = (list(v) if isinstance(v, list | tuple) else v for v in (old, new))
        if old != new:
            shown = [f"{len(v)} classes" if isinstance(v, list) else v for v in (old, new)]
            raise ValueError(
                f'"{folder}" cannot be gone on with: its {key} is {shown[0]}, and now {shown[1]}. '
                "Expected the same data and network."
            )
    theirs, ours = (asdict(from_fields(d["recipe"])) for d in (before, facts))
    # What may be another without a weight being another.
    for key in ("cache", "memory_budget", "about", "paper", "differs"):
        theirs.pop(key), ours.pop(key)
    different = [key for key in ours if theirs[key] != ours[key]]
    if different:
        key = different[0]
        raise ValueError(
            f'"{folder}" cannot be gone on with: its recipe has {key}={theirs[key]!r}, '
            f"this one {key}={ours[key]!r}. Expected the same."
        )


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Give the number of steps in an epoch; a last batch that is not full is left out.

    That leaves one shape to compile, and no batch norm over a rest of one image.

    Args:
        dataset: From ``load_dataset``.
        recipe: Resolved.
    """
    return len(dataset.train) // recipe.step_batch


def without_undecodable(dataset: Dataset) -> Dataset:
    """Decode every image once, and leave out those that fail.

    Args:
        dataset: Of files; of others nothing is left out.

    Returns:
        A Dataset, with what was left out in ``skipped``.
    """
    broken = find_undecodable(dataset.train) | find_undecodable(dataset.test)
    if not broken:
        return dataset
    parts = {name: _without(getattr(dataset, name), broken) for name in ("train", "test")}
    return replace(dataset, skipped=(*dataset.skipped, *broken.items()), **parts)


def _without(part: Part, broken: dict[str, str]) -> Part:
    return without(part, broken) if isinstance(part.images, tuple) else part


def pipelines(model: keras.Model, dataset: Dataset, recipe: Recipe, answers=None):
    """Give the data of a run; memory is shared by the sizes of its parts.

    Args:
        model: That is trained.
        dataset: From ``load_dataset``.
        recipe: Resolved.
        answers: Of a teacher, for each training image, or None.

    Returns:
        Training as ``assemble`` takes it, and test batches.
    """
    budget = recipe.memory_budget
    share = len(dataset.train) / (len(dataset.train) + len(dataset.test))
    stages = find_mixing(recipe.mixing)
    wants_maps = any(mix.needs_maps for stage in stages for mix, _ in stage.choices)
    training = prepare_training(
        dataset,
        recipe.step_batch,
        seed=recipe.seed,
        augmentation=recipe.augmentation,
        mixing=recipe.mixing,
        label_smoothing=recipe.label_smoothing,
        smoothing_over=recipe.smoothing_over,
        drop_remainder=True,
        cache=recipe.cache,
        memory_budget=None if budget is None else int(budget * share),
        maps=activation_maps(model) if wants_maps else None,
        answers=answers,
        worker=worker(),
    )
    test = test_batches(
        tested(dataset, recipe),
        recipe.step_batch,
        cache=recipe.cache,
        memory_budget=None if budget is None else int(budget * (1 - share)),
        crop=recipe.test_crop,
    )
    devices = devices_of_a_worker()
    if devices > 1:  # each gets as many images
        test = test.map(
            lambda x, y: tuple(t[: tf.shape(t)[0] // devices * devices] for t in (x, y))
        )
        test = test.filter(lambda x, y: tf.shape(x)[0] > 0)
    if answers is not None:
        nothing = np.zeros_like(answers[:1])
        test = test.map(lambda x, y: ((x, tf.repeat(nothing, tf.shape(x)[0], axis=0)), y))
    return training, test


def tested(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Give a data set as it is tested on: with images of that size.

    Args:
        dataset: From ``load_dataset``.
        recipe: For the size.
    """
    return replace(dataset, image_size=recipe.test_size or dataset.image_size)


def _tell(console: Console, folder: Path, dataset: Dataset, plan) -> None:
    if plan.kind != "array":
        console.print(f"kept between epochs: {plan.kind}: {plan.reason}", highlight=False)
    if dataset.skipped:
        rows = [{"file": path, "fault": fault} for path, fault in dataset.skipped]
        write_rows(folder / SKIPPED, rows)
        console.print(f"left out: {len(rows)} broken files, listed in {folder / SKIPPED}")


def _tell_rate(console: Console, asked: Recipe, recipe: Recipe) -> None:
    if asked.reference_batch not in (None, recipe.batch_size):
        console.print(
            f"learning rate {recipe.learning_rate:.4g}: {asked.learning_rate:g} for a batch of "
            f"{asked.reference_batch}, in proportion for {recipe.batch_size}",
            highlight=False,
        )


def check_model(model: keras.Model, dataset: Dataset, recipe: Recipe) -> None:
    """Refuse a network that cannot be trained on the data as the recipe says.

    Args:
        model: Built.
        dataset: What it is to be trained on.
        recipe: Its precision must be what the model was built under.

    Raises:
        ValueError: If it takes other images, gives another number of classes, or was built under
            another precision.
    """
    for size in {dataset.image_size, recipe.test_size or dataset.image_size}:
        shape, expected = model.input_shape[1:], (size, size, 3)
        if any(a not in (None, b) for a, b in zip(shape, expected, strict=True)):
            raise ValueError(
                f'The model "{model.name}" takes images of shape {shape}, '
                f'the data "{dataset.name}" has {expected}. Expected the same: '
                "build it with that `input_shape`, or load the data with that `image_size`."
            )
    if model.output_shape[1:] != (dataset.classes,):
        raise ValueError(
            f'The model "{model.name}" gives outputs of shape {model.output_shape[1:]}, '
            f'the data "{dataset.name}" has {dataset.classes} classes. '
            f"Expected a model with `classes={dataset.classes}`."
        )
    policy = resolve(recipe.precision)
    if model.dtype_policy.name != policy:
        raise ValueError(
            f'The model "{model.name}" was built under "{model.dtype_policy.name}", '
            f'the recipe says precision="{policy}". Expected the same: build it '
            f'within `training.precision.precision("{policy}")`.'
        )


def test_preprocessing(size: int, edge: int, mean: Sequence, std: Sequence) -> Preprocessing:
    """Give the layer that prepares an image as those of a run's test are.

    Args:
        size: Pixels of the square that the network takes.
        edge: Pixels of the shorter side before the crop.
        mean, std: Of each channel, of pixels from 0 to 1.
    """
    return Preprocessing(size, size / edge, mean=mean, std=std, resize_fitting=False)


def _describe(model: keras.Model, dataset: Dataset, recipe: Recipe) -> None:
    """Write into the model, and so into its file, what `predict` and `export` must know."""
    if can_be_described(model):
        size, edge = dataset.image_size, test_edge(dataset, recipe.test_crop)
        layer = test_preprocessing(size, edge, dataset.mean, dataset.std)
        describe(model, layer, dataset.class_names)


def describe_run(model: keras.Model, dataset: Dataset, recipe: Recipe) -> dict:
    """Give what is needed to repeat a run, and to feed its model with other images.

    Args:
        model: Built.
        dataset: What it is trained on.
        recipe: Resolved.

    Returns:
        What JSON can hold.
    """
    seen = tested(dataset, recipe)
    return {
        "model": model.name,
        "data": dataset.source,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "class_names": dataset.class_names,
        "preprocessing": {
            "image_size": seen.image_size,
            "resize_shorter_side": test_edge(seen, recipe.test_crop),
            "pixels": "RGB, (pixel / 255 - mean) / std",
            "mean": dataset.mean,
            "std": dataset.std,
        },
        "recipe": asdict(recipe),
        "command": shlex.join(sys.argv),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": device(),
        "python": platform.python_version(),
        "versions": package_versions(),
    }


@contextmanager
def _naming_undecodable(dataset: Dataset):
    """An image that cannot be decoded fails somewhere in a step: say which it was."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in ("InvalidArgumentError", "UnknownError"):
            raise
        message = name_undecodable(dataset.train) or name_undecodable(dataset.test)
        if message is None:
            raise
        raise ValueError(message) from error


class _Run:
    """The callbacks of a run, and what is done with them when it ends."""

    def __init__(self, folder, trained, model, dataset, recipe, console, callbacks):
        self.folder, self.trained, self.model = folder, trained, model
        self.dataset, self.recipe, self.console = dataset, recipe, console
        self.more = callbacks
        self.steps = steps_per_epoch(dataset, recipe)
        self.schedule = learning_rate_schedule(recipe, self.steps * recipe.epochs)
        size = dataset.image_size
        self.counted = complexity(model, (size, size, 3))
        self.position, self.sums = checkpoint.Position(), None
        if not trained.optimizer.built:
            trained.optimizer.build(model.trainable_variables)

    def fit(self, training, test, resume: Path | None) -> dict:
        """Train to the end, from a checkpoint if there is one."""
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
        self.checkpoints = run_callbacks.Checkpoints(folder, self.model, position, self.speed)
        self.stop = run_callbacks.StopSafely()
        self.average = run_callbacks.TestAverage()
        self.bars = []
        if self.console.is_terminal:
            bar = run_callbacks.ProgressBar(
                self.console, recipe.epochs, recipe.step_batch, self.steps, position
            )
            self.bars.append(bar)
        self.callbacks = [
            run_callbacks.Track(position, self.sums),
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
        if not self.recipe.deterministic and tf.distribute.get_strategy().num_replicas_in_sync == 1:
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
        self.console.print(
            f"going on from epoch {position.epoch + 1}, step {position.step} of {self.steps}",
            highlight=False,
        )

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
            "images_per_second": rate and round(rate, 1),
            "waiting_for_data": self.waiting.share and round(self.waiting.share, 4),
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
