"""Batches for training and for testing, by tf.data, whatever Keras's backend is.

The order is fixed: read, decode, cache, shuffle, crop, batch, augment, mix, normalise, prefetch.
What is cached is never augmented, so that no two epochs are the same; shuffling is over the whole
set; a test part goes through neither. What is cached is planned in ``cache``; what is not cached in
decoded form is decoded only where the crop is.

Batching comes before augmenting because that gives the same and is faster: an operation on a batch
costs a small image 2 to 6 microseconds, one call for each image costs it some 30 more.

Everything random is a function of the seed, the epoch and the place of the image in the data set:
the same batches come whatever the number of cores.

Pixels leave as float32, ``(pixel / 255 - mean) / std`` by channel: nothing is left to the network.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.data.augment import Augmentation, apply_steps, parse_augmentation
from keras_resnext.data.cache import CachePlan, Kept, keep, numbered_stream, plan_cache
from keras_resnext.data.decode import (
    crop_image,
    decode,
    decode_crop,
    pixel_windows,
    relative_windows,
)
from keras_resnext.data.forms import Form, fit_form
from keras_resnext.data.mixing import Mixing, mix_batch, parse_mixing
from keras_resnext.data.ops import fold
from keras_resnext.data.parts import SMOOTHINGS, Dataset, Part
from keras_resnext.errors import one_of

# Test images are resized to this much more than the size, then cropped in the middle, where
# training crops at random (section 3.4 of the ResNet paper: 256 for 224).
TEST_MARGIN = 256 / 224
# Where only records can be read, which come as they lie: as many are shuffled at a time as have
# room in this, or these.
SHUFFLED_BYTES, SHUFFLED_RECORDS = 512 << 20, 1 << 15
# Epochs and partners of MixUp's first type have seeds of their own: far apart, whatever the seed.
EPOCH_STRIDE, PARTNERS = 1 << 32, 1 << 31


@dataclass(frozen=True, eq=False)
class Training:
    """How training batches are made, stage by stage; ``training_batches`` puts them together.

    Args:
        dataset: From ``load_dataset``.
        augmentation: Its crop and steps.
        mixing: From ``parse_mixing``.
        batch_size: Images a batch.
        seed: Of everything random.
        label_smoothing: Share of each label that is spread evenly.
        drop_remainder: Whether a last batch that is not full is left out.
        deterministic: Whether images stay in the order they were drawn in.
        plan: What is kept.
        kept: The images, or None for Records that are read anew.
        maps: Takes float32 images and labels, gives class activation maps: for SnapMix.
        smoothing_over: "all" classes or the "others" alone.
        answers: A teacher's, float32 tensor (count, classes), in the order of the images; they are
            mixed as labels are, and batches are ((images, answers), labels).
        worker: Its number, from 0, and how many there are: each makes its own rows of each batch.
    """

    dataset: Dataset
    augmentation: Augmentation
    mixing: Mixing
    batch_size: int
    seed: int
    label_smoothing: float
    drop_remainder: bool
    deterministic: bool
    plan: CachePlan
    kept: Kept | None
    maps: Callable | None = None
    smoothing_over: str = "all"
    answers: tf.Tensor | None = None
    worker: tuple[int, int] = (0, 1)

    @property
    def own_batch(self) -> int:
        """Images of a batch that this worker makes."""
        return self.batch_size // self.worker[1]

    @property
    def size(self) -> int:
        """Edge of the images that the network sees."""
        return self.dataset.image_size

    @property
    def part(self) -> Part:
        """What is trained on."""
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
    """Shuffled and augmented batches of the training part: one pass is one epoch.

    Each epoch has every image once, in another order and augmented otherwise; two pipelines of the
    same arguments give the same epochs, one after the other.

    Args:
        dataset: From ``load_dataset``.
        batch_size: Images a batch. Default: the data set's own.
        seed: Of order, augmentation and mixing.
        augmentation: As ``augment.parse_augmentation`` reads or returns it. Default: the data
            set's own.
        mixing: As ``mixing.parse_mixing`` reads or returns it.
        label_smoothing: The share of each label that is spread evenly, 0 to 1.
        smoothing_over: Over "all" classes or the "others" alone: as in ``Recipe``.
        drop_remainder: Leave out the last batch if it is not full.
        cache: "auto", "memory" (decoded), "encoded", a folder, or False: see ``plan_cache``.
        memory_budget: Bytes that "auto" may keep in memory. Default: 60 % of what is free.
        deterministic: False lets an image that is ready overtake one that is not: no two runs are
            the same then, but for those from memory.
        epochs: None: a pass is an epoch, and the next pass is the next epoch. A number: one pass is
            all of them, from the first, with no pause between two; the last batch of each must be
            dropped for that if it is not full.
        maps: Takes NumPy images and labels of a batch as they are fed, and gives class activation
            maps (batch, rows, columns): for SnapMix. See ``training.maps.activation_maps``.

    Returns:
        A tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded (it is named), for an unknown augmentation, mixing
            or cache, and for memory that does not suffice for what was asked.

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
    drop_remainder: bool = False,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    deterministic: bool = True,
    maps: Callable | None = None,
    smoothing_over: str = "all",
    answers: np.ndarray | None = None,
    worker: tuple[int, int] = (0, 1),
) -> Training:
    """Check everything, and fill the cache.

    Args:
        dataset: And all others as in ``training_batches``; or of ``Training``, ``answers`` as an
            array.

    Returns:
        What ``assemble`` takes.
    """
    if (batch_size or dataset.batch_size) % worker[1]:
        raise ValueError(
            f"A batch of {batch_size or dataset.batch_size} cannot be shared by {worker[1]} "
            "workers without a rest. Expected a multiple."
        )
    one_of("smoothing_over", smoothing_over, SMOOTHINGS)
    augmentation = parse_augmentation(augmentation or dataset.augmentation)
    mixing = parse_mixing(mixing)
    if maps is None and mixing.needs_maps:
        raise ValueError(
            f'Mixing "{mixing.text}" needs `maps`, a function that gives class activation maps: '
            "`keras-resnext train` brings it, `training.maps.activation_maps(model)` makes it."
        )
    form = training_form(dataset, augmentation)
    plan = plan_cache(dataset.train, form, cache, memory_budget)
    return Training(
        dataset,
        augmentation,
        mixing,
        batch_size or dataset.batch_size,
        seed,
        label_smoothing,
        drop_remainder,
        deterministic,
        plan,
        keep(dataset.train, form, plan),
        maps,
        smoothing_over,
        _table(answers),
        worker,
    )


def _table(answers: np.ndarray | None) -> tf.Tensor | None:
    """A tensor, which a graph refers to: an array would be copied into it, up to 2 GiB at most."""
    if answers is None:
        return None
    with tf.device("CPU:0"):
        return tf.constant(answers)


def training_form(dataset: Dataset, augmentation: Augmentation) -> Form:
    """Say how training images are kept when decoded.

    Args:
        dataset: For its image size.
        augmentation: Where it crops, images are kept whole, at the size of testing.
    """
    size = dataset.image_size
    return Form(round(size * TEST_MARGIN), None) if augmentation.crop else Form(size, size)


def assemble(
    training: Training, epochs: int | None = None, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Put the stages of a training pipeline together.

    Args:
        training: From ``prepare_training``.
        epochs: As in ``training_batches``.
        start: Epoch and step, from 0, of the first batch to give: those before it are left out
            without being decoded, those from it on are the same as without a start.

    Returns:
        A tf.data.Dataset of images and labels.

    Raises:
        ValueError: If there is no such batch.
    """
    steps = math.ceil(_used(training, epochs) / training.batch_size)
    _check_start(start, epochs, steps)
    streams = [cropped_batches(training, epochs, salt, start) for salt in _salts(training)]
    batches = tf.data.Dataset.zip(tuple(streams))
    batches = batches.map(
        lambda *parts: finish_batch(training, parts),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=training.deterministic,
    )
    if epochs is not None:
        left = steps * (epochs - start[0]) - start[1]
        batches = batches.apply(tf.data.experimental.assert_cardinality(left))
    return batches.prefetch(tf.data.AUTOTUNE)


def _check_start(start: tuple[int, int], epochs: int | None, steps: int) -> None:
    epoch, step = start
    after_the_last = epochs is not None and start > (epochs, 0)
    if epoch < 0 or not 0 <= step < max(steps, 1) or after_the_last:
        there = "" if epochs is None else f" of {epochs} epochs"
        raise ValueError(
            f"Invalid value for `start`. Expected an epoch{there}, from 0, and one of its {steps} "
            f"steps, from 0. Received: start={start}"
        )


def _salts(training: Training) -> tuple[int, ...]:
    """A second stream of partners, in an order of its own, where mixing wants two batches."""
    return (0, PARTNERS) if training.mixing.loads == 2 else (0,)


def finish_batch(training: Training, parts):
    """Augment, label, mix and normalise.

    Args:
        training: From ``prepare_training``.
        parts: One batch, or two: images, labels, places and epoch of each.

    Returns:
        float32 images and labels.
    """
    images, labels, places, epochs = (tf.concat(column, 0) for column in zip(*parts, strict=True))
    seed = tf.stack([_epoch_seed(training.seed, epochs[0]), -1 - places[0]])
    images = apply_steps(images, seed, training.augmentation, training.size)
    classes = training.dataset.classes
    labels = smooth(tf.one_hot(labels, classes), training.label_smoothing, training.smoothing_over)
    if training.answers is not None:
        labels = tf.concat([labels, tf.gather(training.answers, places)], 1)
    images = normalise(images, training.dataset)

    def maps(x, y):
        found = tf.numpy_function(training.maps, [x, y[:, :classes]], tf.float32)
        return tf.ensure_shape(found, [None, None, None])

    mixed = mix_batch(images, labels, fold(seed, PARTNERS), training.mixing, epochs[0], maps)
    if training.answers is None:
        return mixed
    images, labels = mixed
    return (images, labels[:, classes:]), labels[:, :classes]


def smooth(labels, share: float, over: str = "all"):
    """Spread a share of each label evenly.

    Args:
        labels: Floating, (batch, classes), each with a sum of 1.
        share: 0 to 1.
        over: "all" classes ("Rethinking the Inception Architecture", section 7), or the "others",
            as many less one ("Bag of Tricks", section 5.2).

    Returns:
        Labels of the same shape, type and sums.

    Example:

    >>> [round(float(x), 3) for x in smooth(tf.constant([[1.0, 0.0, 0.0]]), 0.3, "others")[0]]
    [0.7, 0.15, 0.15]
    """
    classes = labels.shape[-1]
    if over == "all":
        return labels * (1 - share) + share / classes
    return labels * (1 - share) + (1 - labels) * (share / (classes - 1))


def _epoch_seed(seed: int, epoch):
    return tf.cast(epoch, tf.int64) * EPOCH_STRIDE + seed


def cropped_batches(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Shuffled batches of images of the right size, not augmented yet but for their crop.

    Args:
        training: From ``prepare_training``.
        epochs: As in ``training_batches``.
        salt: Of the order.
        start: As in ``assemble``.

    Returns:
        A tf.data.Dataset of images (batch, size, size, channels), labels, places and epochs.
    """
    if training.kept is None:
        records = shuffled_records(training, epochs, salt, start)
        return _image_batches(training, own_rows(training, records), _of_record)
    order = own_rows(training, shuffled_places(training, epochs, salt, start))
    kept = training.kept
    if kept.pixels is None or training.augmentation.crop:
        return _image_batches(training, order, _of_kept)

    def gathered(places, epoch, _):
        images = tf.gather(kept.pixels, places)
        if images.shape[1:3] != (training.size, training.size):  # arrays, not kept in their form
            images = tf.map_fn(lambda image: fit_form(image, _square(training)), images)
        return images, tf.gather(kept.labels, places), places, epoch

    batches = order.batch(training.own_batch, training.drop_remainder)
    return batches.map(
        gathered, num_parallel_calls=tf.data.AUTOTUNE, deterministic=training.deterministic
    )


def own_rows(training: Training, rows: tf.data.Dataset) -> tf.data.Dataset:
    """Leave out, before anything is decoded, what other workers make of each batch.

    Args:
        training: From ``prepare_training``.
        rows: Of whole batches, one after the other.
    """
    index, count = training.worker
    if count == 1:
        return rows
    of_batch = rows.enumerate().filter(
        lambda number, row: number % training.batch_size // training.own_batch == index
    )
    return of_batch.map(lambda number, row: row)


def _image_batches(training: Training, rows, row) -> tf.data.Dataset:
    """Crop image by image, then batch."""
    images = rows.map(
        lambda *columns: row(training, *columns),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=training.deterministic,
    )
    return images.batch(training.own_batch, training.drop_remainder)


def _of_kept(training: Training, place, epoch, window):
    return crop_one(training, place, window), training.kept.labels[place], place, epoch


def _of_record(training: Training, contents, label, place, epoch, window):
    return crop_one(training, contents, window), label, place, epoch


def crop_one(training: Training, image, window):
    """Bring one image to the size that the network sees, by the random crop of the augmentation.

    Args:
        training: From ``prepare_training``.
        image: Its place among kept images, or the bytes of its file.
        window: A row of ``epoch_windows``; of ``pixel_windows`` for kept pixels.

    Returns:
        uint8 of shape (size, size, channels).
    """
    crop, size, kept = training.augmentation.crop, training.size, training.kept
    encoded = image if image.dtype == tf.string else kept.encoded(image)
    if encoded is None:
        whole = kept.image(image)
        return crop_image(whole, window, size) if crop else fit_form(whole, _square(training))
    if crop:
        return decode_crop(encoded, window, size)
    return fit_form(decode(encoded), _square(training))


def epoch_windows(training: Training, epoch):
    """Draw where each image is cropped in an epoch, all at once, which costs next to nothing.

    Args:
        training: From ``prepare_training``.
        epoch: Scalar.

    Returns:
        float32 (images, 4), by place: see ``decode.relative_windows``. (images, 0) for no crop.
    """
    count, crop = len(training.part), training.augmentation.crop
    if crop is None:
        return tf.zeros([count, 0])
    seed = tf.stack([_epoch_seed(training.seed, epoch), 0])
    return relative_windows(tf.random.stateless_uniform([4, count], seed), crop)


def _square(training: Training) -> Form:
    return Form(training.size, training.size)


def shuffled_places(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """The places of all images in an order of its own for each epoch, the epoch, the window.

    Args:
        training: From ``prepare_training``.
        epochs: As in ``training_batches``.
        salt: Of the order.
        start: As in ``assemble``.
    """
    count = len(training.part)
    used = _used(training, epochs)

    def order(epoch):
        seed = _order_seed(training, epoch, salt)
        places = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)
        places = places[_skipped(training, epoch, start) : used]
        windows = tf.gather(epoch_windows(training, epoch), places)
        if training.augmentation.crop and training.kept.shape(places) is not None:
            # All at once: image by image that would cost a fifth of what resizing does.
            windows = pixel_windows(windows, training.kept.shape(places))
        return tf.data.Dataset.from_tensor_slices(
            (places, tf.fill(tf.shape(places), epoch), windows)
        )

    return _epochs(epochs, start).flat_map(order)


def shuffled_records(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Rows of bytes, label, place, epoch and window, of records that are read one by one.

    Args:
        training: From ``prepare_training``.
        epochs: As in ``training_batches``.
        salt: Of the order.
        start: As in ``assemble``: what lies before it is read, since records cannot be skipped.
    """
    records = training.part.images
    mean = max(1, training.plan.encoded // max(1, len(training.part)))
    buffer = max(2, min(len(training.part), SHUFFLED_RECORDS, SHUFFLED_BYTES // mean))
    used = _used(training, epochs)

    def numbered(epoch):
        # Of the graph of this function alone: or the order would depend on the program's own seed.
        tf.random.set_seed(1)
        seed = _order_seed(training, epoch, salt)
        rows = numbered_stream(records, seed).shuffle(
            buffer, tf.cast(fold(seed, 0)[0], tf.int64), reshuffle_each_iteration=False
        )
        rows = rows.take(used).skip(_skipped(training, epoch, start))
        windows = epoch_windows(training, epoch)
        return rows.map(lambda at, contents, label: (contents, label, at, epoch, windows[at]))

    return _epochs(epochs, start).flat_map(numbered)


def _order_seed(training: Training, epoch, salt: int):
    return tf.stack([_epoch_seed(training.seed, epoch), tf.constant(-1 - salt, tf.int64)])


def _used(training: Training, epochs: int | None) -> int:
    """Images of an epoch: where epochs follow each other, whole batches of them."""
    count = len(training.part)
    return count if epochs is None else count - count % training.batch_size


def _skipped(training: Training, epoch, start: tuple[int, int]):
    """Images of an epoch that come before the start."""
    return tf.where(epoch == start[0], tf.constant(start[1] * training.batch_size, tf.int64), 0)


def _epochs(epochs: int | None, start: tuple[int, int]) -> tf.data.Dataset:
    """The numbers of the epochs of one pass: all, or the one whose turn it is."""
    if epochs is not None:
        return tf.data.Dataset.range(start[0], epochs)
    with tf.device("CPU:0"):
        passes = tf.Variable(start[0] - 1, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.range(1).map(lambda _: passes.assign_add(1))


def test_batches(
    dataset: Dataset,
    batch_size: int | None = None,
    *,
    cache: str | Path | bool = "auto",
    memory_budget: int | None = None,
    crop: float | None = None,
) -> tf.data.Dataset:
    """Batches of the test part: every image once, in order, as it is.

    Args:
        dataset: From ``load_dataset``.
        batch_size: Images a batch. Default: the data set's own.
        cache: "auto", "memory" (decoded), "encoded", a folder, or False: see ``plan_cache``.
        memory_budget: Bytes that "auto" may keep in memory. Default: 60 % of what is free.
        crop: Share of the shorter side that is seen. Default: 0.875 where training crops, else 1.

    Returns:
        A tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded (it is named).
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
    """Batches of a part as the test part is given: every image once, in order, as it is.

    Args:
        dataset: What the part is of.
        part: To be given.
        batch_size: And all others as in ``test_batches``.

    Returns:
        A tf.data.Dataset of images and labels.
    """
    batch_size = batch_size or dataset.batch_size
    form = Form(test_edge(dataset, crop), dataset.image_size)
    kept = keep(part, form, plan_cache(part, form, cache, memory_budget))
    if kept is not None and kept.pixels is not None and kept.pixels.shape[1:3] == (form.size,) * 2:
        order = tf.data.Dataset.range(len(part)).batch(batch_size)
        batches = order.map(lambda at: (tf.gather(kept.pixels, at), tf.gather(kept.labels, at)))
    else:
        batches = _test_images(part, kept, form).batch(batch_size)

    def finish(images, labels):
        return normalise(images, dataset), tf.one_hot(labels, dataset.classes)

    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _test_images(part: Part, kept: Kept | None, form: Form) -> tf.data.Dataset:
    """Images and labels one by one, in order."""
    auto = tf.data.AUTOTUNE
    if kept is None:
        stream = numbered_stream(part.images, None)
        return stream.map(
            lambda _, contents, label: (fit_form(decode(contents), form), label),
            num_parallel_calls=auto,
        )
    return tf.data.Dataset.range(len(part)).map(
        lambda place: (fit_form(kept.image(place), form), kept.labels[place]),
        num_parallel_calls=auto,
    )


def test_edge(dataset: Dataset, crop: float | None = None) -> int:
    """Give the shorter side, in pixels, that test images are resized to before the middle crop.

    Args:
        dataset: Where training crops by default, the edge is larger than the image size.
        crop: Share of it that is seen, in place of that default.

    Returns:
        Pixels.
    """
    if crop is not None:
        return int(dataset.image_size / crop)
    crops = parse_augmentation(dataset.augmentation).crop is not None
    return round(dataset.image_size * (TEST_MARGIN if crops else 1))


test_edge.__test__ = False


def normalise(images, dataset: Dataset):
    """Turn pixels into what networks are fed with.

    Args:
        images: uint8 of shape (..., width, 3) or, grey, (..., width, 1).
        dataset: Its mean and std, by channel, of pixels scaled to 0..1.

    Returns:
        float32 of shape (..., width, 3).
    """
    if images.shape[-1] == 1:
        images = tf.repeat(images, 3, axis=-1)
    mean, std = (np.array(v, "float32") for v in (dataset.mean, dataset.std))
    # By rows of pixels: arithmetic on a last axis of 3 takes four times as long.
    width = images.shape[-2]
    rows = tf.reshape(tf.cast(images, tf.float32), [-1, 3 * width])
    rows = rows * np.tile(1 / (255 * std), width) - np.tile(mean / std, width)
    return tf.reshape(rows, tf.shape(images))


def to_pixels(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Turn what networks are fed with back into pixels.

    Args:
        images: float32 of shape (..., 3), from ``normalise``.
        dataset: Whose mean and std they were normalised by.

    Returns:
        uint8 of the same shape.
    """
    pixels = (images * np.array(dataset.std) + np.array(dataset.mean)) * 255
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)
