"""Searching a policy of augmentation on one's own data, with a network that is trained already.

Density matching, as in "Fast AutoAugment" (arXiv 1905.00397): no network is trained for the search.
Where a trained network still knows held-out images after they were changed, they still look like
what it was trained on: such changes fill the gaps between training images. What is minimised is the
loss on changed held-out images, equation 3.

Two things differ from the paper. A policy draws one of its sub-policies for each image, so that its
loss is the mean of theirs: each is judged by itself, by halving (all on few images, the better half
on twice as many, and so on), and no model of how they interact is needed. And since changing
nothing would mostly win, a sub-policy has to change at least half of the images.
"""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.data import policies
from keras_resnext.data.augment import each
from keras_resnext.data.parts import Dataset, take
from keras_resnext.data.pipeline import normalise, test_batches, to_pixels

BATCH = 64
# The least share of images that a sub-policy changes.
LEAST_CHANGED = 0.5
LEAST_PROBABILITY = 1e-7
NAMES = tuple(name for name in policies.NAMES if name != "identity")


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        policy: The best sub-policies, the best first: what ``write_found`` writes.
        losses: Of each, on all images.
        plain: Loss on the images as they are.
        images: How many there were.
    """

    policy: policies.Policy
    losses: tuple[float, ...]
    plain: float
    images: int


def search_policy(
    predict: Callable,
    dataset: Dataset,
    *,
    trials: int = 200,
    keep: int = 25,
    steps: int = 2,
    images: int = 1000,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Found:
    """Search the sub-policies that a trained network's idea of the data agrees with best.

    The test part is what is searched on: it must not have been trained on, and what is measured on
    it afterwards flatters. The same arguments give the same policy.

    Args:
        predict: Takes images as the network is fed, float32 (batch, size, size, 3) normalised by
            the data set's mean and std, and gives probabilities (batch, classes): the network.
        dataset: From ``load_dataset``.
        trials: Sub-policies to draw.
        keep: How many of them make the policy.
        steps: Operations of each.
        images: Of the test part to search on, at most.
        seed: Of all draws.
        progress: Called with the number of predictions that are done and that of all.

    Returns:
        What was found.

    Raises:
        ValueError: If fewer sub-policies are to be drawn than kept, or for a number below 1.

    Example:

    >>> from keras_resnext.data.datasets import load_dataset
    >>> digits = load_dataset("digits")
    >>> unsure = lambda images: np.full((len(images), 10), 0.1)
    >>> found = search_policy(unsure, digits, trials=4, keep=2, images=16)
    >>> len(found.policy), round(found.plain, 3)
    (2, 2.303)
    """
    _check({"trials": trials, "keep": keep, "steps": steps, "images": images})
    if keep > trials:
        raise ValueError(f"Expected keep={keep} to be at most trials={trials}.")
    generator = np.random.default_rng(seed)
    pixels, labels = _held_out(dataset, images, generator)
    candidates = draw_sub_policies(trials, steps, generator)
    rounds = plan_rounds(trials, keep, len(pixels))
    total, done = len(pixels) + sum(size * count for size, count in rounds), len(pixels)

    def loss(changed, labels):
        fed = normalise(changed, dataset).numpy()
        chances = np.asarray(predict(fed), np.float64)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chances, LEAST_PROBABILITY)).sum())

    plain = _mean_loss(loss, pixels, labels, lambda part, number: part)
    progress(done, total)
    for number, (size, count) in enumerate(rounds):
        candidates, losses = candidates[:size], []
        for candidate in candidates:
            change = _changing(candidate, (seed, number))
            losses.append(_mean_loss(loss, pixels[:count], labels[:count], change))
            done += count
            progress(done, total)
        order = np.argsort(losses, kind="stable")
        candidates = [candidates[place] for place in order]
    best = tuple(sorted(losses)[:keep])
    return Found(tuple(candidates[:keep]), best, plain, len(pixels))


def _check(numbers: dict[str, int]) -> None:
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"Invalid value for `{name}`. Expected 1 or more. Received: {number}")


def _held_out(dataset: Dataset, count: int, generator) -> tuple[np.ndarray, np.ndarray]:
    """Some of the test part in a random order, uint8 as testing sees them, and their labels."""
    chosen = generator.permutation(len(dataset.test))[:count]
    some = replace(dataset, test=take(dataset.test, np.sort(chosen)))
    batches = list(test_batches(some, BATCH, cache=False).as_numpy_iterator())
    images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    order = generator.permutation(len(images))
    return to_pixels(images, dataset)[order], labels.argmax(1)[order]


def draw_sub_policies(count: int, steps: int, generator) -> list[tuple]:
    """Draw sub-policies that change something: operation, probability and level of each step.

    Args:
        count: How many.
        steps: Of each.
        generator: Of NumPy.

    Returns:
        Sub-policies of ``policies.Policy``.
    """
    found = []
    while len(found) < count:
        names = generator.choice(NAMES, steps)
        chances, levels = (np.round(generator.random(steps), 3) for _ in range(2))
        if 1 - np.prod(1 - chances) >= LEAST_CHANGED:
            rows = zip(names, chances, levels, strict=True)
            found.append(tuple((str(n), float(p), float(v)) for n, p, v in rows))
    return found


def plan_rounds(trials: int, keep: int, images: int) -> list[tuple[int, int]]:
    """Halve until so many are left, the last time on all images.

    Args:
        trials: Candidates in the first round.
        keep: Those that are wanted: the last round has fewer than twice as many.
        images: There are.

    Returns:
        Candidates and images of each round.

    Example:

    >>> plan_rounds(200, 25, 1000)
    [(200, 125), (100, 250), (50, 500), (25, 1000)]
    """
    rounds = max(1, math.ceil(math.log2(trials / keep)) + 1)
    sizes = [max(keep, math.ceil(trials / 2**number)) for number in range(rounds)]
    return [(s, max(1, images >> (rounds - 1 - number))) for number, s in enumerate(sizes)]


def _changing(sub_policy, seed):
    """A function of images and the number of their batch."""
    numbers, chances, values = policies.as_tensors((sub_policy,))

    def change(images, number):
        seeds = tf.constant([seed[0], seed[1] << 20 | number], tf.int64)
        return _change(images, seeds, numbers[0], chances[0], values[0])

    return change


@tf.function(reduce_retracing=True)
def _change(images, seed, numbers, chances, values):
    """Traced once for all sub-policies: these are numbers, not code."""

    def one(image, seed):
        return policies.apply_sub_policy(image, seed, numbers, chances, values)

    return each(one)(images, seed)


def _mean_loss(loss: Callable, images, labels, change: Callable) -> float:
    total = 0.0
    for number, start in enumerate(range(0, len(images), BATCH)):
        part = slice(start, start + BATCH)
        total += loss(change(tf.constant(images[part]), number), labels[part])
    return total / len(images)


def write_found(found: Found, path: str | Path) -> None:
    """Write a policy file, which ``augmentation=`` takes, with what the search measured.

    Args:
        found: From ``search_policy``.
        path: Of the JSON, ending in .json.
    """
    data = {
        "format": policies.FORMAT,
        "policy": found.policy,
        "losses": found.losses,
        "plain_loss": found.plain,
        "images": found.images,
    }
    part = Path(f"{path}.part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
