"""The order and crops of training images: functions of seed, epoch and place in the data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import tensorflow as tf

from keras_resnext.data.decode import pixel_windows, relative_windows
from keras_resnext.data.encoded import numbered_stream
from keras_resnext.data.ops import fold

if TYPE_CHECKING:
    from keras_resnext.data.pipeline import Training

# Records that can only be read in sequence are shuffled in a buffer of this size.
SHUFFLED_BYTES, SHUFFLED_RECORDS = 512 << 20, 1 << 15
# The distance between seeds of epochs.
EPOCH_STRIDE = 1 << 32


def shuffled_places(
    training: Training, epochs: int | None, salt: int = 0, start: tuple[int, int] = (0, 0)
) -> tf.data.Dataset:
    """Return (place, epoch, window) of all images, in a new order for each epoch and salt."""
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
    """Return (contents, label, place, epoch, window) of records, shuffled in a buffer.

    Unlike `shuffled_places`, this reads the records before the start, too.
    """
    count = len(training.part)
    mean = max(1, training.plan.encoded // max(1, count))
    buffer = max(2, min(count, SHUFFLED_RECORDS, SHUFFLED_BYTES // mean))
    used = used_images(training, epochs)

    def numbered(epoch: tf.Tensor) -> tf.data.Dataset:
        # For this function's graph only; otherwise the order would depend on the program's seed.
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
    """Drop the rows of each batch that belong to other workers, before anything is decoded."""
    index, count = training.worker
    if count == 1:
        return rows
    of_batch = rows.enumerate().filter(
        lambda number, row: number % training.batch_size // training.own_batch == index
    )
    return of_batch.map(lambda number, row: row)


def epoch_windows(training: Training, epoch: tf.Tensor | int) -> tf.Tensor:
    """Draw all windows of an epoch at once: float32 (images, 4), or (images, 0) without a crop."""
    count, crop = len(training.part), training.augmentation.crop
    if crop is None:
        return tf.zeros([count, 0])
    seed = tf.stack([epoch_seed(training.seed, epoch), 0])
    return relative_windows(tf.random.stateless_uniform([4, count], seed), crop)


def epoch_seed(seed: int, epoch: tf.Tensor | int) -> tf.Tensor:
    """Return the first integer of an epoch's seeds."""
    return tf.cast(epoch, tf.int64) * EPOCH_STRIDE + seed


def used_images(training: Training, epochs: int | None) -> int:
    """Return the number of images per epoch: with `epochs`, those of whole batches."""
    count = len(training.part)
    return count if epochs is None else count - count % training.batch_size


def _order_seed(training: Training, epoch: tf.Tensor, salt: int) -> tf.Tensor:
    return tf.stack([epoch_seed(training.seed, epoch), tf.constant(-1 - salt, tf.int64)])


def _skipped(training: Training, epoch: tf.Tensor, start: tuple[int, int]) -> tf.Tensor:
    return tf.where(epoch == start[0], tf.constant(start[1] * training.batch_size, tf.int64), 0)


def _epochs(epochs: int | None, start: tuple[int, int]) -> tf.data.Dataset:
    if epochs is not None:
        return tf.data.Dataset.range(start[0], epochs)
    with tf.device("CPU:0"):
        passes = tf.Variable(start[0] - 1, dtype=tf.int64, trainable=False)
    return tf.data.Dataset.range(1).map(lambda _: passes.assign_add(1))
