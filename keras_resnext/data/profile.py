"""Where an input pipeline spends its time, and what would help."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_resnext.checks import check, integer, number, optional
from keras_resnext.data.cache import CachePlan
from keras_resnext.data.memory import readable
from keras_resnext.data.order import epoch_windows, shuffled_places, shuffled_records
from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import (
    Training,
    assemble,
    crop_one,
    cropped_batches,
    finish_batch,
    prepare_training,
    to_pixels,
)
from keras_resnext.data.waiting import timed

SECONDS = 3.0
# Fewer steps would mostly use prefetched batches.
LEAST_STEPS = 4
# A pipeline with at least this share of the model's rate does not hold it back.
ENOUGH = 0.95
# Share of the steps' time spent waiting that is worth a remark.
WORTH_SAYING = 0.1
MANY = 1 << 30


@dataclass(frozen=True)
class Profile:
    """Rates of a pipeline and a model, in images per second.

    Args:
        stages: dict from a stage to its rate when it is fed from memory.
        in_place: dict from a stage to the rate of the pipeline up to and including it.
        pipeline: float, rate of the whole pipeline without a model.
        model: float, rate of the model's step on one batch again and again, or None.
        together: float, rate of the model fed by the pipeline, or None.
        waiting: float, share of that time that the model waited, or None.
        cache: `CachePlan`.
        verdict: str, the bottleneck, in words.
    """

    stages: dict[str, float]
    in_place: dict[str, float]
    pipeline: float
    model: float | None
    together: float | None
    waiting: float | None
    cache: CachePlan
    verdict: str


def profile_pipeline(
    dataset: Dataset,
    step: Callable | None = None,
    batch_size: int | None = None,
    *,
    seconds: float = SECONDS,
    **options: object,
) -> Profile:
    """Measure every stage of a training pipeline by itself and in place, and the model's step.

    Args:
        dataset: `Dataset` from `load_dataset`.
        step: Function that trains on images and labels of a batch, such as
            `model.train_on_batch`. None measures only the pipeline.
        batch_size: int, images per batch. Defaults to the data set's own.
        seconds: float, seconds spent on each measurement.
        **options: Arguments of `training_batches`: augmentation, mixing, cache, memory_budget, ...

    Returns:
        `Profile`.

    Raises:
        ValueError: As for `training_batches`; if `batch_size` or `seconds` is not above 0.
    """
    check("batch_size", batch_size, optional(integer(1)))
    check("seconds", seconds, number(above=0))
    training = prepare_training(dataset, batch_size, drop_remainder=True, **options)
    if len(training.part) < training.batch_size:
        raise ValueError(
            f"{len(training.part)} images are less than one batch of {training.batch_size}."
        )
    stages = {name: _rate(stream, seconds) for name, stream in _alone(training).items()}
    in_place = {name: _rate(stream, seconds) for name, stream in _up_to(training).items()}
    pipeline = list(in_place.values())[-1]
    model = together = waiting = None
    if step is not None:
        model, together, waiting = _measure_step(step, training, seconds)
    rates = {"stages": stages, "pipeline": pipeline, "model": model, "waiting": waiting}
    verdict = judge(**rates, cache=training.plan)
    return Profile(
        in_place=in_place, together=together, cache=training.plan, verdict=verdict, **rates
    )


def _measure_step(step: Callable, training: Training, seconds: float) -> tuple[float, float, float]:
    """Return a model's rate alone, its rate with the pipeline, and the share that it waits."""
    batches = assemble(training, epochs=MANY)
    again = itertools.repeat(next(iter(batches)))
    _step_rate(step, again, 0)  # compiles
    model = _step_rate(step, again, seconds)
    measured = timed(batches)
    stream = iter(measured.batches)
    _step_rate(step, stream, seconds)  # uses up what was prefetched meanwhile
    measured.seconds()
    begin = time.perf_counter()
    together = _step_rate(step, stream, seconds)
    return model, together, min(measured.seconds() / (time.perf_counter() - begin), 1.0)


def _alone(training: Training) -> dict[str, tf.data.Dataset]:
    """Return each stage fed from memory, in batches."""
    auto, size = tf.data.AUTOTUNE, training.batch_size
    batch = next(iter(cropped_batches(training, MANY)))
    # One batch, or the two that mixing needs.
    finish = tf.data.Dataset.from_tensors((batch,) * training.mixing.loads).repeat()
    finish = finish.map(lambda *parts: finish_batch(training, parts), num_parallel_calls=auto)
    if len(_names(training)) == 2:
        first = cropped_batches(training, MANY)
        return dict(zip(_names(training), (_ready(first), _ready(finish)), strict=True))
    contents = tf.constant([row.numpy() for row in _contents(training).take(size)])
    windows = epoch_windows(training, 0)
    decoded = tf.data.Dataset.range(MANY).map(
        lambda at: crop_one(training, contents[at % len(contents)], windows[at % len(windows)]),
        num_parallel_calls=auto,
    )
    return {
        "read": _ready(_contents(training).map(tf.strings.length).batch(size)),
        "decode": _ready(decoded.batch(size)),
        "augment": _ready(finish),
    }


def _up_to(training: Training) -> dict[str, tf.data.Dataset]:
    names, size = _names(training), training.batch_size
    streams = [cropped_batches(training, MANY), assemble(training, epochs=MANY)]
    if len(names) == 3:
        streams.insert(0, _contents(training).map(tf.strings.length).batch(size))
    return {name: _ready(stream) for name, stream in zip(names, streams, strict=True)}


def _names(training: Training) -> tuple[str, ...]:
    store = training.store
    if store is not None and store.pixels is not None:
        return "fetch", "augment"
    if store is not None and store.flat is not None:
        return "crop", "augment"
    return "read", "decode", "augment"


def _contents(training: Training) -> tf.data.Dataset:
    if training.store is None:
        return shuffled_records(training, MANY).map(lambda contents, *_: contents)
    places = shuffled_places(training, MANY)
    return places.map(
        lambda place, *_: training.store.encoded(place), num_parallel_calls=tf.data.AUTOTUNE
    )


def _ready(stream: tf.data.Dataset) -> tf.data.Dataset:
    return stream.prefetch(tf.data.AUTOTUNE)


def _rate(stream: tf.data.Dataset, seconds: float) -> float:
    batches = iter(stream)
    for _ in range(2):
        next(batches, None)
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        batch = next(batches, None)
        if batch is None:
            batches = iter(stream)  # records of one pass
            continue
        count += len(tf.nest.flatten(batch)[0])
    return count / (time.perf_counter() - begin)


def _step_rate(step: Callable, batches: Iterator, seconds: float) -> float:
    count, begin = 0, time.perf_counter()
    for steps in itertools.count(1):
        images, labels = next(batches)
        step(images, labels)
        count += len(images)
        passed = time.perf_counter() - begin
        if passed >= seconds and steps >= LEAST_STEPS:
            return count / passed


def judge(
    stages: dict[str, float],
    pipeline: float,
    model: float | None,
    waiting: float | None,
    cache: CachePlan,
) -> str:
    """Name the bottleneck, and the change that would help most."""
    slowest = min(stages, key=stages.get)
    advice = ADVICE[slowest](cache)
    if model is None:
        return f"{slowest} is the slowest stage: {stages[slowest]:,.0f} images per second. {advice}"
    if pipeline < ENOUGH * model:
        return (
            f"{slowest} is the bottleneck: the pipeline gives {pipeline:,.0f} of the {model:,.0f} "
            f"images per second that the model can take. {advice}"
        )
    if waiting > WORTH_SAYING:
        return (
            f"The model and the pipeline want the same cores: each alone is fast enough "
            f"({model:,.0f} and {pipeline:,.0f} images per second), together the model waits "
            f"{waiting:.0%} of the time, most for {slowest}. {advice}"
        )
    return (
        f"The model is the bottleneck: it takes {model:,.0f} images per second, the pipeline could "
        f"give {pipeline:,.0f}. Nothing in the pipeline would help."
    )


def _advise_read(cache: CachePlan) -> str:
    room = f"{readable(cache.encoded)} of the {readable(cache.budget)} of memory that may be used"
    if cache.encoded <= cache.budget:
        return f"cache=encoded would read each file once; it needs {room}."
    return f"cache=encoded would need {room}; put the files on a faster disk, or pack them."


def _advise_decode(cache: CachePlan) -> str:
    room = f"{readable(cache.decoded)} of the {readable(cache.budget)} of memory that may be used"
    if cache.decoded <= cache.budget:
        return f"cache=encoded would not help, cache=memory needs {room}."
    return (
        f"cache=encoded would not help; cache=memory needs {room}, a folder as cache as much of a "
        "disk."
    )


def _advise_augment(cache: CachePlan) -> str:
    return "No cache helps, since nothing augmented is kept: augment less, or with more cores."


def _advise_fetch(cache: CachePlan) -> str:
    return "The images are in memory already: only more cores would help."


ADVICE = {
    "read": _advise_read,
    "decode": _advise_decode,
    "augment": _advise_augment,
    "crop": _advise_fetch,
    "fetch": _advise_fetch,
}


def example_batch(dataset: Dataset, count: int, **options: object) -> tuple[np.ndarray, np.ndarray]:
    """Return `count` augmented images, as uint8 pixels, and their labels (count, classes)."""
    check("count", count, integer(1))
    training = prepare_training(dataset, min(count, len(dataset.train)), **options)
    images, labels = next(iter(assemble(training)))
    return to_pixels(images.numpy(), dataset), labels.numpy()
