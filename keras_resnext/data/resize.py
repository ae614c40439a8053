"""Resizing of decoded images."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Resize:
    """How to resize a decoded image, in pixels.

    With `size`, the shorter side becomes `edge`, and the middle square of that size is cropped.
    Without, the shorter side becomes at most `edge`.
    """

    edge: int
    size: int | None


def resize_image(image: tf.Tensor, resize: Resize) -> tf.Tensor:
    """Resize a uint8 image (height, width, channels)."""
    if resize.size is not None:
        return resize_and_crop(image, resize.edge, resize.size)
    shape = tf.shape(image)[:2]
    shorter = tf.reduce_min(shape)

    def smaller() -> tf.Tensor:
        scale = resize.edge / shorter
        target = tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32)
        return _rounded(tf.image.resize(image, target, antialias=True))

    return tf.cond(shorter > resize.edge, smaller, lambda: image)


def resize_and_crop(image: tf.Tensor, edge: int, size: int) -> tf.Tensor:
    """Resize the shorter side and crop the middle; leave an image of that size unchanged."""
    shape = tf.shape(image)[:2]

    def resized() -> tf.Tensor:
        # To whole pixels as torchvision rounds, and as `layers.Preprocessing` does.
        target = edge * shape // tf.reduce_min(shape)
        corner = tf.cast(tf.round((target - size) / 2), tf.int32)
        whole = tf.image.resize(image, target, antialias=True)
        return _rounded(tf.slice(whole, tf.concat([corner, [0]], 0), [size, size, -1]))

    result = tf.cond(tf.reduce_all(shape == size), lambda: image, resized)
    return tf.ensure_shape(result, [size, size, image.shape[-1]])


def _rounded(image: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
