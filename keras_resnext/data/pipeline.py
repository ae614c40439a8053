"""Batches for training and testing, from tf.data on any backend of Keras.

The order is fixed: read, decode, cache, shuffle, crop, batch, augment, normalize, mix, prefetch.
Everything random is a function of the seed, the epoch and the image's place in the data set.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.checks import check, choice
from keras_resnext.data.augment import Augmentation, apply_steps, parse_augmentation
from keras_resnext.data.cache import CachePlan, Store, fill_cache, plan_cache
from keras_resnext.data.decode import crop_image, decode, decode_crop
from keras_resnext.data.encoded import numbered_stream
from keras_resnext.data.mixing import Mixing, mix_batch, parse_mixing
from keras_resnext.data.ops import fold
from keras_resnext.data.order import (
    epoch_seed,
    own_rows,
    shuffled_places,
    shuffled_records,
    used_images,
)
from keras_resnext.data.parts import SMOOTHINGS, Dataset, Part
from keras_resnext.data.resize import Resize, resize_image

# Test images are resized to this much more than the size, then cropped in the middle, if training
# crops at random (section 3.4 of the ResNet paper: 256 for 224).
TEST_MARGIN = 256 / 224
# Partners of MixUp's first type have seeds of their own, far from those of other batches.
PARTNERS = 1 << 31


@dataclass(frozen=True, eq=False)
class Training:
    """The checked arguments of a training pipeline; `assemble` builds it.

    Most are as in `training_batches`. `teacher_probabilities` (count, classes) are mixed as labels
    are, and make batches ((images, probabilities), labels). `worker` is (number, count of workers):
    each makes its own rows of each batch.
    """

    dataset: Dataset
    augmentation: Augmentation
    mixing: Mixing
    batch_size: int
    seed: int
    label_smoothing: float
    smoothing_over: str
    drop_remainder: bool
    deterministic: bool
    plan: CachePlan
    store: Store | None
    maps: Callable | None = None
    teacher_probabilities: tf.Tensor | None = None
    worker: tuple[int, int] = (0, 1)

    @property
    def own_batch(self) -> int:
        """Images of a batch that this worker makes."""
        return self.batch_size // self.worker[1]

    @property
    def size(self) -> int:
        """Edge of the images that the network sees, in pixels."""
        return self.dataset.image_size

    @property
    def part(self) -> Part:
        """The part to train on."""
        return self.dataset.train


def training_batches(
    dataset: Dataset,
    batch_size: int | None = None,
    *,
    seed: int = 0,
    augmentation: str | Augmentation | None = None,
    mixing: str | Mixing = "none",
    label_smoothing: float = 0.0,
    smoothing_over: str = "all",
    drop_remainder: bool = False,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    deterministic: bool = True,
    epochs: int | None = None,
    maps: Callable | None = None,
) -> tf.data.Dataset:
    """Return shuffled and augmented batches of the training part: one pass is one epoch.

    Each epoch has every image once, in a new order and augmented differently. Two pipelines with
    the same arguments give the same epochs.

    Args:
        dataset: `Dataset` from `load_dataset`.
        batch_size: int, images per batch. Defaults to the data set's own.
        seed: int, seed of order, augmentation and mixing.
        augmentation: str, such as `"shift_flip"` or `"resized_crop(0.35)+flip+randaugment(7)"`: see
            `augment.parse_augmentation`. Defaults to the data set's own.
        mixing: str, such as `"mixup(0.2)*0.5+cutmix*0.5,none@80"`: see `mixing.parse_mixing`.
        label_smoothing: float, share of each label that is spread evenly, 0 to 1.
        smoothing_over: str, over `"all"` classes or the `"others"` alone: as in `Recipe`.
        drop_remainder: bool, whether to drop the last batch if it is not full.
        cache: `"auto"` (whatever fits in memory), `"memory"` (decoded images), `"encoded"` (the
            bytes of files), a folder for a file of decoded images, or False.
        memory_budget: int, bytes that `"auto"` may use. Defaults to 60 % of the free memory.
        deterministic: bool; False lets images that are ready sooner overtake others: runs then
            differ, except from memory.
        epochs: int, epochs per pass, without a pause between them; needs `drop_remainder`. None
            makes each pass the next epoch.
        maps: Function from NumPy images and labels of a batch to class activation maps (batch,
            rows, columns), for SnapMix. See `training.maps.activation_maps`.

    Returns:
        tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded, an augmentation, mixing or cache is unknown, or
            memory does not suffice.

    Example:
    >>> from keras_resnext.data.datasets import load_dataset
    >>> images, labels = next(iter(training_batches(load_dataset("digits"), batch_size=64)))
    >>> images.shape, labels.shape
    (TensorShape([64, 32, 32, 3]), TensorShape([64, 10]))
    """
    if epochs is not None and not drop_remainder:
        raise ValueError("`epochs` needs drop_remainder=True: a batch never spans two epochs.")
    training = prepare_training(
        dataset,
        batch_size,
        seed=seed,
        augmentation=augmentation,
        mixing=mixing,
        label_smoothing=label_smoothing,
        smoothing_over=smoothing_over,
        drop_remainder=drop_remainder,
        cache=cache,
        memory_budget=memory_budget,
        deterministic=deterministic,
        maps=maps,
    )
    return assemble(training, epochs)


def prepare_training(
    dataset: Dataset,
    batch_size: int | None = None,
    *,
    seed: int = 0,
    augmentation: str | Augmentation | None = None,
    mixing: str | Mixing = "none",
    label_smoothing: float = 0.0,
    smoothing_over: str = "all",
    drop_remainder: bool = False,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    deterministic: bool = True,
    maps: Callable | None = None,
    teacher_probabilities: np.ndarray | None = None,
    worker: tuple[int, int] = (0, 1),
) -> Training:
    """Check the arguments of `training_batches` and of `Training`, and fill the cache."""
    batch_size = batch_size or dataset.batch_size
    if batch_size % worker[1]:
        raise ValueError(
            f"A batch of {batch_size} cannot be shared by {worker[1]} workers without a rest. "
            "Expected a multiple."
        )
    check("smoothing_over", smoothing_over, choice(SMOOTHINGS))
    augmentation = parse_augmentation(augmentation or dataset.augmentation)
    mixing = parse_mixing(mixing)
    if maps is None and mixing.needs_maps:
        raise ValueError(
            f'Mixing "{mixing}" needs `maps`, a function that returns class activation maps: '
            "`keras-resnext train` has it, `training.maps.activation_maps(model)` makes it."
        )
    resize = stored_size(dataset, augmentation)
    plan = plan_cache(dataset.train, resize, cache, memory_budget)
    return Training(
        dataset=dataset,
        augmentation=augmentation,
        mixing=mixing,
        batch_size=batch_size,
        seed=seed,
        label_smoothing=label_smoothing,
        smoothing_over=smoothing_over,
        drop_remainder=drop_remainder,
        deterministic=deterministic,
        plan=plan,
        store=fill_cache(dataset.train, resize, plan),
        maps=maps,
        teacher_probabilities=_on_cpu(teacher_probabilities),
        worker=worker,
    )


def _on_cpu(array: np.ndarray | None) -> tf.Tensor | None:
    """Return a tensor, since an array of up to 2 GiB would be copied into the graph."""
    if array is None:
        return None
    with tf.device("CPU:0"):
        return tf.constant(array)


def stored_size(dataset: Dataset, augmentation: Augmentation) -> Resize:
    """Return how to resize stored training images: whole, as for testing, if cropped later."""
    size = dataset.image_size
    return Resize(round(size * TEST_MARGIN), None) if augmentation.crop else Resize(size, size)


def assemble(
    training: Training, epochs: int | None = None, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Build a training pipeline that begins at the (epoch, step) `start`, both from 0.

    Earlier batches are skipped without being decoded; later ones do not change.
    """
    steps = math.ceil(used_images(training, epochs) / training.batch_size)
    _check_start(start, epochs, steps)
    # A second stream of partners, in an order of its own, if mixing needs two batches.
    salts = (0, PARTNERS)[: training.mixing.loads]
    streams = [cropped_batches(training, epochs, salt, start) for salt in salts]
    parts = tf.data.Dataset.zip(tuple(streams))
    batches = _map(training, parts, lambda *parts: finish_batch(training, parts))
    if epochs is not None:
        left = steps * (epochs - start[0]) - start[1]
        batches = batches.apply(tf.data.experimental.assert_cardinality(left))
    return batches.prefetch(tf.data.AUTOTUNE)


def _map(training: Training, stream: tf.data.Dataset, function: Callable) -> tf.data.Dataset:
    return stream.map(
        function, num_parallel_calls=tf.data.AUTOTUNE, deterministic=training.deterministic
    )


def _check_start(start: tuple[int, int], epochs: int | None, steps: int) -> None:
    epoch, step = start
    after_the_last = epochs is not None and start > (epochs, 0)
    if epoch < 0 or not 0 <= step < max(steps, 1) or after_the_last:
        existing = "" if epochs is None else f" of {epochs} epochs"
        raise ValueError(
            f"Invalid value for `start`. Expected an epoch{existing}, from 0, and one of its "
            f"{steps} steps, from 0. Received: start={start}"
        )


def cropped_batches(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Return (images, labels, places, epochs) of cropped batches; each `salt` has its own order."""
    store, batch = training.store, (training.own_batch, training.drop_remainder)
    if store is None:
        rows = own_rows(training, shuffled_records(training, epochs, salt, start))

        def cropped(contents: tf.Tensor, label: tf.Tensor, *row: tf.Tensor) -> tuple:
            place, epoch, window = row
            return crop_one(training, contents, window), label, place, epoch

        return _map(training, rows, cropped).batch(*batch)
    rows = own_rows(training, shuffled_places(training, epochs, salt, start))
    if store.pixels is None or training.augmentation.crop:

        def fetched(place: tf.Tensor, epoch: tf.Tensor, window: tf.Tensor) -> tuple:
            return crop_one(training, place, window), store.labels[place], place, epoch

        return _map(training, rows, fetched).batch(*batch)

    def gather(places: tf.Tensor, epoch: tf.Tensor, window: tf.Tensor) -> tuple:
        images = tf.gather(store.pixels, places)
        if images.shape[1:3] != (training.size, training.size):  # an array of another size
            images = tf.map_fn(lambda image: resize_image(image, _square(training)), images)
        return images, tf.gather(store.labels, places), places, epoch

    return _map(training, rows.batch(*batch), gather)


def crop_one(training: Training, image: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Resize one image, or its random crop, to the size that the network sees.

    `image` is its place in the store or the bytes of its file, `window` a row of
    `order.epoch_windows`, or of `pixel_windows` for stored pixels.
    """
    crop, size, store = training.augmentation.crop, training.size, training.store
    encoded = image if image.dtype == tf.string else store.encoded(image)
    if encoded is None:
        whole = store.image(image)
        return crop_image(whole, window, size) if crop else resize_image(whole, _square(training))
    if crop:
        return decode_crop(encoded, window, size)
    return resize_image(decode(encoded), _square(training))


def _square(training: Training) -> Resize:
    return Resize(training.size, training.size)


def finish_batch(training: Training, parts: tuple) -> tuple:
    """Augment, normalize, label and mix the batch, or the two batches, in `parts`."""
    images, labels, places, epochs = (tf.concat(column, 0) for column in zip(*parts, strict=True))
    seed = tf.stack([epoch_seed(training.seed, epochs[0]), -1 - places[0]])
    images = apply_steps(images, seed, training.augmentation, training.size)
    images = normalize(images, training.dataset)
    classes, teacher = training.dataset.classes, training.teacher_probabilities
    labels = smooth(tf.one_hot(labels, classes), training.label_smoothing, training.smoothing_over)
    if teacher is not None:  # beside the labels, to be mixed as they are
        labels = tf.concat([labels, tf.gather(teacher, places)], 1)

    def maps(x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        result = tf.numpy_function(training.maps, [x, y[:, :classes]], tf.float32)
        return tf.ensure_shape(result, [None, None, None])

    seed = fold(seed, PARTNERS)
    images, labels = mix_batch(images, labels, seed, training.mixing, epochs[0], maps)
    if teacher is None:
        return images, labels
    return (images, labels[:, classes:]), labels[:, :classes]


def smooth(labels: tf.Tensor, share: float, over: str = "all") -> tf.Tensor:
    """Spread a share of each label (batch, classes) evenly.

    Over `"all"` classes ("Rethinking the Inception Architecture", section 7), or over the
    `"others"` ("Bag of Tricks", section 5.2).
    """
    classes = labels.shape[-1]
    if over == "all":
        return labels * (1 - share) + share / classes
    return labels * (1 - share) + (1 - labels) * (share / (classes - 1))


def test_batches(
    dataset: Dataset,
    batch_size: int | None = None,
    *,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    crop: float | None = None,
) -> tf.data.Dataset:
    """Return batches of the test part: every image once, in order, not augmented.

    Args:
        dataset: `Dataset` from `load_dataset`.
        batch_size: int, images per batch. Defaults to the data set's own.
        cache: str, as in `training_batches`.
        memory_budget: int, as in `training_batches`.
        crop: float, share of the shorter side that is seen. Defaults to 0.875 if training crops,
            else 1.

    Returns:
        tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded.
    """
    return part_batches(
        dataset, dataset.test, batch_size, cache=cache, memory_budget=memory_budget, crop=crop
    )


test_batches.__test__ = False  # pytest takes it for a test


def part_batches(
    dataset: Dataset,
    part: Part,
    batch_size: int | None = None,
    *,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    crop: float | None = None,
) -> tf.data.Dataset:
    """Return what `test_batches` returns, for any part."""
    batch_size = batch_size or dataset.batch_size
    resize = Resize(test_edge(dataset, crop), dataset.image_size)
    store = fill_cache(part, resize, plan_cache(part, resize, cache, memory_budget))
    size = (dataset.image_size, dataset.image_size)
    if store is not None and store.pixels is not None and store.pixels.shape[1:3] == size:
        order = tf.data.Dataset.range(len(part)).batch(batch_size)
        batches = order.map(lambda at: (tf.gather(store.pixels, at), tf.gather(store.labels, at)))
    else:
        batches = _test_images(part, store, resize).batch(batch_size)

    def finish(images: tf.Tensor, labels: tf.Tensor) -> tuple:
        return normalize(images, dataset), tf.one_hot(labels, dataset.classes)

    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _test_images(part: Part, store: Store | None, resize: Resize) -> tf.data.Dataset:
    auto = tf.data.AUTOTUNE
    if store is None:
        stream = numbered_stream(part.images, None)
        return stream.map(
            lambda _, contents, label: (resize_image(decode(contents), resize), label),
            num_parallel_calls=auto,
        )
    return tf.data.Dataset.range(len(part)).map(
        lambda place: (resize_image(store.image(place), resize), store.labels[place]),
        num_parallel_calls=auto,
    )


def test_edge(dataset: Dataset, crop: float | None = None) -> int:
    """Return the shorter side, in pixels, of test images before the crop."""
    if crop is not None:
        return int(dataset.image_size / crop)
    crops = parse_augmentation(dataset.augmentation).crop is not None
    return round(dataset.image_size * (TEST_MARGIN if crops else 1))


test_edge.__test__ = False


def normalize(images: tf.Tensor, dataset: Dataset) -> tf.Tensor:
    """Normalize uint8 pixels (..., width, 3 or 1) to float32 RGB."""
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    mean, std = (np.array(v, "float32") for v in (dataset.mean, dataset.std))
    # By rows of pixels: arithmetic on a last axis of 3 takes four times as long.
    width = images.shape[-2]
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, 3 * width])
    rows = rows * np.tile(1 / (255 * std), width) - np.tile(mean / std, width)
    return tf.reshape(rows, tf.shape(images))


def to_pixels(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Invert `normalize`."""
    pixels = (images * np.array(dataset.std) + np.array(dataset.mean)) * 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
