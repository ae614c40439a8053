"""One training run: a network, a data set, settings; a folder that holds what came of it."""

import datetime
import os
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import keras
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
from keras_resnext.training.fine_tune import StagewiseSGD, freeze
from keras_resnext.training.maps import activation_maps
from keras_resnext.training.run_folder import (
    CONFIG,
    SKIPPED,
    SUMMARY,
    check_output,
    make_folder,
    remove_run,
    write_json,
    write_rows,
)
from keras_resnext.training.settings import TrainSettings
from keras_resnext.version import __version__

PACKAGES = ("keras", "tensorflow", "jax", "torch", "numpy")
# Fewer classes than this make "one of the best five" say nothing.
CLASSES_FOR_TOP5 = 6


def train(
    model: keras.Model,
    dataset: Dataset,
    settings: TrainSettings | None = None,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    record: Mapping | None = None,
    console: Console | None = None,
) -> dict:
    """Train a classifier, with its progress shown, and write the folder of the run.

    The folder holds model.keras, history.csv and history.png (kept up to date in training),
    config.json (what was asked for) and summary.json (what came of it), and skipped.csv if broken
    files were left out. Ctrl-C ends training after
    the step under way: the model is kept as it is, and the summary says ``"interrupted": true``
    with the test results of the last whole epoch.

    Args:
        model: Takes images of ``dataset.image_size`` and gives probabilities or logits, one a
            class. It is compiled here. Call ``keras.utils.set_random_seed`` before building it for
            a run that can be repeated.
        dataset: From ``load_dataset``.
        settings: How to train. Default: ``TrainSettings()``.
        output: The folder. Default: ``runs/<model>-<data>``, with -2, -3 if that exists.
        overwrite: Whether a run that ``output`` already holds may be replaced.
        record: More to write into config.json, such as the configuration of the network.
        console: To show progress on. Default: standard output.

    Returns:
        What summary.json holds: ``test_top1``, ``test_top5`` (None for fewer than 6 classes) and
        ``test_loss``, ``images_per_second`` (of training, without compiling and testing),
        ``seconds``, ``parameters``, ``macs``, ``epochs`` and more, and ``output``, the folder.

    Raises:
        ValueError: For an output that cannot be used, a model that does not fit the data, and an
            image that cannot be decoded.
        DivergedError: If the loss is no number any more; what has been saved stays.
    """
    check_output(output, overwrite)
    settings = settings or TrainSettings()
    check_model(model, dataset, settings)
    console = console or Console()
    if settings.on_error == "skip":
        dataset = without_undecodable(dataset)
    settings = settings.resolved(dataset)
    schedule = learning_rate_schedule(
        settings, steps_per_epoch(dataset, settings) * settings.epochs
    )
    with _naming_undecodable(dataset):
        training, test = _pipelines(model, dataset, settings)
        compile_model(model, schedule, settings)
        _describe(model, dataset)
        folder = make_folder(output, model.name, dataset.name)
        facts = describe_run(model, dataset, settings)
        facts["cache"] = f"{training.plan.kind}: {training.plan.reason}"
        write_json(folder / CONFIG, {**facts, **(record or {})})
        _tell(console, folder, dataset, training.plan)
        run = _Run(folder, model, dataset, settings, schedule, console)
        return run.fit(assemble(training, settings.epochs), test)


def steps_per_epoch(dataset: Dataset, settings: TrainSettings) -> int:
    """Give the number of batches in an epoch; a last one that is not full is left out.

    That leaves one shape to compile, and no batch norm over a rest of one image.

    Args:
        dataset: From ``load_dataset``.
        settings: Resolved.
    """
    return len(dataset.train) // settings.batch_size


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


def _pipelines(model: keras.Model, dataset: Dataset, settings: TrainSettings):
    """Training as ``assemble`` takes it, and test batches; memory is shared by their sizes."""
    budget = settings.memory_budget
    share = len(dataset.train) / (len(dataset.train) + len(dataset.test))
    stages = find_mixing(settings.mixing)
    wants_maps = any(mix.needs_maps for stage in stages for mix, _ in stage.choices)
    training = prepare_training(
        dataset,
        settings.batch_size,
        seed=settings.seed,
        augmentation=settings.augmentation,
        mixing=settings.mixing,
        label_smoothing=settings.label_smoothing,
        drop_remainder=True,
        cache=settings.cache,
        memory_budget=None if budget is None else int(budget * share),
        maps=activation_maps(model) if wants_maps else None,
    )
    test = test_batches(
        dataset,
        settings.batch_size,
        cache=settings.cache,
        memory_budget=None if budget is None else int(budget * (1 - share)),
    )
    return training, test


def _tell(console: Console, folder: Path, dataset: Dataset, plan) -> None:
    if plan.kind != "array":
        console.print(f"kept between epochs: {plan.kind}: {plan.reason}", highlight=False)
    if dataset.skipped:
        rows = [{"file": path, "fault": fault} for path, fault in dataset.skipped]
        write_rows(folder / SKIPPED, rows)
        console.print(f"left out: {len(rows)} broken files, listed in {folder / SKIPPED}")


def learning_rate_schedule(settings: TrainSettings, steps: int):
    """Linear warm-up, then half a cosine down to 0 at the last step.

    Args:
        settings: Resolved.
        steps: Of the whole training.

    Returns:
        A ``keras.optimizers.schedules.CosineDecay``.

    Example:

    >>> settings = TrainSettings(learning_rate=0.4, warmup=0.1)
    >>> schedule = learning_rate_schedule(settings, steps=100)
    >>> [round(float(schedule(step)), 3) for step in (0, 5, 10, 55, 100)]
    [0.0, 0.2, 0.4, 0.2, 0.0]
    """
    warmup = round(steps * settings.warmup)
    if not warmup:
        return keras.optimizers.schedules.CosineDecay(settings.learning_rate, max(steps, 1))
    return keras.optimizers.schedules.CosineDecay(
        0.0, steps - warmup, warmup_target=settings.learning_rate, warmup_steps=warmup
    )


def compile_model(model: keras.Model, schedule, settings: TrainSettings) -> None:
    """Compile a classifier for one-hot labels: Nesterov SGD, cross entropy, top-1 and top-5.

    Args:
        model: Ends in a softmax or in logits.
        schedule: Learning rate, or a schedule of it.
        settings: For momentum and weight decay, and what is frozen.
    """
    freeze(model, settings.freeze)
    optimizer = StagewiseSGD(
        schedule,
        stage_decay=settings.stage_decay,
        momentum=settings.momentum,
        nesterov=settings.momentum > 0,
        weight_decay=settings.weight_decay or None,
    )
    vectors = [variable for variable in model.trainable_variables if len(variable.shape) < 2]
    optimizer.exclude_from_weight_decay(var_list=vectors)
    metrics = [keras.metrics.CategoricalAccuracy(name="top1")]
    if model.output_shape[-1] >= CLASSES_FOR_TOP5:
        metrics.append(keras.metrics.TopKCategoricalAccuracy(5, name="top5"))
    model.compile(
        optimizer,
        loss=keras.losses.CategoricalCrossentropy(from_logits=not _ends_in_softmax(model)),
        metrics=metrics,
    )


def check_model(model: keras.Model, dataset: Dataset, settings: TrainSettings) -> None:
    """Refuse a network that cannot be trained on the data as the settings say.

    Args:
        model: Built.
        dataset: What it is to be trained on.
        settings: Its precision must be what the model was built under.

    Raises:
        ValueError: If it takes other images, gives another number of classes, or was built under
            another precision.
    """
    shape, expected = model.input_shape[1:], (dataset.image_size, dataset.image_size, 3)
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
    if model.dtype_policy.name != settings.precision:
        raise ValueError(
            f'The model "{model.name}" was built under "{model.dtype_policy.name}", '
            f'the settings say precision="{settings.precision}". Expected the same: build it '
            f'within `training.precision.precision("{settings.precision}")`.'
        )


def test_preprocessing(size: int, edge: int, mean: Sequence, std: Sequence) -> Preprocessing:
    """Give the layer that prepares an image as those of a run's test are.

    Args:
        size: Pixels of the square that the network takes.
        edge: Pixels of the shorter side before the crop.
        mean, std: Of each channel, of pixels from 0 to 1.
    """
    return Preprocessing(size, size / edge, mean=mean, std=std, resize_fitting=False)


def _describe(model: keras.Model, dataset: Dataset) -> None:
    """Write into the model, and so into its file, what `predict` and `export` must know."""
    if can_be_described(model):
        size, edge = dataset.image_size, test_edge(dataset)
        layer = test_preprocessing(size, edge, dataset.mean, dataset.std)
        describe(model, layer, dataset.class_names)


def describe_run(model: keras.Model, dataset: Dataset, settings: TrainSettings) -> dict:
    """Give what is needed to repeat a run, and to feed its model with other images.

    Args:
        model: Built.
        dataset: What it is trained on.
        settings: Resolved.

    Returns:
        What JSON can hold.
    """
    return {
        "model": model.name,
        "data": dataset.source,
        "train_images": len(dataset.train),
        "test_images": len(dataset.test),
        "class_names": dataset.class_names,
        "preprocessing": {
            "image_size": dataset.image_size,
            "resize_shorter_side": test_edge(dataset),
            "pixels": "RGB, (pixel / 255 - mean) / std",
            "mean": dataset.mean,
            "std": dataset.std,
        },
        "settings": asdict(settings),
        "command": shlex.join(sys.argv),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": device(),
        "python": platform.python_version(),
        "versions": _versions(),
    }


def device() -> str:
    """Say what this machine trains on.

    Example:

    >>> "cores" in device() or "gpu" in device()
    True
    """
    devices = [name.lower() for name in keras.distribution.list_devices()]
    accelerators = [name for name in devices if not name.startswith("cpu")]
    return ", ".join(accelerators) or f"cpu, {_processor()}, {_cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _versions() -> dict[str, str]:
    found = {"keras-resnext": __version__}
    for name in PACKAGES:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def _ends_in_softmax(model: keras.Model) -> bool:
    activation = getattr(model.layers[-1], "activation", None)
    return isinstance(model.layers[-1], keras.layers.Softmax) or (
        activation is keras.activations.softmax
    )


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

    def __init__(self, folder, model, dataset, settings, schedule, console):
        self.folder, self.model, self.dataset, self.settings = folder, model, dataset, settings
        title = f"{model.name} on {dataset.name}"
        self.counted = complexity(model, (dataset.image_size, dataset.image_size, 3))
        self.speed = run_callbacks.Speed(settings.batch_size)
        self.waiting = None
        self.history = run_callbacks.HistoryFiles(folder, title)
        self.file = run_callbacks.ModelFile(folder)
        self.stop = run_callbacks.StopSafely()
        lines = run_callbacks.EpochLines(console, settings.epochs)
        self.bars = []
        if console.is_terminal:
            bar = run_callbacks.ProgressBar(console, settings.epochs, settings.batch_size)
            self.bars.append(bar)
        nan = run_callbacks.StopOnNaN(schedule)
        # Speed first: the others show and write what it adds to the logs. Stopping last.
        self.callbacks = [
            self.speed, nan, self.history, lines, *self.bars, self.file, self.stop
        ]  # fmt: skip

    def fit(self, batches, test) -> dict:
        """Train on batches that are those of all epochs, one after the other."""
        measured = timed(batches)
        self.waiting = run_callbacks.WaitingShare(measured.seconds)
        interrupted = False
        try:
            with self.stop:
                self.model.fit(
                    measured.batches,
                    epochs=self.settings.epochs,
                    steps_per_epoch=steps_per_epoch(self.dataset, self.settings),
                    validation_data=test,
                    callbacks=[self.waiting, *self.callbacks],
                    shuffle=False,  # the pipeline does it; Keras would only warn that it cannot
                    verbose=0,
                )
        except KeyboardInterrupt:
            if not self.stop.steps:
                self._leave_nothing()
                raise
            interrupted = True
        finally:
            for bar in self.bars:
                bar.stop()
        self.file.save()
        self.history.draw()
        summary = self._summary(interrupted)
        write_json(self.folder / SUMMARY, summary)
        return summary

    def _leave_nothing(self):
        remove_run(self.folder)
        if not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _summary(self, interrupted: bool) -> dict:
        last = self.history.rows[-1] if self.history.rows else {}
        rate = self.speed.images_per_second
        return {
            "test_top1": last.get("val_top1"),
            "test_top5": last.get("val_top5"),
            "test_loss": last.get("val_loss"),
            "images_per_second": rate and round(rate, 1),
            "waiting_for_data": self.waiting.share and round(self.waiting.share, 4),
            "seconds": round(self.speed.total_seconds, 2),
            "epochs": len(self.history.rows),
            "interrupted": interrupted,
            "model": self.model.name,
            "parameters": self.counted.parameters,
            "trainable_parameters": self.counted.trainable,
            "macs": self.counted.macs,
            "data": self.dataset.source,
            "train_images": len(self.dataset.train),
            "test_images": len(self.dataset.test),
            "skipped_images": len(self.dataset.skipped),
            "precision": self.settings.precision,
            "backend": keras.backend.backend(),
            "device": device(),
            "output": str(self.folder),
        }
