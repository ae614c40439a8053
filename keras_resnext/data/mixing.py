"""Mixing of images and labels within a batch: pure, seeded functions, and a table of them by name.

Each takes images (batch, height, width, channels), labels (batch, classes), a seed of two integers
and its row's arguments. It computes in float32; labels may already be soft.
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
        needs_maps: bool, whether the function also takes class activation maps, before the seed.
    """

    loads: int = 1
    needs_maps: bool = False


@dataclass(frozen=True)
class Stage:
    """Mixing from epoch `first` on: each batch gets at most one of the (`Call`, probability)."""

    first: int
    choices: tuple[tuple[Call, float], ...]


@dataclass(frozen=True)
class Mixing:
    """A parsed mixing: its stages, sorted by their first epoch."""

    text: str = field(compare=False)
    stages: tuple[Stage, ...]

    def __str__(self) -> str:
        return self.text

    @property
    def loads(self) -> int:
        """Number of batches to load for one."""
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
    """Blend each image with another of the batch (arXiv 1710.09412), type 2 of Assemble-ResNet."""
    partner = partners(tf.shape(images)[0], fold(seed, 2))
    others = tf.gather(images, partner), tf.gather(labels, partner)
    return _blend((images, labels), others, seed, alpha)


def mixup_halves(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 0.2
) -> tuple[tf.Tensor, tf.Tensor]:
    """Blend the first half of a batch with the second: MixUp, type 1 of Assemble-ResNet."""
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
    """Paste a box of another image of the batch into each (arXiv 1905.04899, section 3.1)."""
    shape = tf.shape(images)
    partner = partners(shape[0], fold(seed, 2))
    inside = inside_boxes(shape, _boxes(shape, beta([shape[0]], seed, alpha), fold(seed, 3)))
    mixed = tf.where(inside[..., None], tf.gather(images, partner), images)
    share = _share(inside)
    return mixed, _weighted(labels, 1 - share, tf.gather(labels, partner), share)


def ricap(
    images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor, alpha: float = 0.3
) -> tuple[tf.Tensor, tf.Tensor]:
    """Put parts of four images of the batch together, in the four corners (arXiv 1811.09030).

    Unlike in the paper, each image has its own point where the corners meet.
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
    """Return the row (or column) of a part's image for each row of the result."""
    length = end - begin
    offset = tf.cast(tf.floor(draw * tf.cast(size - length + 1, tf.float32)), tf.int32)
    places = tf.range(size)[None] + (tf.minimum(offset, size - length) - begin)[:, None]
    return tf.clip_by_value(places, 0, size - 1)


def snapmix(
    images: tf.Tensor, labels: tf.Tensor, maps: tf.Tensor, seed: tf.Tensor, alpha: float = 5.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """Paste a resized box of another image, and weight labels by class activation maps.

    arXiv 2012.04846, section 3: a label's weight is the share of its image's map (batch, rows,
    columns) that remains, or that was pasted. Weights need not sum to 1: background pasted over a
    bird leaves less than one label.
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
    """Resize a box of each other image into a box of each image, by the nearest pixel."""
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
    """Return a random permutation: the partner of each image, possibly itself."""
    return tf.random.experimental.stateless_shuffle(tf.range(count), seed)


def _boxes(shape: tf.Tensor, outside: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """Draw boxes, centered anywhere and clipped, of at most `1 - outside` of the area."""
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
    """Parse a mixing.

    It is `"none"`; the name of a row of `MIXINGS`, with arguments in parentheses; several, of which
    each batch gets one (`"mixup+cutmix"`: each with the same probability; `"mixup*0.3+cutmix*0.2"`:
    half of the batches are not mixed); or another mixing from an epoch on
    (`"mixup,cutmix@100,none@150"`).
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
    """Mix `mixing.loads` batches to one, according to the epoch and a random draw.

    `maps(images, labels)` returns class activation maps for SnapMix.
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
        # If probabilities sum to 1, rounding must not leave anything to the last case.
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
