"""Where an input pipeline spends its time, and what would help: each stage alone and in place."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from keras_resnext.data.cache import CachePlan
from keras_resnext.data.memory import readable
from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import (
    Training,
    assemble,
    crop_one,
    cropped_batches,
    epoch_windows,
    finish_batch,
    prepare_training,
    shuffled_places,
    shuffled_records,
    to_pixels,
)
from keras_resnext.data.waiting import timed

SECONDS = 3.0
# Of the model: fewer would mostly be fed by what was prefetched.
LEAST_STEPS = 4
# A pipeline that gives this share of what the model takes, or more, is not what holds it back.
ENOUGH = 0.95
# Share of the steps' time spent waiting that is worth a remark.
WORTH_SAYING = 0.1
MANY = 1 << 30


@dataclass(frozen=True)
class Profile:
    """What was measured, in images a second.

    Args:
        stages: Of each stage, fed from memory: what it could give by itself.
        in_place: Of the pipeline up to and with that stage.
        pipeline: Of the whole pipeline without a model.
        model: Of the model's step on one batch again and again, or None.
        together: Of the model fed by the pipeline, or None.
        waiting: Share of the time that the model then waited, or None.
        cache: What was kept, of what sizes.
        verdict: In words.
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
    **options,
) -> Profile:
    """Measure every stage of a training pipeline by itself and in place, and the model's step.

    Args:
        dataset: From ``load_dataset``.
        step: Takes images and labels of a batch and returns when they are trained on, such as
            ``model.train_on_batch``. None: the pipeline alone.
        batch_size: Images a batch. Default: the data set's own.
        seconds: Spent on each measurement.
        **options: Of ``training_batches``: augmentation, mixing, cache, memory_budget, ...

    Returns:
        A Profile.

    Raises:
        ValueError: As of ``training_batches``; for a batch size or seconds that are not above 0.
    """
    _check_above_zero(batch_size=batch_size, seconds=seconds)
    training = prepare_training(dataset, batch_size, drop_remainder=True, **options)
    if len(training.part) < training.batch_size:
        raise ValueError(
            f"{len(training.part)} images are less than one batch of {training.batch_size}."
        )
    batches = assemble(training, epochs=MANY)
    example = next(iter(batches))
    stages = {name: _rate(stream, seconds) for name, stream in _alone(training).items()}
    in_place = {name: _rate(stream, seconds) for name, stream in _up_to(training).items()}
    pipeline = in_place[list(in_place)[-1]]
    model = together = waiting = None
    if step is not None:
        again = itertools.repeat(example)
        _step_rate(step, again, 0)  # compiles
        model = _step_rate(step, again, seconds)
        measured = timed(batches)
        stream = iter(measured.batches)
        _step_rate(step, stream, seconds)  # uses up what was prefetched meanwhile
        measured.seconds()
        begin = time.perf_counter()
        together = _step_rate(step, stream, seconds)
        waiting = min(measured.seconds() / (time.perf_counter() - begin), 1.0)
    facts = {"stages": stages, "pipeline": pipeline, "model": model, "waiting": waiting}
    verdict = judge(**facts, cache=training.plan)
    return Profile(
        in_place=in_place, together=together, cache=training.plan, verdict=verdict, **facts
    )


def _check_above_zero(**arguments: float | None) -> None:
    for name, value in arguments.items():
        if value is not None and not value > 0:
            raise ValueError(
                f"Invalid value for `{name}`. Expected more than 0. Received: {name}={value}"
            )


def _alone(training: Training) -> dict[str, tf.data.Dataset]:
    """Each stage fed from memory, in batches."""
    auto, size = tf.data.AUTOTUNE, training.batch_size
    raw = next(iter(cropped_batches(training, MANY)))
    finish = tf.data.Dataset.from_tensors(_loaded(training, raw)).repeat()
    finish = finish.map(lambda *parts: finish_batch(training, parts), num_parallel_calls=auto)
    kept = training.kept
    if kept is not None and kept.pixels is not None:
        return {"fetch": cropped_batches(training, MANY).prefetch(auto), "augment": _ready(finish)}
    if kept is not None and kept.flat is not None:
        crop = cropped_batches(training, MANY)
        return {"crop": _ready(crop), "augment": _ready(finish)}
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
    """The pipeline as it is, cut after each stage."""
    names, size = list(_names(training)), training.batch_size
    streams = [cropped_batches(training, MANY), assemble(training, epochs=MANY)]
    if len(names) == 3:
        streams.insert(0, _contents(training).map(tf.strings.length).batch(size))
    return {name: _ready(stream) for name, stream in zip(names, streams, strict=True)}


def _names(training: Training) -> tuple[str, ...]:
    kept = training.kept
    if kept is not None and kept.pixels is not None:
        return "fetch", "augment"
    return ("crop", "augment") if kept is not None and kept.flat is not None else STAGES


STAGES = ("read", "decode", "augment")


def _contents(training: Training) -> tf.data.Dataset:
    """The bytes of image files in the order of training."""
    if training.kept is None:
        return shuffled_records(training, MANY).map(lambda contents, *_: contents)
    places = shuffled_places(training, MANY)
    return places.map(
        lambda place, *_: training.kept.encoded(place), num_parallel_calls=tf.data.AUTOTUNE
    )


def _loaded(training: Training, batch):
    """One batch, or the two that mixing wants."""
    return (batch,) * training.mixing.loads


def _ready(stream: tf.data.Dataset) -> tf.data.Dataset:
    return stream.prefetch(tf.data.AUTOTUNE)


def _rate(stream: tf.data.Dataset, seconds: float) -> float:
    """Images a second, after the first two batches."""
    batches = iter(stream)
    count = [_length(next(batches, None)) for _ in range(2)]
    count, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        batch = next(batches, None)
        if batch is None:
            batches = iter(stream)  # records of one pass
            continue
        count += _length(batch)
    return count / (time.perf_counter() - begin)


def _length(batch) -> int:
    return 0 if batch is None else len(tf.nest.flatten(batch)[0])


def _step_rate(step: Callable, batches, seconds: float) -> float:
    """Images a second over so many seconds, and some steps at least."""
    count, begin = 0, time.perf_counter()
    for number in itertools.count(1):
        images, labels = next(batches)
        step(images, labels)
        count += len(images)
        passed = time.perf_counter() - begin
        if passed >= seconds and number >= LEAST_STEPS:
            return count / passed


def judge(
    stages: dict[str, float],
    pipeline: float,
    model: float | None,
    waiting: float | None,
    cache: CachePlan,
) -> str:
    """Say what is the bottleneck, and the change that would help most.

    Args:
        stages: Images a second of each stage by itself.
        pipeline: Of the pipeline without a model.
        model: Of the model alone, or None.
        waiting: Share of the time that the model waited for data, or None.
        cache: What was kept, of what sizes.

    Returns:
        A sentence or two.
    """
    slowest = min(stages, key=stages.get)
    advice = ADVICE[slowest](cache)
    if model is None:
        return f"{slowest} is the slowest stage: {stages[slowest]:,.0f} images a second. {advice}"
    if pipeline < ENOUGH * model:
        return (
            f"{slowest} is the bottleneck: the pipeline gives {pipeline:,.0f} of the {model:,.0f} "
            f"images a second that the model can take. {advice}"
        )
    if waiting > WORTH_SAYING:
        return (
            f"The model and the pipeline want the same cores: each alone is fast enough "
            f"({model:,.0f} and {pipeline:,.0f} images a second), together the model waits "
            f"{waiting:.0%} of the time, most for {slowest}. {advice}"
        )
    return (
        f"The model is the bottleneck: it takes {model:,.0f} images a second, the pipeline could "
        f"give {pipeline:,.0f}. Nothing in the pipeline would help."
    )


def _advise_read(cache: CachePlan) -> str:
    room = f"{readable(cache.encoded)} of the {readable(cache.budget)} of memory that may be used"
    if cache.encoded <= cache.budget:
        return f"cache=encoded would read each file once; it needs {room}."
    return f"cache=encoded would need {room}; put the files on a faster disk, or pack them."


def _advise_decode(cache: CachePlan) -> str:
    needs = readable(cache.decoded)
    room = readable(cache.budget)
    if cache.decoded <= cache.budget:
        return (
            f"cache=encoded would not help, cache=memory needs {needs} of the {room} of memory "
            "that may be used."
        )
    return (
        f"cache=encoded would not help; cache=memory needs {needs} of the {room} of memory that "
        "may be used, a folder as cache as much of a disk."
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


def example_batch(dataset: Dataset, count: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """Give images as a network will see them, back as pixels, and their labels.

    Args:
        dataset: From ``load_dataset``.
        count: Of images.
        **options: Of ``training_batches``.

    Returns:
        uint8 (count, size, size, 3) and float32 (count, classes).

    Raises:
        ValueError: As of ``training_batches``; for a count that is not above 0.
    """
    _check_above_zero(count=count)
    training = prepare_training(dataset, min(count, len(dataset.train)), **options)
    images, labels = next(iter(assemble(training)))
    return to_pixels(images.numpy(), dataset), labels.numpy()
