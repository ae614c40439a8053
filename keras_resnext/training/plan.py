"""The first step of a run: settle what model, data, recipe and machine leave open."""

import datetime
import json
import platform
import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import keras
import tensorflow as tf

from keras_resnext.data.augment import parse_augmentation
from keras_resnext.data.datasets import Dataset
from keras_resnext.data.mixing import Mixing, parse_mixing
from keras_resnext.data.pipeline import test_edge
from keras_resnext.data.undecodable import without_undecodable
from keras_resnext.training.distribution import worker
from keras_resnext.training.environment import device, package_versions
from keras_resnext.training.precision import resolve
from keras_resnext.training.recipe import Recipe, from_fields
from keras_resnext.training.recipes import get_recipe
from keras_resnext.training.run_folder import CHECKPOINT, CONFIG, check_output, read_json


@dataclass(frozen=True, eq=False)
class Plan:
    """Everything that is settled before a run is built; later steps do not change it.

    `tested` is the data set with images of the test size, resized to `test_edge` pixels on their
    shorter side. `facts` is what config.json holds. Without an `output` the run names its folder.
    """

    model: keras.Model
    dataset: Dataset
    tested: Dataset
    test_edge: int
    recipe: Recipe
    mixing: Mixing
    steps: int
    precision: str
    output: str | Path | None
    checkpoint: Path | None
    facts: dict
    notes: tuple[str, ...]

    @property
    def total_steps(self) -> int:
        """The steps of the whole training."""
        return self.steps * self.recipe.epochs


def plan(
    model: keras.Model,
    dataset: Dataset,
    recipe: Recipe | str,
    output: str | Path | None = None,
    *,
    overwrite: bool = False,
    resume: bool = False,
    record: Mapping | None = None,
) -> Plan:
    """Settle and check everything before any work; the arguments are those of `train`."""
    given = get_recipe(recipe) if isinstance(recipe, str) else recipe
    if worker()[0] == 0:
        check_output(output, overwrite or resume)
    resume = resume and output is not None and Path(output, CHECKPOINT).is_file()
    precision = resolve(given.precision)
    check_model(model, dataset, given, precision)
    if given.on_error == "skip":
        dataset = without_undecodable(dataset)
    recipe = given.resolved(dataset)
    # How training images are cropped decides how much of a test image is seen.
    dataset = replace(dataset, augmentation=parse_augmentation(recipe.augmentation))
    tested = as_tested(dataset, recipe)
    edge = test_edge(tested, recipe.test_crop)
    mixing = parse_mixing(recipe.mixing)
    facts = {**_facts(model, tested, edge, recipe), **(record or {})}
    if resume:
        _check_same_run(Path(output), facts)
    return Plan(
        model=model,
        dataset=dataset,
        tested=tested,
        test_edge=edge,
        recipe=recipe,
        mixing=mixing,
        steps=steps_per_epoch(dataset, recipe),
        precision=precision,
        output=output,
        checkpoint=Path(output, CHECKPOINT) if resume else None,
        facts=facts,
        notes=tuple(_notes(given, recipe)),
    )


def as_tested(dataset: Dataset, recipe: Recipe) -> Dataset:
    """Return the data set with images of the test size."""
    return replace(dataset, image_size=recipe.test_size or dataset.image_size)


def steps_per_epoch(dataset: Dataset, recipe: Recipe) -> int:
    """Return the number of full batches in an epoch.

    An incomplete last batch is left out: it would be compiled separately, and may be too small for
    batch norm.
    """
    return len(dataset.train) // recipe.step_batch


def check_model(model: keras.Model, dataset: Dataset, recipe: Recipe, precision: str) -> None:
    """Raise a `ValueError` if a network cannot be trained on the data as the recipe says."""
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
            f'The model "{model.name}" returns outputs of shape {model.output_shape[1:]}, '
            f'the data "{dataset.name}" has {dataset.classes} classes. '
            f"Expected a model with `classes={dataset.classes}`."
        )
    if recipe.accumulate > 1 and _is_mirrored():
        raise ValueError(
            "Keras cannot accumulate gradients on several devices under TensorFlow. Set "
            f'KERAS_BACKEND=jax, or strategy="none". Received: accumulate={recipe.accumulate}'
        )
    if model.dtype_policy.name != precision:
        raise ValueError(
            f'The model "{model.name}" was built under "{model.dtype_policy.name}", '
            f'the recipe says precision="{precision}". Expected the same: build it '
            f'within `training.precision.precision("{precision}")`.'
        )


def _is_mirrored() -> bool:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return keras.backend.backend() == "tensorflow" and replicas > 1


def _facts(model: keras.Model, tested: Dataset, edge: int, recipe: Recipe) -> dict:
    """Return what config.json holds: how to repeat the run, and to prepare other images."""
    return {
        "model": model.name,
        "data": tested.source,
        "train_images": len(tested.train),
        "test_images": len(tested.test),
        "class_names": tested.class_names,
        "preprocessing": {
            "image_size": tested.image_size,
            "resize_shorter_side": edge,
            "pixels": "RGB, (pixel / 255 - mean) / std",
            "mean": tested.mean,
            "std": tested.std,
        },
        "recipe": asdict(recipe),
        "command": shlex.join(sys.argv),
        "started": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        "backend": keras.backend.backend(),
        "device": device(),
        "python": platform.python_version(),
        "versions": package_versions(),
    }


def _notes(given: Recipe, recipe: Recipe):
    if given.reference_batch not in (None, recipe.batch_size):
        yield (
            f"learning rate {recipe.learning_rate:.4g}: {given.learning_rate:g} for a batch of "
            f"{given.reference_batch}, in proportion for {recipe.batch_size}"
        )


def _check_same_run(folder: Path, facts: Mapping) -> None:
    """Raise a `ValueError` if the run in a folder has another network, data or recipe."""
    before = read_json(folder / CONFIG)
    facts = json.loads(json.dumps(facts))  # as they were written
    for key in ("class_names", "train_images", "test_images", "preprocessing", "model"):
        _check_same(folder, key, before.get(key), facts[key])
    theirs, ours = (asdict(_settled(from_fields(d["recipe"]))) for d in (before, facts))
    # Older runs could have a penalty besides the weight decay.
    l2 = theirs["network"].get("l2", 0.0)
    configuration = {**before.get("configuration", {}), **({"l2": l2} if l2 else {})}
    for key in configuration.keys() & facts.get("configuration", {}).keys():
        _check_same(folder, key, configuration[key], facts["configuration"][key])
    # These may differ: they do not change the weights.
    for key in ("cache", "memory_budget", "about", "paper", "differs"):
        theirs.pop(key), ours.pop(key)
    for key, value in ours.items():
        if theirs[key] != value:
            raise ValueError(
                f'"{folder}" cannot be resumed: its recipe has {key}={theirs[key]!r}, '
                f"this one {key}={value!r}. Expected the same."
            )


def _settled(recipe: Recipe) -> Recipe:
    return replace(recipe, weight_decay=recipe.decay, decoupled=recipe.decouples)


def _check_same(folder: Path, key: str, old: object, new: object) -> None:
    if old != new:
        shown = [f"{len(v)} classes" if key == "class_names" else v for v in (old, new)]
        raise ValueError(
            f'"{folder}" cannot be resumed: its {key} is {shown[0]}, and now {shown[1]}. '
            "Expected the same data and network."
        )
