"""Mixing images and labels of a batch: pure, seeded functions, and the table of them by name.

Each takes images (batch, height, width, channels) and labels (batch, classes), of any floating
type, a seed of two integers and its row's arguments; it computes in float32 and returns images and
labels of the types it was given. Labels may be soft already: what each image contributes is
weighted, nothing is rounded.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from keras_resnext.checks import number
from keras_resnext.data.grammar import NONE, Argument, Call, Row, parse_call, split_text
from keras_resnext.data.lazy import tf
from keras_resnext.data.ops import fold, gather_pixels, inside_boxes


@dataclass(frozen=True)
class MixingRow(Row):
    """A row of `MIXINGS`.

    Args:
        loads: int, batches that make one: 2 for MixUp of the first type.
        needs_maps: bool, whether the function also takes class activation maps, of the model in
            training, before the seed.
    """

    loads: int = 1
    needs_maps: bool = False


@dataclass(frozen=True)
class Stage:
    """What is mixed from some epoch on.

    Args:
        first: int, the epoch, from 0.
        choices: tuple of (`Call`, probability) of which each batch gets one; if the probabilities
            are less than 1 together, the other batches are left as they are.
    """

    first: int
    choices: tuple[tuple[Call, float], ...]


@dataclass(frozen=True)
class Mixing:
    """What batches are mixed by, read by `parse_mixing`.

    Args:
        text: str, what was given.
        stages: tuple of `Stage`, by their first epoch.
    """

    text: str = field(compare=False)
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    @property
    def loads(self) -> int:
        """Number of batches that have to be loaded for one."""
        return max((row.loads for row in self._rows()), default=1)

    @property
    def needs_maps(self) -> bool:
        """Whether class activation maps are needed."""
        return any(row.needs_maps for row in self._rows())

    def _rows(self) -> list[MixingRow]:
        return [call.row for stage in self.stages for call, _ in stage.choices]


def beta(shape: list, seed: tf.Tensor, alpha: float) -> tf.Tensor:
    """Draw float32 numbers in [0, 1] from the symmetric beta distribution."""
    first = tf.random.stateless_gamma(shape, fold(seed, 0), alpha)
    second = tf.random.stateless_gamma(shape, fold(seed, 1), alpha)
    # Both may underflow to 0 where alpha is small.
    least = 1e-30
    return (first + least) / (first + second + 2 * least)


def mixup(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 0.2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend each image with another of the batch: MixUp, as type 2 of Assemble-ResNet.

    "mixup: Beyond Empirical Risk Minimization", section 2; the weights are beta(alpha, alpha), one
    per image. In "Compounding the Performance Improvements of Assembled Techniques", section 3.2.2,
    a batch of B makes B images.

    Example:
    >>> images, labels = mixup(tf.random.uniform([4, 8, 8, 3]), tf.eye(4), (1, 2))
    >>> bool(tf.reduce_all(tf.abs(tf.reduce_sum(labels, 1) - 1) < 1e-6))
    True
    """
    partner = partners(tf.shape(images)[0], fold(seed, 2))
    others = tf.gather(images, partner), tf.gather(labels, partner)
    return _blend((images, labels), others, seed, alpha)


def mixup_halves(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 0.2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend the first half of a batch with the second: MixUp, type 1 of Assemble-ResNet.

    A batch of 2 B makes B images: twice as many are loaded, and none is seen twice.
    """
    half = tf.shape(images)[0] // 2
    first, second = ((images[part], labels[part]) for part in (slice(half), slice(half, 2 * half)))
    return _blend(first, second, seed, alpha)


def _blend(first: tuple, second: tuple, seed: tf.Tensor, alpha: float) -> tuple:
    weight = beta([tf.shape(first[0])[0]], seed, alpha)

    def blended(ours: tf.Tensor, theirs: tf.Tensor) -> tf.Tensor:
        rank = len(ours.shape)
        share = tf.reshape(weight, [-1] + [1] * (rank - 1))
        mixed = share * tf.cast(ours, tf.float32) + (1 - share) * tf.cast(theirs, tf.float32)
        return tf.cast(mixed, ours.dtype)

    return blended(first[0], second[0]), blended(first[1], second[1])


def cutmix(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 1.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a box of another image of the batch into each.

    "CutMix: Regularization Strategy to Train Strong Classifiers", section 3.1: the box has the
    share 1 - beta(alpha, alpha) of the area, its middle is anywhere; labels are weighted by what is
    left of it within the image.
    """
    shape = tf.shape(images)
    partner = partners(shape[0], fold(seed, 2))
    inside = inside_boxes(shape, _boxes(shape, beta([shape[0]], seed, alpha), fold(seed, 3)))
    mixed = tf.where(inside[..., None], tf.gather(images, partner), images)
    share = _share(inside)
    return mixed, _weighted(labels, 1 - share, tf.gather(labels, partner), share)


def ricap(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 0.3
) -> tuple[tf.Tensor, tf.Tensor]:
    """Put parts of four images of the batch together, in the four corners.

    "Data Augmentation using Random Image Cropping and Patching for Deep CNNs", section 3: the
    corners meet at a point whose coordinates are beta(alpha, alpha), here one point per image; each
    part is cropped anywhere, and labels are weighted by area.
    """
    shape = tf.shape(images)
    batch, size = shape[0], shape[1:3]
    meet = beta([batch, 2], seed, alpha) * tf.cast(size, tf.float32)
    meet = tf.cast(tf.round(meet), tf.int32)
    mixed, mixed_labels = tf.zeros_like(images), tf.zeros_like(labels, tf.float32)
    for corner in range(4):
        partner = partners(batch, fold(seed, 4 + corner)) if corner else tf.range(batch)
        draw = tf.random.stateless_uniform([2, batch], fold(seed, 8 + corner))
        at_end = tf.constant([corner >= 2, corner % 2 == 1])
        begin, end = tf.where(at_end, meet, 0), tf.where(at_end, size, meet)
        places = [
            _part_places(size[axis], begin[:, axis], end[:, axis], draw[axis]) for axis in (0, 1)
        ]
        inside = inside_boxes(shape, tf.concat([begin, end], 1))
        part = gather_pixels(tf.gather(images, partner), *places)
        mixed = tf.where(inside[..., None], part, mixed)
        mixed_labels += _share(inside) * tf.cast(tf.gather(labels, partner), tf.float32)
    return mixed, tf.cast(mixed_labels, labels.dtype)


def _part_places(size: tf.Tensor, begin: tf.Tensor, end: tf.Tensor, draw: tf.Tensor) -> tf.Tensor:
    """Return the row (or column) of a part's image that each one of the result would show."""
    length = end - begin
    offset = tf.cast(tf.floor(draw * tf.cast(size - length + 1, tf.float32)), tf.int32)
    places = tf.range(size)[None] + (tf.minimum(offset, size - length) - begin)[:, None]
    return tf.clip_by_value(places, 0, size - 1)


def snapmix(
    images: tf.Tensor, labels: tf.Tensor, maps: tf.Tensor, seed: tf.Tensor, alpha: float = 5.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a resized box of another image, and weight labels by what the model looks at.

    "SnapMix: Semantically Proportional Mixing for Augmenting Fine-grained Data", section 3: the
    boxes differ in the two images; a label's weight is the share of its image's class activation
    map (batch, rows, columns) that is left, or that was pasted. The two do not add up to one: a
    background pasted over a bird leaves less than one label.
    """
    shape = tf.shape(images)
    partner = partners(shape[0], fold(seed, 2))
    weight = beta([shape[0]], seed, alpha)
    target, source = (_boxes(shape, weight, fold(seed, number)) for number in (3, 4))
    maps = tf.image.resize(tf.cast(maps, tf.float32)[..., None], shape[1:3])[..., 0]
    maps /= tf.reduce_sum(maps, [1, 2], keepdims=True) + 1e-8

    def share(of: tf.Tensor, box: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.where(inside_boxes(shape, box), of, 0.0), [1, 2])[:, None]

    mixed = _paste(images, tf.gather(images, partner), target, source)
    ours, theirs = 1 - share(maps, target), share(tf.gather(maps, partner), source)
    return mixed, _weighted(labels, ours, tf.gather(labels, partner), theirs)


def _paste(images: tf.Tensor, others: tf.Tensor, target: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """Resize a box of each of the others into a box of each image, by the nearest pixel."""
    shape = tf.shape(images)
    places = []
    for axis in (0, 1):
        (t0, t1), (s0, s1) = ((box[:, axis], box[:, 2 + axis]) for box in (target, source))
        scale = tf.cast(s1 - s0, tf.float32) / tf.cast(tf.maximum(t1 - t0, 1), tf.float32)
        steps = tf.cast(tf.range(shape[1 + axis])[None] - t0[:, None], tf.float32) + 0.5
        place = s0[:, None] + tf.cast(tf.floor(steps * scale[:, None]), tf.int32)
        places.append(tf.clip_by_value(place, 0, shape[1 + axis] - 1))
    # A box of no pixels can be neither copied nor filled.
    fine = tf.reduce_all((source[:, 2:] > source[:, :2]), 1)[:, None, None]
    inside = inside_boxes(shape, target) & fine
    return tf.where(inside[..., None], gather_pixels(others, *places), images)


def partners(count: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Return a random permutation: for each of a batch another, or itself."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


def _boxes(shape: tf.Tensor, outside: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw boxes with their middles anywhere, cut to the image, of a share of the area or less."""
    size = tf.cast(shape[1:3], tf.float32)
    extent = tf.cast(size[None] * tf.sqrt(1 - outside)[:, None], tf.int32)
    draw = tf.random.stateless_uniform([shape[0], 2], seed)
    middle = tf.cast(tf.floor(draw * size), tf.int32)
    begin = tf.maximum(middle - extent // 2, 0)
    end = tf.minimum(middle - extent // 2 + extent, shape[1:3])
    return tf.concat([begin, end], 1)


def _share(inside: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.cast(inside, tf.float32), [1, 2])[:, None]


def _weighted(
    ours: tf.Tensor, our_share: tf.Tensor, theirs: tf.Tensor, their_share: tf.Tensor
) -> tf.Tensor:
    mixed = our_share * tf.cast(ours, tf.float32) + their_share * tf.cast(theirs, tf.float32)
    return tf.cast(mixed, ours.dtype)


def _alpha(default: float) -> tuple[Argument]:
    return (Argument("alpha", default, "of the beta distribution", number(above=0)),)


MIXINGS = {
    "mixup": MixingRow("Blend each image with another.", mixup, _alpha(0.2)),
    "mixup1": MixingRow("Blend two batches into one.", mixup_halves, _alpha(0.2), loads=2),
    "cutmix": MixingRow("Paste a box of another image.", cutmix, _alpha(1.0)),
    "ricap": MixingRow("Put parts of four images together.", ricap, _alpha(0.3)),
    "snapmix": MixingRow(
        "Paste a box, and weight labels by class activation maps (`train` on TensorFlow only).",
        snapmix,
        _alpha(5.0),
        needs_maps=True,
    ),
}
CHOICE = re.compile(r"(?P<call>[^*]+?)\s*(\*\s*(?P<probability>[0-9]*\.?[0-9]+))?")


def parse_mixing(text: str | Mixing) -> Mixing:
    """Read what batches are mixed by.

    Args:
        text: str, `"none"`; the name of a row of `MIXINGS`, with arguments in parentheses; several,
            of which each batch gets one (`"mixup+cutmix"`: each with the same probability;
            `"mixup*0.3+cutmix*0.2"`: half of the batches are left as they are); and, from an epoch
            on, something else (`"mixup,cutmix@100,none@150"`). Or a `Mixing`.

    Returns:
        `Mixing`.

    Raises:
        ValueError: For anything else, with the nearest name.

    Example:
    >>> [(stage.first, len(stage.choices)) for stage in parse_mixing("mixup+cutmix,none@9").stages]
    [(0, 2), (9, 0)]
    """
    if isinstance(text, Mixing):
        return text
    stages = []
    for part in split_text(text, ","):
        names, _, first = part.partition("@")
        if first and not first.isdecimal():
            raise ValueError(f'Mixing "{text}": expected an epoch after the @. Received: "{first}"')
        stages.append(Stage(int(first or 0), _choices(names.strip())))
    firsts = [stage.first for stage in stages]
    if firsts[0] != 0 or firsts != sorted(set(firsts)):
        raise ValueError(
            f'Mixing "{text}": expected stages from epoch 0 on, each later than the one before, as '
            'in "mixup,cutmix@100,none@150".'
        )
    return Mixing(text, tuple(stages))


def _choices(text: str) -> tuple[tuple[Call, float], ...]:
    if text == NONE:
        return ()
    parts = split_text(text, "+")
    matches = [CHOICE.fullmatch(part) for part in parts]
    calls = [
        parse_call("mixing", match["call"] if match else part, MIXINGS)
        for match, part in zip(matches, parts, strict=True)
    ]
    chances = [float(match["probability"] or 1 / len(parts)) for match in matches]
    if sum(chances) > 1 + 1e-6:
        raise ValueError(f'Mixing "{text}": expected probabilities that are 1 together, or less.')
    return tuple(zip(calls, chances, strict=True))


def mix_batch(
    images: tf.Tensor,
    labels: tf.Tensor,
    seed: tf.Tensor,
    mixing: Mixing,
    epoch: tf.Tensor | int = 0,
    maps: Callable | None = None,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Mix a batch by what the epoch, from 0, and a draw choose.

    Images and labels are those of `mixing.loads` batches, the result is one; `maps` is a function
    from images and labels to class activation maps, for SnapMix.
    """
    images, labels = tf.convert_to_tensor(images), tf.convert_to_tensor(labels)
    count = tf.shape(images)[0] // mixing.loads
    draw = tf.random.stateless_uniform([], fold(seed, 1))

    def unmixed() -> tuple:
        return images[:count], labels[:count]

    def mixed(call: Call) -> tuple:
        x, y = images[: count * call.row.loads], labels[: count * call.row.loads]
        inputs = (x, y, maps(x, y)) if call.row.needs_maps else (x, y)
        x, y = call(*inputs, fold(seed, 0))
        return tf.ensure_shape(x, [None, *images.shape[1:]]), y

    def stage_branch(stage: Stage) -> Callable:
        if not stage.choices:
            return unmixed
        limits = itertools.accumulate(chance for _, chance in stage.choices)
        # Chances that are 1 together leave nothing to the last case, rounded as they may be.
        limits = [limit if limit < 1 - 1e-6 else 2.0 for limit in limits]
        above = tf.reduce_sum(tf.cast(draw >= tf.constant(limits, tf.float32), tf.int32))
        cases = [lambda call=call: mixed(call) for call, _ in stage.choices]
        return lambda: tf.switch_case(above, [*cases, unmixed])

    branches = [stage_branch(stage) for stage in mixing.stages]
    if len(branches) == 1:
        return branches[0]()
    firsts = tf.constant([stage.first for stage in mixing.stages], tf.int64)
    place = tf.reduce_sum(tf.cast(tf.cast(epoch, tf.int64) >= firsts, tf.int32)) - 1
    return tf.switch_case(place, branches)
