"""Batches for training and for testing, by tf.data, whatever Keras's backend is.

The order is fixed: read, decode, resize, cache, shuffle, batch, augment, normalise, prefetch. What
is cached is never augmented, so that no two epochs are the same; shuffling is over the whole set;
a test part goes through neither. Decoded images are kept in memory where they fit.

Batching comes before augmenting because that gives the same and is faster: an operation on a batch
costs a small image 2 to 6 microseconds, one call for each image costs it some 30 more.

Pixels leave as float32, ``(pixel / 255 - mean) / std`` by channel: nothing is left to the network.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.data.augment import AUGMENTATIONS, augment
from keras_resnext.data.datasets import Dataset, Part
from keras_resnext.data.images import image_fault
from keras_resnext.errors import unknown

# The share of the free memory that decoded images may take. Twice that is needed for a moment.
MEMORY_SHARE = 0.4
# What is free where the system does not say (it does on Linux).
MEMORY_GUESS = 4 << 30
# Test images are resized to this much more than the size, then cropped in the middle, where
# training crops at random (section 3.4 of the ResNet paper: 256 for 224).
TEST_MARGIN = 256 / 224


def training_batches(
    dataset: Dataset,
    batch_size: int | None = None,
    *,
    seed: int = 0,
    augmentation: str | None = None,
    label_smoothing: float = 0.0,
    drop_remainder: bool = False,
) -> tf.data.Dataset:
    """Shuffled and augmented batches of the training part: one pass is one epoch.

    Each epoch has every image once, in another order and augmented otherwise; two pipelines of the
    same arguments give the same epochs, one after the other.

    Args:
        dataset: From ``load_dataset``.
        batch_size: Images a batch. Default: the data set's own.
        seed: Of order and augmentation.
        augmentation: Name of a row of ``AUGMENTATIONS``. Default: the data set's own.
        label_smoothing: The share of each label that is spread evenly over all classes, 0 to 1.
        drop_remainder: Leave out the last batch if it is not full.

    Returns:
        A tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded (it is named) or for an unknown augmentation.

    Example:

    >>> from keras_resnext.data.datasets import load_dataset
    >>> images, labels = next(iter(training_batches(load_dataset("digits"), batch_size=64)))
    >>> images.shape, labels.shape
    (TensorShape([64, 32, 32, 3]), TensorShape([64, 10]))
    """
    row = find_augmentation(augmentation or dataset.augmentation)
    size = dataset.image_size
    stored = round(size * row.margin)
    count = len(dataset.train)
    order = tf.data.Dataset.range(count).shuffle(count, seed, reshuffle_each_iteration=True)
    batches = _batches(
        dataset.train,
        order,
        batch_size or dataset.batch_size,
        drop_remainder,
        lambda image: resize_and_crop(image, stored, stored),
        stored,
    )
    seeds = tf.data.Dataset.random(seed, rerandomize_each_iteration=True).batch(2)

    def finish(batch, step_seed):
        images = augment(batch[0], step_seed, row, size)
        labels = tf.one_hot(batch[1], dataset.classes)
        labels = labels * (1 - label_smoothing) + label_smoothing / dataset.classes
        return normalise(images, dataset), labels

    return _prefetched(tf.data.Dataset.zip((batches, seeds)), finish)


def test_batches(dataset: Dataset, batch_size: int | None = None) -> tf.data.Dataset:
    """Batches of the test part: every image once, in order, as it is.

    Args:
        dataset: From ``load_dataset``.
        batch_size: Images a batch. Default: the data set's own.

    Returns:
        A tf.data.Dataset of float32 images (batch, size, size, 3) and float32 one-hot labels
        (batch, classes).

    Raises:
        ValueError: If an image cannot be decoded (it is named).
    """
    size = dataset.image_size
    batches = _batches(
        dataset.test,
        tf.data.Dataset.range(len(dataset.test)),
        batch_size or dataset.batch_size,
        False,
        lambda image: resize_and_crop(image, test_edge(dataset), size),
        size,
    )

    def finish(images, labels):
        return normalise(images, dataset), tf.one_hot(labels, dataset.classes)

    return _prefetched(batches, finish)


test_batches.__test__ = False  # pytest takes it for a test


def find_augmentation(name: str):
    """Give the row of ``AUGMENTATIONS`` of that name.

    Args:
        name: Of the row.

    Returns:
        An Augmentation.

    Raises:
        ValueError: If there is none, with the nearest name.
    """
    if name not in AUGMENTATIONS:
        raise ValueError(unknown("augmentation", name, AUGMENTATIONS))
    return AUGMENTATIONS[name]


def test_edge(dataset: Dataset) -> int:
    """Give the shorter side, in pixels, that test images are resized to before the middle crop.

    Args:
        dataset: Where training crops by default, the edge is larger than the image size.

    Returns:
        Pixels.
    """
    margin = find_augmentation(dataset.augmentation).margin
    return round(dataset.image_size * (TEST_MARGIN if margin > 1 else 1))


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


def resize_and_crop(image, edge: int, size: int):
    """Resize the shorter side to ``edge`` and crop the middle; leave an image of that size alone.

    Args:
        image: uint8 of shape (height, width, channels).
        edge: Pixels, at least ``size``.
        size: Edge of the square to give, pixels.

    Returns:
        uint8 of shape (size, size, channels).
    """
    shape = tf.shape(image)[:2]

    def resized():
        scale = edge / tf.reduce_min(shape)
        target = tf.maximum(tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32), size)
        corner = (target - size) // 2
        whole = tf.image.resize(image, target, antialias=True)
        crop = tf.slice(whole, tf.concat([corner, [0]], 0), [size, size, -1])
        return tf.cast(tf.clip_by_value(tf.round(crop), 0, 255), tf.uint8)

    result = tf.cond(tf.reduce_all(shape == size), lambda: image, resized)
    return tf.ensure_shape(result, [size, size, image.shape[-1]])


def _batches(part: Part, order, batch_size: int, drop_remainder: bool, fit: Callable, size: int):
    """Images of equal size and labels, in the order of a data set of indices."""
    with tf.device("CPU:0"):  # never in the accelerator's memory
        labels = tf.constant(part.labels)
        if _fits_memory(len(part), size):
            images = tf.constant(_decoded(part, fit, size))
            return order.batch(batch_size, drop_remainder).map(
                lambda indices: (tf.gather(images, indices), tf.gather(labels, indices)),
                num_parallel_calls=tf.data.AUTOTUNE,
            )
        read = _reader(part)
    return order.map(
        lambda index: (fit(read(index)), labels[index]), num_parallel_calls=tf.data.AUTOTUNE
    ).batch(batch_size, drop_remainder)


def _prefetched(batches, finish: Callable):
    return batches.map(finish, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _reader(part: Part) -> Callable:
    """From an index to a decoded image; a GIF gives its first frame."""
    images = tf.constant(part.images)
    if isinstance(part.images, tuple):
        return lambda index: decode(tf.io.read_file(images[index]))
    return lambda index: images[index]


def decode(contents):
    """Decode a JPEG, PNG, BMP or GIF (its first frame).

    Args:
        contents: Scalar string tensor: the bytes of the file.

    Returns:
        uint8 of shape (height, width, 3).
    """
    image = tf.io.decode_image(contents, channels=3, expand_animations=False)
    return tf.ensure_shape(image, [None, None, 3])


def _decoded(part: Part, fit: Callable, size: int) -> np.ndarray:
    """All images of a part, decoded and resized: uint8 (count, size, size, channels)."""
    if not isinstance(part.images, tuple) and part.images.shape[1:3] == (size, size):
        return part.images
    read = _reader(part)
    stream = (
        tf.data.Dataset.range(len(part))
        .map(lambda index: fit(read(index)), num_parallel_calls=tf.data.AUTOTUNE)
        .batch(256)
        .prefetch(2)
    )
    images = np.empty((len(part), size, size, stream.element_spec.shape[-1]), np.uint8)
    done = 0
    try:
        for batch in stream.as_numpy_iterator():
            images[done : done + len(batch)] = batch
            done += len(batch)
    except tf.errors.InvalidArgumentError as error:
        raise ValueError(name_undecodable(part) or str(error)) from error
    return images


def name_undecodable(part: Part) -> str | None:
    """Find the image behind a failure to decode, which tf.data does not name.

    Args:
        part: Of a data set.

    Returns:
        An error message that names the first file that cannot be decoded, or None.
    """
    paths = part.images if isinstance(part.images, tuple) else ()
    for path in paths:
        try:
            decode(tf.io.read_file(path))
        except (tf.errors.OpError, ValueError) as error:
            reason = image_fault(path) or str(error).split("} ", 1)[-1].split(" [Op:")[0]
            return f"Unreadable image {path}: {reason}. Replace or remove it."
    return None


def _fits_memory(count: int, size: int) -> bool:
    return count * size * size * 3 <= MEMORY_SHARE * _free_memory()


def _free_memory() -> int:
    """Bytes that can be had without swapping, as Linux says; elsewhere, a guess."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return MEMORY_GUESS
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
