"""Mixing images and labels of a batch: pure, seeded functions, and the table of them by name.

Each takes images (batch, height, width, channels) and labels (batch, classes), of any floating
type, and a seed of two integers; it computes in float32, and gives images and labels of the types
it was given. Labels may be soft already: what each image gives is weighted, nothing is rounded.
"""

import itertools
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import tensorflow as tf

from keras_resnext.errors import unknown


@dataclass(frozen=True)
class Mix:
    """A row of the table.

    Args:
        function: Takes images, labels and a seed (SnapMix: and maps before it).
        loads: Batches that make one: 2 for MixUp of the first type.
        needs_maps: Whether it wants class activation maps of the model in training.
    """

    function: Callable
    loads: int = 1
    needs_maps: bool = False


@dataclass(frozen=True)
class Stage:
    """What is mixed from some epoch on.

    Args:
        first: Epoch, from 0.
        choices: Rows, and the probability of each for a batch; else it is left as it is.
    """

    first: int
    choices: tuple[tuple[Mix, float], ...]

    @property
    def loads(self) -> int:
        """Batches that have to be loaded for one."""
        return max((mix.loads for mix, _ in self.choices), default=1)


def beta(shape, seed, alpha: float):
    """Draw from the symmetric beta distribution.

    Args:
        shape: Of the result.
        seed: Two integers.
        alpha: Both its parameters.

    Returns:
        float32 in [0, 1].
    """
    first = tf.random.stateless_gamma(shape, _fold(seed, 0), alpha)
    second = tf.random.stateless_gamma(shape, _fold(seed, 1), alpha)
    # Both may underflow to 0 where alpha is small.
    least = 1e-30
    return (first + least) / (first + second + 2 * least)


def mixup(images, labels, seed, alpha=0.2):
    """Blend each image with another of the batch: MixUp, as type 2 of Assemble-ResNet.

    "mixup: Beyond Empirical Risk Minimization", section 2; the weights are beta(alpha, alpha), one
    an image. Of "Compounding the Performance Improvements of Assembled Techniques", section 3.2.2:
    a batch of B gives B images.

    Args:
        images: Floating, of shape (batch, height, width, channels).
        labels: Floating, of shape (batch, classes).
        seed: Two integers.
        alpha: Of the beta distribution.

    Returns:
        Images and labels of the same shapes and types.

    Example:

    >>> images, labels = mixup(tf.random.uniform([4, 8, 8, 3]), tf.eye(4), (1, 2))
    >>> bool(tf.reduce_all(tf.abs(tf.reduce_sum(labels, 1) - 1) < 1e-6))
    True
    """
    partner = partners(tf.shape(images)[0], _fold(seed, 2))
    others = tf.gather(images, partner), tf.gather(labels, partner)
    return _blend((images, labels), others, seed, alpha)


def mixup_halves(images, labels, seed, alpha=0.2):
    """Blend the first half of a batch with the second: MixUp, type 1 of Assemble-ResNet.

    A batch of 2 B gives B images: twice as many are loaded, and none is seen twice.

    Args:
        images: Floating, of shape (2 * batch, height, width, channels).
        labels: Floating, of shape (2 * batch, classes).
        seed: Two integers.
        alpha: Of the beta distribution.

    Returns:
        Images and labels of half as many.
    """
    half = tf.shape(images)[0] // 2
    first, second = ((images[part], labels[part]) for part in (slice(half), slice(half, 2 * half)))
    return _blend(first, second, seed, alpha)


def _blend(first, second, seed, alpha):
    weight = beta([tf.shape(first[0])[0]], seed, alpha)

    def blended(ours, theirs):
        rank = len(ours.shape)
        share = tf.reshape(weight, [-1] + [1] * (rank - 1))
        mixed = share * tf.cast(ours, tf.float32) + (1 - share) * tf.cast(theirs, tf.float32)
        return tf.cast(mixed, ours.dtype)

    return blended(first[0], second[0]), blended(first[1], second[1])


def cutmix(images, labels, seed, alpha=1.0):
    """Paste a box of another image of the batch into each.

    "CutMix: Regularization Strategy to Train Strong Classifiers", section 3.1: the box has the
    share 1 - beta(alpha, alpha) of the area, its middle is anywhere; labels are weighted by what is
    left of it within the image.

    Args:
        images: Floating, of shape (batch, height, width, channels).
        labels: Floating, of shape (batch, classes).
        seed: Two integers.
        alpha: Of the beta distribution.

    Returns:
        Images and labels of the same shapes and types.
    """
    shape = tf.shape(images)
    partner = partners(shape[0], _fold(seed, 2))
    box = boxes(shape, beta([shape[0]], seed, alpha), _fold(seed, 3))
    inside = inside_boxes(shape, box)
    mixed = tf.where(inside[..., None], tf.gather(images, partner), images)
    share = tf.reduce_mean(tf.cast(inside, tf.float32), [1, 2])[:, None]
    return mixed, _weighted(labels, 1 - share, tf.gather(labels, partner), share)


def ricap(images, labels, seed, alpha=0.3):
    """Put parts of four images of the batch together, in the four corners.

    "Data Augmentation using Random Image Cropping and Patching for Deep CNNs", section 3: the
    corners meet at a point whose coordinates are beta(alpha, alpha), here one an image; each part
    is cropped anywhere, and labels are weighted by area.

    Args:
        images: Floating, of shape (batch, height, width, channels).
        labels: Floating, of shape (batch, classes).
        seed: Two integers.
        alpha: Of the beta distribution.

    Returns:
        Images and labels of the same shapes and types.
    """
    shape = tf.shape(images)
    batch, size = shape[0], shape[1:3]
    meet = beta([batch, 2], seed, alpha) * tf.cast(size, tf.float32)
    meet = tf.cast(tf.round(meet), tf.int32)
    at_end = [tf.range(size[axis])[None] >= meet[:, axis, None] for axis in (0, 1)]
    mixed, mixed_labels = tf.zeros_like(images), tf.zeros_like(labels, tf.float32)
    for corner in range(4):
        partner = partners(batch, _fold(seed, 4 + corner)) if corner else tf.range(batch)
        ends = corner // 2, corner % 2
        draw = tf.random.stateless_uniform([2, batch], _fold(seed, 8 + corner))
        places = [
            _part_places(size[axis], meet[:, axis], ends[axis], draw[axis]) for axis in (0, 1)
        ]
        image = tf.gather(tf.gather(images, partner), places[0], batch_dims=1)
        image = tf.gather(image, places[1], axis=2, batch_dims=1)
        rows, columns = (at_end[axis] == bool(ends[axis]) for axis in (0, 1))
        inside = rows[:, :, None] & columns[:, None, :]
        mixed = tf.where(inside[..., None], image, mixed)
        share = tf.reduce_mean(tf.cast(inside, tf.float32), [1, 2])[:, None]
        mixed_labels += share * tf.cast(tf.gather(labels, partner), tf.float32)
    return mixed, tf.cast(mixed_labels, labels.dtype)


def _part_places(size, meet, at_end: int, draw):
    """Of which row (or column) of its image each one of the result is, were it in this part."""
    begin = meet if at_end else tf.zeros_like(meet)
    length = size - meet if at_end else meet
    offset = tf.cast(tf.floor(draw * tf.cast(size - length + 1, tf.float32)), tf.int32)
    places = tf.range(size)[None] + (tf.minimum(offset, size - length) - begin)[:, None]
    return tf.clip_by_value(places, 0, size - 1)


def snapmix(images, labels, maps, seed, alpha=5.0):
    """Paste a resized box of another image, and weight labels by what the model looks at.

    "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained Data", section 3: the
    boxes differ in the two images; a label's weight is the share of its image's class activation
    map that is left, or that was pasted. The two do not add up to one: a background pasted over a
    bird leaves less than one label.

    Args:
        images: Floating, of shape (batch, height, width, channels).
        labels: Floating, of shape (batch, classes).
        maps: Floating, of shape (batch, rows, columns): class activation maps of the images'
            labels, not negative.
        seed: Two integers.
        alpha: Of the beta distribution.

    Returns:
        Images and labels of the same shapes and types.
    """
    shape = tf.shape(images)
    partner = partners(shape[0], _fold(seed, 2))
    weight = beta([shape[0]], seed, alpha)
    target, source = (boxes(shape, weight, _fold(seed, number)) for number in (3, 4))
    maps = tf.image.resize(tf.cast(maps, tf.float32)[..., None], shape[1:3])[..., 0]
    maps /= tf.reduce_sum(maps, [1, 2], keepdims=True) + 1e-8

    def share(of, box):
        return tf.reduce_sum(tf.where(inside_boxes(shape, box), of, 0.0), [1, 2])[:, None]

    mixed = _paste(images, tf.gather(images, partner), target, source)
    ours, theirs = 1 - share(maps, target), share(tf.gather(maps, partner), source)
    return mixed, _weighted(labels, ours, tf.gather(labels, partner), theirs)


def _paste(images, others, target, source):
    """Resize a box of each of the others into a box of each image, by the nearest pixel."""
    shape = tf.shape(images)
    places = []
    for axis in (0, 1):
        (t0, t1), (s0, s1) = ((box[:, axis], box[:, 2 + axis]) for box in (target, source))
        scale = tf.cast(s1 - s0, tf.float32) / tf.cast(tf.maximum(t1 - t0, 1), tf.float32)
        steps = tf.cast(tf.range(shape[1 + axis])[None] - t0[:, None], tf.float32) + 0.5
        place = s0[:, None] + tf.cast(tf.floor(steps * scale[:, None]), tf.int32)
        places.append(tf.clip_by_value(place, 0, shape[1 + axis] - 1))
    pasted = tf.gather(others, places[0], batch_dims=1)
    pasted = tf.gather(pasted, places[1], axis=2, batch_dims=1)
    # A box of no pixels can be neither copied nor filled.
    fine = tf.reduce_all((source[:, 2:] > source[:, :2]), 1)[:, None, None]
    return tf.where((inside_boxes(shape, target) & fine)[..., None], pasted, images)


def partners(count, seed):
    """Give each of a batch another at random; one may meet itself.

    Args:
        count: Of images.
        seed: Two integers.

    Returns:
        int32, a permutation.
    """
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


def boxes(shape, kept, seed):
    """Draw boxes of a share of the area, with their middles anywhere, cut to the image.

    Args:
        shape: Of the images: (batch, height, width, channels).
        kept: float32 (batch,): the share that is left outside, if none is cut.
        seed: Two integers.

    Returns:
        int32 (batch, 4): top, left, bottom, right; the last two exclusive.
    """
    size = tf.cast(shape[1:3], tf.float32)
    extent = tf.cast(size[None] * tf.sqrt(1 - kept)[:, None], tf.int32)
    draw = tf.random.stateless_uniform([shape[0], 2], seed)
    middle = tf.cast(tf.floor(draw * size), tf.int32)
    begin = tf.maximum(middle - extent // 2, 0)
    end = tf.minimum(middle - extent // 2 + extent, shape[1:3])
    return tf.concat([begin, end], 1)


def inside_boxes(shape, box):
    """Say which pixels lie in boxes.

    Args:
        shape: Of the images: (batch, height, width, channels).
        box: int32 (batch, 4).

    Returns:
        bool (batch, height, width).
    """

    def within(axis):
        places = tf.range(shape[1 + axis])[None]
        return (places >= box[:, axis, None]) & (places < box[:, 2 + axis, None])

    return within(0)[:, :, None] & within(1)[:, None, :]


def _weighted(ours, our_share, theirs, their_share):
    mixed = our_share * tf.cast(ours, tf.float32) + their_share * tf.cast(theirs, tf.float32)
    return tf.cast(mixed, ours.dtype)


def _fold(seed, number: int):
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, tf.int64), number)


MIXINGS = {
    "mixup": Mix(mixup),
    "mixup1": Mix(mixup_halves, loads=2),
    "cutmix": Mix(cutmix),
    "ricap": Mix(ricap),
    "snapmix": Mix(snapmix, needs_maps=True),
}
CHOICE = re.compile(
    r"(?P<name>\w+)(\((?P<alpha>[0-9]*\.?[0-9]+)\))?(\*(?P<probability>[0-9]*\.?[0-9]+))?$"
)


def find_mixing(text: str) -> tuple[Stage, ...]:
    """Read what batches are mixed by.

    Args:
        text: "none"; a row of ``MIXINGS``, with the alpha of its beta distribution if that is
            another ("mixup(0.1)"); several, of which each batch gets one ("mixup+cutmix": each
            with the same probability; "mixup*0.3+cutmix*0.2": half of the batches are left as they
            are); and, from an epoch on, something else ("mixup,cutmix@100,none@150").

    Returns:
        The stages, by their first epoch.

    Raises:
        ValueError: For anything else.

    Example:

    >>> [(stage.first, len(stage.choices)) for stage in find_mixing("mixup+cutmix,none@150")]
    [(0, 2), (150, 0)]
    """
    stages = []
    for part in text.split(","):
        names, _, first = part.strip().partition("@")
        if first and not first.isdecimal():
            raise ValueError(f'Mixing "{text}": expected an epoch after the @. Received: "{first}"')
        stages.append(Stage(int(first or 0), _choices(names.strip())))
    firsts = [stage.first for stage in stages]
    if firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise ValueError(
            f'Mixing "{text}": expected stages from epoch 0 on, each later than the one before, as '
            'in "mixup,cutmix@100,none@150".'
        )
    return tuple(stages)


def _choices(text: str) -> tuple[tuple[Mix, float], ...]:
    if text == "none":
        return ()
    found = [CHOICE.match(part.strip()) for part in text.split("+")]
    for part, match in zip(text.split("+"), found, strict=True):
        name = match["name"] if match else part
        if name not in MIXINGS:
            raise ValueError(unknown("mixing", name, ["none", *MIXINGS]))
    chances = [float(match["probability"] or 1 / len(found)) for match in found]
    if min(chances) < 0 or sum(chances) > 1 + 1e-6:
        raise ValueError(f'Mixing "{text}": expected probabilities that are 1 together, or less.')
    return tuple((_row(m), chance) for m, chance in zip(found, chances, strict=True))


def _row(match) -> Mix:
    row = MIXINGS[match["name"]]
    if match["alpha"] is None:
        return row
    alpha = float(match["alpha"])
    if not alpha > 0:
        raise ValueError(f'Mixing "{match[0]}": expected an alpha above 0. Received: {alpha}')
    return replace(row, function=partial(row.function, alpha=alpha))


def mix_batch(images, labels, seed, stages: Sequence[Stage], epoch=0, maps=None):
    """Mix a batch by what the epoch and a draw choose.

    Args:
        images: Floating; two batches in one, if any row loads two.
        labels: Floating, as many.
        seed: Two integers.
        stages: From ``find_mixing``.
        epoch: Scalar, from 0.
        maps: Takes images and labels, gives class activation maps: for SnapMix.

    Returns:
        Images and labels of one batch.
    """
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    loads = max(stage.loads for stage in stages)
    count = tf.shape(images)[0] // loads

    def one(mix: Mix | None):
        def mixed():
            some = count * (mix.loads if mix else 1)
            x, y = images[:some], labels[:some]
            if mix is None:
                return x, y
            inputs = (x, y, maps(x, y)) if mix.needs_maps else (x, y)
            x, y = mix.function(*inputs, _fold(seed, 0))
            return tf.ensure_shape(x, [None, *images.shape[1:]]), y

        return mixed

    draw = tf.random.stateless_uniform([], _fold(seed, 1))

    def of_stage(stage: Stage):
        cases = [one(mix) for mix, _ in stage.choices] + [one(None)]
        limits = list(itertools.accumulate(chance for _, chance in stage.choices))
        # Chances that are 1 together leave nothing to the last case, rounded as they may be.
        limits = [limit if limit < 1 - 1e-6 else 2.0 for limit in limits]
        above = tf.reduce_sum(tf.cast(draw >= tf.constant(limits, tf.float32), tf.int32))
        return lambda: tf.switch_case(above, cases) if limits else cases[0]()

    firsts = tf.constant([stage.first for stage in stages], tf.int64)
    number = tf.reduce_sum(tf.cast(tf.cast(epoch, tf.int64) >= firsts, tf.int32)) - 1
    branches = [of_stage(stage) for stage in stages]
    return branches[0]() if len(branches) == 1 else tf.switch_case(number, branches)
