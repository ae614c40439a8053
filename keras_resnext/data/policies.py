"""Operations on an image and a value, as in Pillow, and the augmentation policies made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from keras_resnext.data.lazy import tf
from keras_resnext.data.ops import fold
from keras_resnext.errors import unknown

GRAY = 128  # of what is uncovered, as in AutoAugment
FORMAT = 1


@dataclass(frozen=True)
class Operation:
    """A row of `OPERATIONS`.

    Args:
        apply: Function from an image and a value to an image.
        value: Function from a level, 0 to 1, to the value.
        signed: bool, whether the value is applied in either direction.
    """

    apply: Callable
    value: Callable[[float], float] = float
    signed: bool = False


def _by_table(image: tf.Tensor, table: tf.Tensor) -> tf.Tensor:
    """Map pixels by a table for all channels (256,), or one per channel (channels, 256)."""
    if len(table.shape) == 1:
        return tf.gather(table, tf.cast(image, tf.int32))
    channels = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    rows = tf.unstack(table, num=len(channels))
    return tf.stack([tf.gather(r, c) for r, c in zip(rows, channels, strict=True)], -1)


def _levels() -> tf.Tensor:
    return tf.range(256)


def identity(image: tf.Tensor, value: float) -> tf.Tensor:
    """Return the image."""
    return image


def invert(image: tf.Tensor, value: float) -> tf.Tensor:
    """Return the negative."""
    return 255 - image


def solarize(image: tf.Tensor, value: float) -> tf.Tensor:
    """Invert pixels at least as bright as the value."""
    return tf.where(tf.cast(image, tf.float32) < value, image, 255 - image)


def posterize(image: tf.Tensor, value: float) -> tf.Tensor:
    """Keep as many of the highest bits as the value says."""
    dropped = tf.bitwise.left_shift(1, 8 - tf.cast(value, tf.int32))
    table = _levels() // dropped * dropped
    return _by_table(image, tf.cast(table, tf.uint8))


def autocontrast(image: tf.Tensor, value: float) -> tf.Tensor:
    """Stretch each channel to the range from 0 to 255."""
    pixels = tf.cast(image, tf.float32)
    low, high = (reduce(pixels, [0, 1])[:, None] for reduce in (tf.reduce_min, tf.reduce_max))
    scale = 255 / tf.maximum(high - low, 1)
    levels = tf.cast(_levels(), tf.float32)[None]
    # Pillow truncates in double precision; in float32 a whole number must not become smaller.
    table = tf.clip_by_value(tf.floor((levels - low) * scale + 1e-4), 0, 255)
    table = tf.where(high > low, table, levels)
    return _by_table(image, tf.cast(table, tf.uint8))


def equalize(image: tf.Tensor, value: float) -> tf.Tensor:
    """Flatten the histogram of each channel."""
    channels = tf.unstack(tf.cast(image, tf.int32), axis=-1)
    return _by_table(image, tf.stack([_equalizing(channel) for channel in channels]))


def _equalizing(channel: tf.Tensor) -> tf.Tensor:
    counts = tf.math.bincount(channel, minlength=256, maxlength=256)
    last = tf.reduce_max(tf.where(counts > 0, _levels(), 0))
    step = (tf.size(channel) - counts[last]) // 255
    table = (step // 2 + tf.cumsum(counts, exclusive=True)) // tf.maximum(step, 1)
    return tf.cast(tf.where(step > 0, tf.minimum(table, 255), _levels()), tf.uint8)


def gray(image: tf.Tensor) -> tf.Tensor:
    """Return the luma of uint8 images (..., 3) as (..., 1), in Pillow's integers."""
    if image.shape[-1] == 1:
        return image
    weights = tf.constant([19595, 38470, 7471])
    total = tf.reduce_sum(tf.cast(image, tf.int32) * weights, -1, keepdims=True)
    return tf.cast((total + 0x8000) // 0x10000, tf.uint8)


def blend(start: tf.Tensor | float, image: tf.Tensor, value: tf.Tensor | float) -> tf.Tensor:
    """Interpolate from a uint8 image (value 0) to another (1) or beyond, rounding down."""
    start, pixels = tf.cast(start, tf.float32), tf.cast(image, tf.float32)
    mixed = start + value * (pixels - start)
    return tf.cast(tf.clip_by_value(mixed, 0, 255), tf.uint8)


def color(image: tf.Tensor, value: float) -> tf.Tensor:
    """Multiply the saturation by 1 + value."""
    return blend(gray(image), image, 1 + value)


def brightness(image: tf.Tensor, value: float) -> tf.Tensor:
    """Multiply the brightness by 1 + value."""
    return blend(0, image, 1 + value)


def contrast(image: tf.Tensor, value: float) -> tf.Tensor:
    """Multiply the contrast by 1 + value."""
    mean = tf.floor(tf.reduce_mean(tf.cast(gray(image), tf.float32)) + 0.5)
    return blend(mean, image, 1 + value)


def sharpness(image: tf.Tensor, value: float) -> tf.Tensor:
    """Multiply the detail that Pillow's smoothing removes by 1 + value."""
    kernel = tf.constant([1, 1, 1, 1, 5, 1, 1, 1, 1], tf.float32) / 13
    pixels = tf.transpose(tf.cast(image, tf.float32), [2, 0, 1])[..., None]
    smooth = tf.nn.conv2d(pixels, tf.reshape(kernel, [3, 3, 1, 1]), 1, "VALID")
    smooth = tf.transpose(tf.floor(smooth[..., 0] + 0.5), [1, 2, 0])
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    inner = tf.pad(tf.ones([height - 2, width - 2, 1], tf.bool), [[1, 1], [1, 1], [0, 0]])
    smooth = tf.pad(smooth, [[1, 1], [1, 1], [0, 0]])
    return blend(tf.where(inner, smooth, tf.cast(image, tf.float32)), image, 1 + value)


def affine(image: tf.Tensor, matrix: Sequence[tf.Tensor | float]) -> tf.Tensor:
    """Transform by a matrix of six numbers, as `PIL.Image.transform` does; fill with gray."""
    a, b, c, d, e, f = (tf.cast(number, tf.float32) for number in matrix)
    # Pillow samples at centers of pixels and truncates; this operation at corners, and rounds.
    row = [a, b, c + (a + b - 1) / 2, d, e, f + (d + e - 1) / 2, 0.0, 0.0]
    moved = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=tf.stack(row)[None],
        output_shape=tf.shape(image)[:2],
        fill_value=float(GRAY),
        interpolation="NEAREST",
        fill_mode="CONSTANT",
    )
    return tf.ensure_shape(moved[0], image.shape)


def shear_x(image: tf.Tensor, value: float) -> tf.Tensor:
    """Shift each row in proportion to its place."""
    return affine(image, (1, value, 0, 0, 1, 0))


def shear_y(image: tf.Tensor, value: float) -> tf.Tensor:
    """Shift each column in proportion to its place."""
    return affine(image, (1, 0, 0, value, 1, 0))


def translate_x(image: tf.Tensor, value: float) -> tf.Tensor:
    """Shift by a share of the width."""
    return affine(image, (1, 0, value * tf.cast(tf.shape(image)[1], tf.float32), 0, 1, 0))


def translate_y(image: tf.Tensor, value: float) -> tf.Tensor:
    """Shift by a share of the height."""
    return affine(image, (1, 0, 0, 0, 1, value * tf.cast(tf.shape(image)[0], tf.float32)))


def rotate(image: tf.Tensor, value: float) -> tf.Tensor:
    """Rotate about the center, counterclockwise, by degrees."""
    angle = -value * math.pi / 180
    cosine, sine = tf.cos(angle), tf.sin(angle)
    half = tf.cast(tf.shape(image)[:2], tf.float32) / 2
    x = half[1] - cosine * half[1] - sine * half[0]
    y = half[0] + sine * half[1] - cosine * half[0]
    return affine(image, (cosine, sine, x, -sine, cosine, y))


def _enhancing(apply: Callable) -> Operation:
    return Operation(apply, lambda level: 0.9 * level, signed=True)


OPERATIONS = {
    "identity": Operation(identity),
    "autocontrast": Operation(autocontrast),
    "equalize": Operation(equalize),
    "invert": Operation(invert),
    "posterize": Operation(posterize, lambda level: 8 - round(4 * level)),
    "solarize": Operation(solarize, lambda level: 255 * (1 - level)),
    "color": _enhancing(color),
    "contrast": _enhancing(contrast),
    "brightness": _enhancing(brightness),
    "sharpness": _enhancing(sharpness),
    "shear_x": Operation(shear_x, lambda level: 0.3 * level, signed=True),
    "shear_y": Operation(shear_y, lambda level: 0.3 * level, signed=True),
    "translate_x": Operation(translate_x, lambda level: 150 / 331 * level, signed=True),
    "translate_y": Operation(translate_y, lambda level: 150 / 331 * level, signed=True),
    "rotate": Operation(rotate, lambda level: 30 * level, signed=True),
}
NAMES = tuple(OPERATIONS)
# Those of AugMix do not overlap with the corruptions that it is tested by.
AUGMIX = ("autocontrast", "equalize", "posterize", "rotate", "solarize")
AUGMIX += ("shear_x", "shear_y", "translate_x", "translate_y")
RANDAUGMENT = tuple(name for name in NAMES if name != "invert")

# A policy is sub-policies of (operation, probability, level from 0 to 9): tables 7, 9 and 10 of
# "AutoAugment: Learning Augmentation Policies from Data", as numbered in its appendix.
POLICIES = {
    "imagenet": """
        posterize .4 8, rotate .6 9; solarize .6 5, autocontrast .6 0; equalize .8 0, equalize .6 0;
        posterize .6 7, posterize .6 6; equalize .4 0, solarize .2 4; equalize .4 0, rotate .8 8;
        solarize .6 3, equalize .6 0; posterize .8 5, equalize 1 0; rotate .2 3, solarize .6 8;
        equalize .6 0, posterize .4 6; rotate .8 8, color .4 0; rotate .4 9, equalize .6 0;
        equalize 0 0, equalize .8 0; invert .6 0, equalize 1 0; color .6 4, contrast 1 8;
        rotate .8 8, color 1 2; color .8 8, solarize .8 7; sharpness .4 7, invert .6 0;
        shear_x .6 5, equalize 1 0; color .4 0, equalize .6 0; equalize .4 0, solarize .2 4;
        solarize .6 5, autocontrast .6 0; invert .6 0, equalize 1 0; color .6 4, contrast 1 8;
        equalize .8 0, equalize .6 0""",
    "cifar10": """
        invert .1 0, contrast .2 6; rotate .7 2, translate_x .3 9; sharpness .8 1, sharpness .9 3;
        shear_y .5 8, translate_y .7 9; autocontrast .5 0, equalize .9 0;
        shear_y .2 7, posterize .3 7;
        color .4 3, brightness .6 7; sharpness .3 9, brightness .7 9; equalize .6 0, equalize .5 0;
        contrast .6 7, sharpness .6 5; color .7 7, translate_x .5 8;
        equalize .3 0, autocontrast .4 0;
        translate_y .4 3, sharpness .2 6; brightness .9 6, color .2 8; solarize .5 2, invert 0 0;
        equalize .2 0, autocontrast .6 0; equalize .2 0, equalize .6 0; color .9 9, equalize .6 0;
        autocontrast .8 0, solarize .2 8; brightness .1 3, color .7 0;
        solarize .4 5, autocontrast .9 0;
        translate_y .9 9, translate_y .7 9; autocontrast .9 0, solarize .8 3;
        equalize .8 0, invert .1 0; translate_y .7 9, autocontrast .9 0""",
    "svhn": """
        shear_x .9 4, invert .2 0; shear_y .9 8, invert .7 0; equalize .6 0, solarize .6 6;
        invert .9 0, equalize .6 0; equalize .6 0, rotate .9 3; shear_x .9 4, autocontrast .8 0;
        shear_y .9 8, invert .4 0; shear_y .9 5, solarize .2 6; invert .9 0, autocontrast .8 0;
        equalize .6 0, rotate .9 3; shear_x .9 4, solarize .3 3; shear_y .8 8, invert .7 0;
        equalize .9 0, translate_y .6 6; invert .9 0, equalize .6 0; contrast .3 3, rotate .8 4;
        invert .8 0, translate_y 0 2; shear_y .7 6, solarize .4 8; invert .6 0, rotate .8 4;
        shear_y .3 7, translate_x .9 3; shear_x .1 6, invert .6 0; solarize .7 2, translate_y .6 7;
        shear_y .8 4, invert .8 0; shear_x .7 9, translate_y .8 3; shear_y .8 5, autocontrast .7 0;
        shear_x .7 2, invert .1 0""",
}

Policy = tuple[tuple[tuple[str, float, float], ...], ...]


def published_policy(name: str) -> Policy:
    """Return a policy of `POLICIES`, with levels from 0 to 1."""
    rows = [[step.split() for step in row.split(",")] for row in POLICIES[name].split(";")]
    return tuple(
        tuple((name, float(chance), float(level) / 9) for name, chance, level in row)
        for row in rows
    )


def read_policy(path: str | Path) -> Policy:
    """Read a JSON file, {"format": 1, "policy": [[["rotate", 0.6, 0.9], ...], ...]}."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["format"] != FORMAT:
            raise ValueError(f"format {data['format']}, expected {FORMAT}")
        policy = tuple(tuple((n, float(p), float(v)) for n, p, v in row) for row in data["policy"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no policy: {error}") from error
    for name, chance, level in (step for row in policy for step in row):
        if name not in OPERATIONS:
            raise ValueError(f"{path}: {unknown('operation', name, OPERATIONS)}")
        if not (0 <= chance <= 1 and 0 <= level <= 1):
            raise ValueError(f"{path}: {name} has {chance} and {level}, expected 0 to 1.")
    if not policy or len({len(row) for row in policy}) != 1:
        raise ValueError(f"{path}: expected sub-policies of the same number of steps.")
    return policy


def apply_policy(image: tf.Tensor, seed: tf.Tensor, policy: Policy) -> tf.Tensor:
    """Draw one sub-policy and apply its steps in turn, each with its probability."""
    row = tf.random.stateless_uniform([], fold(seed, 0), 0, len(policy), tf.int32)
    return apply_sub_policy(image, seed, *(column[row] for column in as_tensors(policy)))


def as_tensors(policy: Policy) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return operation numbers, probabilities and values, each of shape (sub-policies, steps)."""
    numbers = tf.constant([[NAMES.index(name) for name, *_ in row] for row in policy])
    chances = tf.constant([[chance for _, chance, _ in row] for row in policy], tf.float32)
    values = [[OPERATIONS[name].value(level) for name, _, level in row] for row in policy]
    return numbers, chances, tf.constant(values, tf.float32)


def apply_sub_policy(
    image: tf.Tensor, seed: tf.Tensor, numbers: tf.Tensor, chances: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
    """Apply the steps of a sub-policy, a row of `as_tensors`, in turn."""
    draws = tf.random.stateless_uniform([numbers.shape[0], 2], fold(seed, 1))
    for step in range(numbers.shape[0]):
        number = tf.where(draws[step, 0] < chances[step], numbers[step], 0)
        image = apply_operation(image, number, values[step], draws[step, 1])
    return image


def apply_operation(
    image: tf.Tensor,
    number: tf.Tensor,
    value: tf.Tensor,
    draw: tf.Tensor,
    names: Sequence[str] = NAMES,
) -> tf.Tensor:
    """Apply an operation by its number; a draw below 1/2 negates a signed value."""

    def case(name: str) -> Callable:
        row = OPERATIONS[name]
        signed = tf.where(draw < 0.5, -value, value) if row.signed else value
        return lambda: tf.ensure_shape(row.apply(image, signed), image.shape)

    return tf.switch_case(number, [case(name) for name in names])


def rand_augment(
    image: tf.Tensor, seed: tf.Tensor, level: float | None = None, steps: int = 2
) -> tf.Tensor:
    """Apply operations drawn at random, all of the same level (arXiv 1909.13719).

    With a level from 0 to 10, each is applied with probability 1/2, as in timm; None applies all of
    them, at level 9 of 30.
    """
    strength, probability = (9 / 30, 1.0) if level is None else (level / 10, 0.5)
    values = tf.constant([OPERATIONS[name].value(strength) for name in RANDAUGMENT], tf.float32)
    count = len(RANDAUGMENT)
    numbers = tf.random.stateless_uniform([steps], fold(seed, 0), 0, count, tf.int32)
    draws = tf.random.stateless_uniform([steps], fold(seed, 1))
    applied = tf.random.stateless_uniform([steps], fold(seed, 2)) < probability

    def changed(image: tf.Tensor, step: int) -> tf.Tensor:
        value = values[numbers[step]]
        return apply_operation(image, numbers[step], value, draws[step], RANDAUGMENT)

    for step in range(steps):
        before = image
        image = tf.cond(applied[step], lambda i=image, s=step: changed(i, s), lambda i=before: i)
    return image


def aug_mix(
    image: tf.Tensor,
    seed: tf.Tensor,
    width: int = 3,
    depth: int = 3,
    levels: int = 10,
    most: float = 0.3,
) -> tf.Tensor:
    """Blend an image with a mixture of `width` chains of 1 to `depth` operations.

    arXiv 1912.02781, algorithm 1, without its consistency loss; alpha is 1. Levels are drawn from
    `levels` of them, up to `most`.
    """
    strengths = [most * (k + 1) / levels for k in range(levels)]
    values = [[OPERATIONS[name].value(level) for level in strengths] for name in AUGMIX]
    values = tf.constant(values, tf.float32)
    draw = tf.random.stateless_uniform([width, depth, 3], fold(seed, 0))
    lengths = tf.random.stateless_uniform([width], fold(seed, 1), 1, depth + 1, tf.int32)
    weights = -tf.math.log(tf.random.stateless_uniform([width], fold(seed, 2), 1e-7, 1))
    weights /= tf.reduce_sum(weights)  # Dirichlet of ones
    share = tf.random.stateless_uniform([], fold(seed, 3))  # beta(1, 1)
    original = tf.cast(image, tf.float32)
    mixture = tf.zeros_like(original)
    for chain in range(width):
        result = image
        for step in range(depth):
            number = tf.cast(draw[chain, step, 0] * len(AUGMIX), tf.int32)
            value = values[number, tf.cast(draw[chain, step, 1] * levels, tf.int32)]
            changed = apply_operation(result, number, value, draw[chain, step, 2], AUGMIX)
            result = tf.where(step < lengths[chain], changed, result)
        mixture += weights[chain] * tf.cast(result, tf.float32)
    mixed = (1 - share) * original + share * mixture
    return tf.cast(tf.clip_by_value(tf.round(mixed), 0, 255), tf.uint8)
