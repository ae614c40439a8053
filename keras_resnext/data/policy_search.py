"""Search of an augmentation policy for a data set, by density matching (arXiv 1905.00397).

No network is trained: a policy is good if a trained network still recognizes augmented held-out
images. Unlike in the paper, sub-policies are judged one by one, by successive halving, and must
change at least half of the images, since changing nothing would mostly win.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.checks import check, integer
from keras_resnext.data import policies
from keras_resnext.data.augment import each
from keras_resnext.data.parts import Dataset, take
from keras_resnext.data.pipeline import normalize, test_batches, to_pixels

BATCH = 64
# The smallest share of images that a sub-policy changes.
LEAST_CHANGED = 0.5
LEAST_PROBABILITY = 1e-7
NAMES = tuple(name for name in policies.NAMES if name != "identity")


@dataclass(frozen=True)
class PolicyResult:
    """The result of a search.

    Args:
        policy: tuple of the best sub-policies, the best first, each of (operation, probability,
            level).
        losses: tuple of float, the loss of each, on all images.
        plain: float, loss on the images without augmentation.
        images: int, number of images.
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
) -> PolicyResult:
    """Search for the augmentation policy that fits the data best according to a trained network.

    The search uses the test part: the network must not have been trained on it, and its accuracy on
    it is biased afterwards. The same arguments give the same policy.

    Args:
        predict: Function from images as the network takes them, float32 (batch, size, size, 3)
            normalized by the data set's mean and std, to probabilities (batch, classes).
        dataset: `Dataset` from `load_dataset`.
        trials: int, number of sub-policies to draw.
        keep: int, number of sub-policies in the policy.
        steps: int, operations per sub-policy.
        images: int, greatest number of images of the test part to use.
        seed: int, seed of all draws.
        progress: Function that is called with the number of predictions done and of all.

    Returns:
        `PolicyResult`.

    Raises:
        ValueError: If `trials` is less than `keep`, or a number is below 1.

    Example:
    >>> from keras_resnext.data.datasets import load_dataset
    >>> digits = load_dataset("digits")
    >>> unsure = lambda images: np.full((len(images), 10), 0.1)
    >>> result = search_policy(unsure, digits, trials=4, keep=2, images=16)
    >>> len(result.policy), round(result.plain, 3)
    (2, 2.303)
    """
    numbers = {"trials": trials, "keep": keep, "steps": steps, "images": images}
    for name, number in numbers.items():
        check(name, number, integer(1))
    if keep > trials:
        raise ValueError(f"Expected keep={keep} to be at most trials={trials}.")
    generator = np.random.default_rng(seed)
    pixels, labels = _held_out(dataset, images, generator)
    candidates = draw_sub_policies(trials, steps, generator)
    rounds = plan_rounds(trials, keep, len(pixels))
    total, done = len(pixels) + sum(size * count for size, count in rounds), len(pixels)
    loss = _loss_of(predict, dataset)
    plain = _mean_loss(loss, pixels, labels, lambda part, batch: part)
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
    return PolicyResult(tuple(candidates[:keep]), best, plain, len(pixels))


def _loss_of(predict: Callable, dataset: Dataset) -> Callable:
    def loss(changed: tf.Tensor, labels: np.ndarray) -> float:
        images = normalize(changed, dataset).numpy()
        chances = np.asarray(predict(images), np.float64)[np.arange(len(labels)), labels]
        return float(-np.log(np.maximum(chances, LEAST_PROBABILITY)).sum())

    return loss


def _held_out(
    dataset: Dataset, count: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    chosen = generator.permutation(len(dataset.test))[:count]
    some = replace(dataset, test=take(dataset.test, np.sort(chosen)))
    batches = list(test_batches(some, BATCH, cache=False).as_numpy_iterator())
    images, labels = (np.concatenate(column) for column in zip(*batches, strict=True))
    order = generator.permutation(len(images))
    return to_pixels(images, dataset)[order], labels.argmax(1)[order]


def draw_sub_policies(count: int, steps: int, generator: np.random.Generator) -> list[tuple]:
    """Draw sub-policies that change something: operation, probability and level of each step."""
    drawn = []
    while len(drawn) < count:
        names = generator.choice(NAMES, steps)
        chances, levels = (np.round(generator.random(steps), 3) for _ in range(2))
        if 1 - np.prod(1 - chances) >= LEAST_CHANGED:
            rows = zip(names, chances, levels, strict=True)
            drawn.append(tuple((str(n), float(p), float(v)) for n, p, v in rows))
    return drawn


def plan_rounds(trials: int, keep: int, images: int) -> list[tuple[int, int]]:
    """Return the candidates and images of each round: halved until `keep`, last on all images.

    Example:
    >>> plan_rounds(200, 25, 1000)
    [(200, 125), (100, 250), (50, 500), (25, 1000)]
    """
    rounds = max(1, math.ceil(math.log2(trials / keep)) + 1)
    sizes = [max(keep, math.ceil(trials / 2**number)) for number in range(rounds)]
    return [(s, max(1, images >> (rounds - 1 - number))) for number, s in enumerate(sizes)]


def _changing(sub_policy: tuple, seed: tuple[int, int]) -> Callable:
    numbers, chances, values = policies.as_tensors((sub_policy,))

    def change(images: tf.Tensor, batch: int) -> tf.Tensor:
        seeds = tf.constant([seed[0], seed[1] << 20 | batch], tf.int64)
        return _change(images, seeds, numbers[0], chances[0], values[0])

    return change


@tf.function(reduce_retracing=True)
def _change(
    images: tf.Tensor, seed: tf.Tensor, numbers: tf.Tensor, chances: tf.Tensor, values: tf.Tensor
) -> tf.Tensor:
    """Apply a sub-policy; traced only once, since sub-policies are tensors."""

    def one(image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return policies.apply_sub_policy(image, seed, numbers, chances, values)

    return each(one)(images, seed)


def _mean_loss(loss: Callable, images: np.ndarray, labels: np.ndarray, change: Callable) -> float:
    total = 0.0
    for number, start in enumerate(range(0, len(images), BATCH)):
        part = slice(start, start + BATCH)
        total += loss(change(tf.constant(images[part]), number), labels[part])
    return total / len(images)


def write_policy(result: PolicyResult, path: str | Path) -> None:
    """Write a policy file, which `augmentation` accepts, with the measured losses."""
    data = {
        "format": policies.FORMAT,
        "policy": result.policy,
        "losses": result.losses,
        "plain_loss": result.plain,
        "images": result.images,
    }
    unfinished = Path(f"{path}.part")
    unfinished.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
