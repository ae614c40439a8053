"""One training run: a network, a data set, a recipe; a folder that holds what came of it."""

import datetime
import json
import platform
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import keras
import tensorflow as tf
from rich.console import Console

from keras_resnext.data.augment import parse_augmentation
from keras_resnext.data.datasets import Dataset
from keras_resnext.data.mixing import parse_mixing
from keras_resnext.data.pipeline import test_edge
from keras_resnext.data.undecodable import naming_undecodable, without_undecodable
from keras_resnext.models.description import can_be_described, describe
from keras_resnext.models.remat import remat_model
from keras_resnext.training.compile import compile_recipe
from keras_resnext.training.distillation import load_teacher, stored_answers, taught_model
from keras_resnext.training.distribution import worker
from keras_resnext.training.environment import device, package_versions
from keras_resnext.training.precision import resolve
from keras_resnext.training.recipe import Recipe, from_fields
from keras_resnext.training.recipes import get_recipe
from keras_resnext.training.run import Run
from keras_resnext.training.run_data import (
    pipelines,
    steps_per_epoch,
    test_preprocessing,
    tested,
)
from keras_resnext.training.run_folder import (
    CHECKPOINT,
    CONFIG,
    SKIPPED,
    check_output,
    make_folder,
    read_json,
    write_json,
    write_rows,
)


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
    chief = worker()[0] == 0
    if chief:
        check_output(output, overwrite or resume)
    resume = resume and output is not None and Path(output, CHECKPOINT).is_file()
    check_model(model, dataset, recipe)
    console = console or Console(quiet=not chief)
    if recipe.on_error == "skip":
        dataset = without_undecodable(dataset)
    asked, recipe = recipe, recipe.resolved(dataset)
    parse_augmentation(recipe.augmentation)
    parse_mixing(recipe.mixing)
    # What is trained on crops says how much of a test image is seen.
    dataset = replace(dataset, augmentation=recipe.augmentation)
    if recipe.deterministic:
        tf.config.experimental.enable_op_determinism()
    facts = {**describe_run(model, dataset, recipe), **(record or {})}
    if resume:
        check_same_run(Path(output), facts)
    trained, answers = model, None
    if recipe.distilled:
        teacher = load_teacher(recipe.teacher, dataset)
        trained = taught_model(model, teacher, recipe)
    if recipe.remat:
        trained = remat_model(trained, dataset.image_size)
    steps = steps_per_epoch(dataset, recipe) * recipe.epochs
    compile_recipe(trained, recipe, steps, student=model)
    with naming_undecodable(dataset):
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
        run = Run(folder, trained, model, dataset, recipe, console, callbacks)
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
    facts = json.loads(json.dumps(facts))  # as they were written
    for key in ("class_names", "train_images", "test_images", "preprocessing", "model"):
        _check_same(folder, key, before.get(key), facts[key])
    for key in before.get("configuration", {}).keys() & facts.get("configuration", {}).keys():
        _check_same(folder, key, before["configuration"][key], facts["configuration"][key])
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


def _check_same(folder: Path, key: str, old, new) -> None:
    if old != new:
        shown = [f"{len(v)} classes" if key == "class_names" else v for v in (old, new)]
        raise ValueError(
            f'"{folder}" cannot be gone on with: its {key} is {shown[0]}, and now {shown[1]}. '
            "Expected the same data and network."
        )


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
        ValueError: If it takes other images, gives another number of classes, was built under
            another precision, or cannot accumulate gradients where it is trained.
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
    if recipe.accumulate > 1 and _mirrored():
        raise ValueError(
            "Keras cannot accumulate gradients on several devices under TensorFlow. Set "
            f'KERAS_BACKEND=jax, or strategy="none". Received: accumulate={recipe.accumulate}'
        )
    policy = resolve(recipe.precision)
    if model.dtype_policy.name != policy:
        raise ValueError(
            f'The model "{model.name}" was built under "{model.dtype_policy.name}", '
            f'the recipe says precision="{policy}". Expected the same: build it '
            f'within `training.precision.precision("{policy}")`.'
        )


def _mirrored() -> bool:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return keras.backend.backend() == "tensorflow" and replicas > 1


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
