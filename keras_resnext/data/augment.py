"""Augmentation: pure, seeded functions on batches of images, and a table of them by name.

Each takes uint8 images (batch, height, width, channels), a seed of two integers, the edge of the
images in pixels and its row's arguments. The same seed gives the same images everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from keras_resnext.checks import number
from keras_resnext.data import policies
from keras_resnext.data.decode import Crop, fit_windows, relative_windows
from keras_resnext.data.grammar import NONE, Argument, Call, Row, parse_call, split_text
from keras_resnext.data.lazy import tf
from keras_resnext.data.ops import fold, gather_pixels, inside_boxes

ERASED = Crop(area=(0.02, 0.33), ratio=(0.3, 3.3))


@dataclass(frozen=True)
class AugmentationRow(Row):
    """A row of `AUGMENTATIONS`.

    Args:
        crops: bool, whether the function takes only its arguments and returns a `Crop`, which is
            applied while an image is decoded.
    """

    crops: bool = False


@dataclass(frozen=True)
class Augmentation:
    """A parsed augmentation: the steps to apply in turn, after an optional random crop."""

    text: str = field(compare=False)
    steps: tuple[Call, ...]
    crop: Crop | None = None

    def __str__(self) -> str:
        return self.text


def flip(images: tf.Tensor, seed: tf.Tensor, size: int | None = None) -> tf.Tensor:
    """Mirror each image horizontally with probability 1/2."""
    mirrored = tf.random.stateless_uniform([tf.shape(images)[0]], seed) < 0.5
    # Whole images are moved, and rows reversed in rank 3, where TensorFlow has a fast way for three
    # channels: several times as fast as tf.where over the images and images[:, :, ::-1].
    straight, turned = (tf.where(chosen)[:, 0] for chosen in (~mirrored, mirrored))
    rows = tf.reshape(tf.gather(images, turned), [-1, *images.shape[2:]])
    rows = tf.reshape(tf.reverse(rows, [1]), [-1, *images.shape[1:]])
    places = [tf.cast(chosen, tf.int32) for chosen in (straight, turned)]
    return tf.dynamic_stitch(places, [tf.gather(images, straight), rows])


def pad_and_crop(images: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Pad every side with black by an eighth of the size, and crop at random."""
    padding = max(1, size // 8)
    space = [padding, padding]
    padded = tf.pad(images, [[0, 0], space, space, [0, 0]])
    shape = [2, tf.shape(images)[0], 1]
    corner = tf.random.stateless_uniform(shape, seed, 0, 2 * padding + 1, tf.int32)
    return gather_pixels(padded, *tf.unstack(corner + tf.range(size)))


def resized_crop(area: float) -> Crop:
    """Return the random crop of "Going Deeper with Convolutions", section 6."""
    return Crop((area, 1.0))


def color_jitter(
    images: tf.Tensor, seed: tf.Tensor, size: int | None = None, strength: float = 0.4
) -> tf.Tensor:
    """Change brightness, contrast and saturation of each image, as Pillow's ImageEnhance does."""
    draws = tf.random.stateless_uniform([3, tf.shape(images)[0], 1, 1, 1], seed, -1, 1)
    factors = [1 + draws[k] * strength for k in range(3)]
    images = policies.blend(0, images, factors[0])
    luma = tf.cast(policies.gray(images), tf.float32)
    mean = tf.floor(tf.reduce_mean(luma, [1, 2, 3], keepdims=True) + 0.5)
    images = policies.blend(mean, images, factors[1])
    return policies.blend(policies.gray(images), images, factors[2])


def cutout(images: tf.Tensor, seed: tf.Tensor, size: int) -> tf.Tensor:
    """Paint a square of half the size gray, centered anywhere (arXiv 1708.04552)."""
    count = tf.shape(images)[0]
    middle = tf.random.stateless_uniform([count, 2], seed, 0, size, tf.int32)
    return _paint(images, middle - size // 4, tf.fill([count, 2], size // 2))


def random_erasing(
    images: tf.Tensor, seed: tf.Tensor, size: int, probability: float = 0.5
) -> tf.Tensor:
    """Paint a random rectangle gray in some of the images (arXiv 1708.04896, algorithm 1)."""
    draws = tf.random.stateless_uniform([5, tf.shape(images)[0]], seed)
    corner, extent = fit_windows(relative_windows(draws[:4], ERASED), tf.constant([size, size]))
    extent = tf.where((draws[4] < probability)[:, None], extent, 0.0)
    return _paint(images, tf.cast(corner, tf.int32), tf.cast(extent, tf.int32))


def _paint(images: tf.Tensor, corner: tf.Tensor, extent: tf.Tensor) -> tf.Tensor:
    inside = inside_boxes(tf.shape(images), tf.concat([corner, corner + extent], 1))
    return tf.where(inside[..., None], tf.constant(policies.GRAY, tf.uint8), images)


def each(function: Callable) -> Callable:
    """Return an augmentation that calls `function(image, seed)` for each image."""

    def step(
        images: tf.Tensor, seed: tf.Tensor, size: int | None = None, **arguments: object
    ) -> tf.Tensor:
        seeds = tf.random.stateless_uniform([tf.shape(images)[0], 2], seed, None, None, tf.int64)
        return tf.map_fn(
            lambda row: function(*row, **arguments),
            (images, seeds),
            fn_output_signature=images.dtype,
        )

    return step


AUGMENTATIONS = {
    "flip": AugmentationRow("Mirror half of the images.", flip),
    "shift": AugmentationRow("Shift by up to an eighth of the size.", pad_and_crop),
    "resized_crop": AugmentationRow(
        "Crop anywhere, and resize.",
        resized_crop,
        (Argument("area", 0.08, "least share of the image", number(above=0, most=1)),),
        crops=True,
    ),
    "color_jitter": AugmentationRow(
        "Change brightness, contrast and saturation.",
        color_jitter,
        (Argument("strength", 0.4, "factors are from 1 less this to 1 more", number(0, 1)),),
    ),
    "cutout": AugmentationRow("Paint a square of half the size gray.", cutout),
    "random_erasing": AugmentationRow(
        "Paint a rectangle gray.",
        random_erasing,
        (Argument("probability", 0.5, "share of the images", number(0, 1)),),
    ),
    "randaugment": AugmentationRow(
        "Change by two random operations, of level 9 of 30.",
        each(policies.rand_augment),
        (
            Argument(
                "level",
                None,
                "from 0 to 10, as timm counts; each operation then has the probability 0.5",
                number(0, 10),
            ),
        ),
    ),
    "augmix": AugmentationRow("Blend with chains of operations.", each(policies.aug_mix)),
    **{
        f"autoaugment_{name}": AugmentationRow(
            f"Change by AutoAugment's policy for {title}.",
            each(partial(policies.apply_policy, policy=policies.published_policy(name))),
        )
        for name, title in (("imagenet", "ImageNet"), ("cifar10", "CIFAR-10"), ("svhn", "SVHN"))
    },
}
# Names for several rows, or for a row with its argument; an argument goes to the first row.
SHORTHANDS = {
    "shift_flip": "shift+flip",
    "resized_crop_flip": "resized_crop+flip",
    "randaugment6": "randaugment(6)",
    "randaugment7": "randaugment(7)",
}
POLICY_FILE = AugmentationRow("Change by the policy of a file.", each(policies.apply_policy))


def parse_augmentation(text: str | Augmentation) -> Augmentation:
    """Parse an augmentation, with the random crop of the first part that has one.

    It is `"none"`; the name of a row of `AUGMENTATIONS`, with arguments in parentheses; the path of
    a policy file (.json); or several joined by `+`.
    """
    if isinstance(text, Augmentation):
        return text
    calls = [call for part in split_text(text, "+") for call in _calls(part)]
    crops = [call() for call in calls if call.row.crops]
    steps = tuple(call for call in calls if not call.row.crops)
    return Augmentation(text, steps, crops[0] if crops else None)


def _calls(text: str) -> list[Call]:
    if text == NONE:
        return []
    if text.endswith(".json"):
        return [Call(POLICY_FILE, (("policy", policies.read_policy(text)),))]
    name, parenthesis, values = text.partition("(")
    if name in SHORTHANDS:
        first, *rest = split_text(SHORTHANDS[name], "+")
        return [call for part in (first + parenthesis + values, *rest) for call in _calls(part)]
    return [parse_call("augmentation", text, {**AUGMENTATIONS, **dict.fromkeys(SHORTHANDS)})]


def apply_steps(
    images: tf.Tensor, seed: tf.Tensor, augmentation: Augmentation, size: int
) -> tf.Tensor:
    """Apply each step, with its own seed, to images (batch, size, size, channels)."""
    for place, step in enumerate(augmentation.steps):
        images = step(images, fold(seed, place), size)
    return images
