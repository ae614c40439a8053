"""Operations that augmentation and mixing share."""

from __future__ import annotations

from keras_resnext.data.lazy import tf


def fold(seed: tf.Tensor, number: int) -> tf.Tensor:
    """Derive a seed, two integers, from another; each use takes a number of its own."""
    return tf.random.fold_in(tf.cast(seed, tf.int64), number)


def inside_boxes(shape: tf.Tensor, boxes: tf.Tensor) -> tf.Tensor:
    """Return which pixels of a batch of a shape lie in the box of their image.

    A box is top, left, bottom, right, int32; the last two exclusive. The result is bool of shape
    (batch, height, width).
    """

    def within(axis: int) -> tf.Tensor:
        places = tf.range(shape[1 + axis])[None]
        return (places >= boxes[:, axis, None]) & (places < boxes[:, 2 + axis, None])

    return within(0)[:, :, None] & within(1)[:, None, :]


def gather_pixels(images: tf.Tensor, rows: tf.Tensor, columns: tf.Tensor) -> tf.Tensor:
    """Return images made of some rows and columns of others, int32 of shape (batch, count)."""
    return tf.gather(tf.gather(images, rows, batch_dims=1), columns, axis=2, batch_dims=1)
