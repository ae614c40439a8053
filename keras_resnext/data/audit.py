"""A report on a data set of image files: what is in it and what is wrong with it."""

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from keras_resnext.data.images import file_size
from keras_resnext.data.parts import Dataset, Part, labels_of
from keras_resnext.data.undecodable import find_undecodable


@dataclass(frozen=True)
class Audit:
    """Counts per class, sizes, broken files and duplicates of a data set.

    `counts` and `duplicates` are (training, test); `sizes` the smallest, median and largest.
    """

    counts: dict[str, tuple[int, int]]
    sizes: tuple | None
    broken: dict[str, str]
    duplicates: tuple[tuple[str, str], ...]


def audit_dataset(dataset: Dataset) -> Audit:
    """Count, measure, decode and compare all images of a data set."""
    parts = (dataset.train, dataset.test)
    tallies = [np.bincount(labels_of(part), minlength=dataset.classes) for part in parts]
    broken = dict(dataset.skipped)
    for part in parts:
        broken |= find_undecodable(part)
    counts = zip(dataset.class_names, *(tally.tolist() for tally in tallies), strict=True)
    return Audit(
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


def _duplicates(train: tuple[str, ...], test: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield pairs of identical files; only files of equal length are read."""
    lengths = _by(train, os.path.getsize), _by(test, os.path.getsize)
    common = lengths[0].keys() & lengths[1].keys()
    candidates = [[path for size in common for path in side[size]] for side in lengths]
    first, second = (_by(side, _digest) for side in candidates)
    for digest in sorted(first.keys() & second.keys()):
        yield from ((first[digest][0], path) for path in second[digest])


def _by(paths: Sequence[str], key: Callable) -> dict:
    groups = {}
    with ThreadPoolExecutor(8) as pool:
        for path, value in zip(paths, pool.map(key, paths), strict=True):
            groups.setdefault(value, []).append(path)
    return groups


def _digest(path: str) -> bytes:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "blake2b").digest()
