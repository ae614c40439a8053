"""Operations that augmentation and mixing share."""

from __future__ import annotations

from keras_resnext.data.lazy import tf


def fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Derive a seed of two integers from another; each use needs its own number."""
    return tf.random.fold_in(tf.cast(seed, tf.int64), number)


def inside_boxes(shape: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return which pixels (batch, height, width) are in the boxes [top, left, bottom, right)."""

    def within(axis: int) -> tf.Tensor:
        places = tf.range(shape[1 + axis])[None]
        return (places >= boxes[:, axis, None]) & (places < boxes[:, 2 + axis, None])

    return within(0)[:, :, None] & within(1)[:, None, :]


def gather_pixels(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Return images made of some rows and columns, int32 (batch, count), of others."""
    return tf.gather(tf.gather(images, rows, batch_dims=1), columns, axis=2, batch_dims=1)
