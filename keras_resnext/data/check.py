"""A report on a data set of image files: what is in it, and what is wrong with it."""

import hashlib
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_resnext.data.cache import find_undecodable
from keras_resnext.data.images import file_size
from keras_resnext.data.parts import Dataset, Part, labels_of


@dataclass(frozen=True)
class Report:
    """What was found.

    Args:
        counts: Images of each class: (training, test) by its name.
        sizes: Least, median and greatest of height and width, pixels: ((h, w), (h, w), (h, w)), or
            None where the images are no files.
        broken: What is wrong with it, by path.
        duplicates: Files of the test part whose bytes are those of a training file: pairs of path
            in training and path in the test part.
    """

    counts: dict[str, tuple[int, int]]
    sizes: tuple | None
    broken: dict[str, str]
    duplicates: tuple[tuple[str, str], ...]


def check_dataset(dataset: Dataset) -> Report:
    """Count, measure, decode and compare all images of a data set.

    Args:
        dataset: From ``load_dataset(..., on_error="skip")``.

    Returns:
        A Report.
    """
    parts = (dataset.train, dataset.test)
    tallies = [np.bincount(labels_of(part), minlength=dataset.classes) for part in parts]
    broken = dict(dataset.skipped)
    for part in parts:
        broken |= find_undecodable(part)
    counts = zip(dataset.class_names, *(tally.tolist() for tally in tallies), strict=True)
    return Report(
        counts={name: tuple(numbers) for name, *numbers in counts},
        sizes=_sizes([path for part in parts for path in _paths(part) if path not in broken]),
        broken=broken,
        duplicates=tuple(_duplicates(*map(_paths, parts))),
    )


def _paths(part: Part) -> tuple[str, ...]:
    return part.images if isinstance(part.images, tuple) else ()


def _sizes(paths: list[str]) -> tuple | None:
    if not paths:
        return None
    with ThreadPoolExecutor(8) as pool:
        shapes = np.array(list(pool.map(file_size, paths)))
    rows = (shapes.min(0), np.median(shapes, 0), shapes.max(0))
    return tuple(tuple(int(edge) for edge in row) for row in rows)


def _duplicates(train: tuple[str, ...], test: tuple[str, ...]):
    """Only files of the same length are read."""
    lengths = _by(train, _length), _by(test, _length)
    common = lengths[0].keys() & lengths[1].keys()
    candidates = [[p for size in common for p in side[size]] for side in lengths]
    first, second = (_by(side, _digest) for side in candidates)
    for digest in sorted(first.keys() & second.keys()):
        yield from ((first[digest][0], path) for path in second[digest])


def _by(paths, key) -> dict:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(key, paths))
    found = {value: [] for value in Counter(keys)}
    for path, value in zip(paths, keys, strict=True):
        found[value].append(path)
    return found


def _length(path: str) -> int:
    return os.path.getsize(path)


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
