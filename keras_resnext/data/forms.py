"""The forms that decoded images are brought into, to be kept and to be shown."""

from dataclasses import dataclass

import tensorflow as tf


@dataclass(frozen=True)
class Form:
    """What becomes of a decoded image before it is kept.

    Args:
        edge: Pixels. With ``size``, the shorter side is resized to this; without, it is made no
            larger than this.
        size: Edge of the square that is cropped from the middle, or None: the whole image.
    """

    edge: int
    size: int | None


def fit_form(image, form: Form):
    """Bring a decoded image into a form: see ``Form``.

    Args:
        image: uint8 of shape (height, width, channels).
        form: What is wanted.

    Returns:
        uint8: square, or with its own proportions.
    """
    if form.size is not None:
        return resize_and_crop(image, form.edge, form.size)
    shape = tf.shape(image)[:2]
    least = tf.reduce_min(shape)

    def smaller():
        scale = form.edge / least
        target = tf.cast(tf.round(tf.cast(shape, tf.float64) * scale), tf.int32)
        return _rounded(tf.image.resize(image, target, antialias=True))

    return tf.cond(least > form.edge, smaller, lambda: image)


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
        # To whole pixels as torchvision rounds, and as `layers.Preprocessing` does.
        target = edge * shape // tf.reduce_min(shape)
        corner = tf.cast(tf.round((target - size) / 2), tf.int32)
        whole = tf.image.resize(image, target, antialias=True)
        return _rounded(tf.slice(whole, tf.concat([corner, [0]], 0), [size, size, -1]))

    result = tf.cond(tf.reduce_all(shape == size), lambda: image, resized)
    return tf.ensure_shape(result, [size, size, image.shape[-1]])


def _rounded(image):
    return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
