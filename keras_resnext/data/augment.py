"""Augmentation: pure, seeded functions on batches of images, and the table of them by name.

Each takes uint8 images of shape (batch, height, width, channels) and a seed of two integers, and
gives uint8 images; the same seed gives the same images, eagerly and inside tf.data, on any number
of cores. They work on whole batches because tf.data needs longer to call a function than to move
a small image: see the measurements in ``pipeline``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import tensorflow as tf

from keras_resnext.data import policies
from keras_resnext.data.decode import Crop, fit_windows, relative_windows
from keras_resnext.errors import unknown

ERASED = Crop(area=(0.02, 0.33), ratio=(0.3, 3.3))

Step = Callable[[tf.Tensor, tf.Tensor, int], tf.Tensor]


@dataclass(frozen=True)
class Augmentation:
    """A row of the table.

    Args:
        steps: Called in turn with images, seed and the size of the images.
        crop: Bounds of a random crop that comes before them, or None: the middle, whole.
    """

    steps: tuple[Step, ...]
    crop: Crop | None = None


def flip(images, seed, size=None):
    """Mirror each image, left to right, with probability 1/2.

    Args:
        images: uint8 of shape (batch, height, width, channels).
        seed: Two integers.
        size: Not used: mirroring keeps the size.

    Returns:
        Images of the same shape and type.
    """
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0]], seed) < 0.5
    # Whole images are moved, and rows reversed in rank 3, where TensorFlow has a fast way for three
    # channels: several times as fast as tf.where over the images and images[:, :, ::-1].
    kept, turned = (tf.where(chosen)[:, 0] for chosen in (~mirrored, mirrored))
    rows = tf.reshape(tf.gather(images, turned), [-1, *images.shape[2:]])
    rows = tf.reshape(tf.reverse(rows, [1]), [-1, *images.shape[1:]])
    places = [tf.cast(chosen, tf.int32) for chosen in (kept, turned)]
    return tf.dynamic_stitch(places, [tf.gather(images, kept), rows])


def pad_and_crop(images, seed, size):
    """Pad with black by an eighth of the size on every side and crop anywhere: a random shift.

    4 pixels for images of 32, as in section 4.2 of "Deep Residual Learning for Image Recognition".

    Args:
        images: uint8 of shape (batch, size, size, channels).
        seed: Two integers.
        size: Edge of the images, pixels.

    Returns:
        Images of the same shape and type.
    """
    padding = max(1, size // 8)
    space = [padding, padding]
    padded = tf.pad(images, [[0, 0], space, space, [0, 0]])
    shape = [2, tf.shape(images)[0], 1]
    corner = tf.random.stateless_uniform(shape, seed, 0, 2 * padding + 1, tf.int32)
    rows, columns = tf.unstack(corner + tf.range(size))
    return tf.gather(tf.gather(padded, rows, batch_dims=1), columns, axis=2, batch_dims=1)


PHOTOGRAPH = Crop()


def color_jitter(images, seed, size=None, strength=(0.4, 0.4, 0.4)):
    """Change brightness, contrast and saturation of each image, as Pillow's ImageEnhance does.

    Args:
        images: uint8 of shape (batch, height, width, channels).
        seed: Two integers.
        size: Not used.
        strength: Of the three: factors are uniform from 1 less this to 1 more.

    Returns:
        Images of the same shape and type.
    """
    draws = tf.random.stateless_uniform([3, tf.shape(images)[0], 1, 1, 1], seed, -1, 1)
    factors = [1 + draws[k] * amount for k, amount in enumerate(strength)]
    images = policies.blend(0, images, factors[0])
    luma = tf.cast(policies.grey(images), tf.float32)
    mean = tf.floor(tf.reduce_mean(luma, [1, 2, 3], keepdims=True) + 0.5)
    images = policies.blend(mean, images, factors[1])
    return policies.blend(policies.grey(images), images, factors[2])


def cutout(images, seed, size):
    """Paint a square of half the size grey, its middle anywhere; what sticks out is cut.

    "Improved Regularization of Convolutional Neural Networks with Cutout".

    Args:
        images: uint8 of shape (batch, size, size, channels).
        seed: Two integers.
        size: Edge of the images, pixels.

    Returns:
        Images of the same shape and type.
    """
    count = tf.shape(images)[0]
    middle = tf.random.stateless_uniform([count, 2], seed, 0, size, tf.int32)
    return _paint(images, middle - size // 4, tf.fill([count, 2], size // 2))


def random_erasing(images, seed, size, chance=0.5, box=ERASED):
    """Paint a rectangle of random area and shape grey, in some of the images.

    "Random Erasing Data Augmentation", algorithm 1.

    Args:
        images: uint8 of shape (batch, size, size, channels).
        seed: Two integers.
        size: Edge of the images, pixels.
        chance: Share of the images that lose something.
        box: Bounds of the rectangle.

    Returns:
        Images of the same shape and type.
    """
    draws = tf.random.stateless_uniform([5, tf.shape(images)[0]], seed)
    corner, extent = fit_windows(relative_windows(draws[:4], box), tf.constant([size, size]))
    extent = tf.where((draws[4] < chance)[:, None], extent, 0.0)
    return _paint(images, tf.cast(corner, tf.int32), tf.cast(extent, tf.int32))


def _paint(images, corner, extent):
    def within(axis):
        places = tf.range(tf.shape(images)[1 + axis])[None]
        begin = corner[:, axis, None]
        return (places >= begin) & (places < begin + extent[:, axis, None])

    inside = within(0)[:, :, None] & within(1)[:, None, :]
    return tf.where(inside[..., None], tf.constant(policies.GREY, tf.uint8), images)


def each(function: Callable) -> Step:
    """Make a step for batches of a function of one image and a seed.

    Args:
        function: Takes uint8 (height, width, channels) and two integers, gives such an image.

    Returns:
        A step: each image gets a seed of its own.
    """

    def step(images, seed, size=None):
        seeds = tf.random.stateless_uniform([tf.shape(images)[0], 2], seed, None, None, tf.int64)
        return tf.map_fn(
            lambda row: function(*row), (images, seeds), fn_output_signature=images.dtype
        )

    return step


def policy_step(policy: policies.Policy) -> Step:
    """Make a step of a policy.

    Args:
        policy: From ``policies.read_policy`` or ``policies.published_policy``.
    """
    return each(lambda image, seed: policies.apply_policy(image, seed, policy))


AUGMENTATIONS = {
    "none": Augmentation(()),
    "flip": Augmentation((flip,)),
    "shift": Augmentation((pad_and_crop,)),
    "shift_flip": Augmentation((pad_and_crop, flip)),
    "resized_crop_flip": Augmentation((flip,), PHOTOGRAPH),
    "color_jitter": Augmentation((color_jitter,)),
    "cutout": Augmentation((cutout,)),
    "random_erasing": Augmentation((random_erasing,)),
    "randaugment": Augmentation((each(policies.rand_augment),)),
    **{
        f"randaugment{level}": Augmentation(
            (each(partial(policies.rand_augment, level=level / 10, probability=0.5)),)
        )
        for level in (6, 7)  # of "ResNet strikes back", as timm counts
    },
    "augmix": Augmentation((each(policies.aug_mix),)),
    **{
        f"autoaugment_{name}": Augmentation((policy_step(policies.published_policy(name)),))
        for name in policies.POLICIES
    },
}


def find_augmentation(name: str) -> Augmentation:
    """Give the row of ``AUGMENTATIONS`` of that name, or several in turn.

    Args:
        name: Of the row, or of several joined by "+", or the path of a policy file (.json).

    Returns:
        An Augmentation: all their steps, and the crop of the first that has one.

    Raises:
        ValueError: If there is none, with the nearest name.

    Example:

    >>> find_augmentation("shift+flip") == find_augmentation("shift_flip")
    True
    """
    rows = []
    for part in name.split("+"):
        if part.endswith(".json"):
            rows.append(Augmentation((policy_step(policies.read_policy(part)),)))
            continue
        if part not in AUGMENTATIONS:
            raise ValueError(unknown("augmentation", part, AUGMENTATIONS))
        rows.append(AUGMENTATIONS[part])
    crop = next((row.crop for row in rows if row.crop), None)
    return Augmentation(tuple(step for row in rows for step in row.steps), crop)


def apply_steps(images, seed, augmentation: Augmentation, size: int):
    """Apply each step of a row, with a seed of its own, to images that are cropped already.

    Args:
        images: uint8 of shape (batch, size, size, channels).
        seed: Two integers.
        augmentation: A row of ``AUGMENTATIONS``.
        size: Edge of the images, pixels.

    Returns:
        uint8 of shape (batch, size, size, channels).
    """
    for number, step in enumerate(augmentation.steps):
        images = step(images, fold(seed, number), size)
    return images


def fold(seed, number: int):
    """Derive a seed.

    Args:
        seed: Two integers.
        number: Another for each use.

    Returns:
        Two integers.
    """
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), number)
