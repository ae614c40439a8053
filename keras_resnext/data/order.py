"""The order of training: which image comes when, in which epoch, and where it is cropped.

All of it is a function of the seed, the epoch and the place of the image in the data set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_resnext.data.decode import pixel_windows, relative_windows
from keras_resnext.data.encoded import numbered_stream
from keras_resnext.data.ops import fold

if TYPE_CHECKING:
    from keras_resnext.data.pipeline import Training

# If records can only be read as they lie, this many bytes, or records, are shuffled at a time.
SHUFFLED_BYTES, SHUFFLED_RECORDS = 512 << 20, 1 << 15
# Epochs have seeds of their own: far apart, whatever the seed.
EPOCH_STRIDE = 1 << 32


def shuffled_places(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Return the places of all images, in an order of its own for each epoch and salt.

    `epochs` and `start` are as in `pipeline.assemble`.

    Returns:
        tf.data.Dataset of (place, epoch, window).
    """
    count = len(training.part)
    used = used_images(training, epochs)

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = _order_seed(training, epoch, salt)
        places = tf.random.experimental.stateless_shuffle(tf.range(count, dtype=tf.int64), seed)
        places = places[_skipped(training, epoch, start) : used]
        windows = tf.gather(epoch_windows(training, epoch), places)
        if training.augmentation.crop and training.store.shape(places) is not None:
            # All at once: image by image that would cost a fifth of what resizing does.
            windows = pixel_windows(windows, training.store.shape(places))
        return tf.data.Dataset.from_tensor_slices(
            (places, tf.fill(tf.shape(places), epoch), windows)
        )

    return _epochs(epochs, start).flat_map(order)


def shuffled_records(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Return records, which are read one by one, and shuffled in a buffer.

    As `shuffled_places`, but what lies before the start is read: records cannot be skipped.

    Returns:
        tf.data.Dataset of (contents, label, place, epoch, window).
    """
    count = len(training.part)
    mean = max(1, training.plan.encoded // max(1, count))
    buffer = max(2, min(count, SHUFFLED_RECORDS, SHUFFLED_BYTES // mean))
    used = used_images(training, epochs)

    def numbered(epoch: tf.Tensor) -> tf.data.Dataset:
        # Of the graph of this function alone: or the order would depend on the program's own seed.
        tf.random.set_seed(1)
        seed = _order_seed(training, epoch, salt)
        rows = numbered_stream(training.part.images, seed).shuffle(
            buffer, tf.cast(fold(seed, 0)[0], tf.int64), reshuffle_each_iteration=False
        )
        rows = rows.take(used).skip(_skipped(training, epoch, start))
        windows = epoch_windows(training, epoch)
        return rows.map(lambda at, contents, label: (contents, label, at, epoch, windows[at]))

    return _epochs(epochs, start).flat_map(numbered)


def own_rows(training: Training, rows: tf.data.Dataset) -> tf.data.Dataset:
    """Leave out, before anything is decoded, what other workers make of each batch."""
    index, count = training.worker
    if count == 1:
        return rows
    of_batch = rows.enumerate().filter(
        lambda number, row: number % training.batch_size // training.own_batch == index
    )
    return of_batch.map(lambda number, row: row)


def epoch_windows(training: Training, epoch: tf.Tensor | int) -> tf.Tensor:
    """Draw where each image is cropped in an epoch, all at once, which costs next to nothing.

    Returns:
        float32 tensor of shape (images, 4), by place: see `decode.relative_windows`. (images, 0)
        without a crop.
    """
    count, crop = len(training.part), training.augmentation.crop
    if crop is None:
        return tf.zeros([count, 0])
    seed = tf.stack([epoch_seed(training.seed, epoch), 0])
    return relative_windows(tf.random.stateless_uniform([4, count], seed), crop)


def epoch_seed(seed: int, epoch: tf.Tensor | int) -> tf.Tensor:
    """Return the first integer of an epoch's seeds."""
    return tf.cast(epoch, tf.int64) * EPOCH_STRIDE + seed


def used_images(training: Training, epochs: int | None) -> int:
    """Return the images of an epoch: if epochs follow each other, whole batches of them."""
    count = len(training.part)
    return count if epochs is None else count - count % training.batch_size


def _order_seed(training: Training, epoch: tf.Tensor, salt: int) -> tf.Tensor:
    return tf.stack([epoch_seed(training.seed, epoch), tf.constant(-1 - salt, tf.int64)])


def _skipped(training: Training, epoch: tf.Tensor, start: tuple[int, int]) -> tf.Tensor:
    """Return the number of images of an epoch that come before the start."""
    return tf.where(epoch == start[0], tf.constant(start[1] * training.batch_size, tf.int64), 0)


def _epochs(epochs: int | None, start: tuple[int, int]) -> tf.data.Dataset:
    """Return the numbers of the epochs of one pass: all, or the one whose turn it is."""
    if epochs is not None:
        return tf.data.Dataset.range(start[0], epochs)
    with tf.device("CPU:0"):
        passes = tf.Variable(start[0] - 1, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.range(1).map(lambda _: passes.assign_add(1))
