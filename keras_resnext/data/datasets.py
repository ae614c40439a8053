"""The table of data sources, each of which loads a checked `Dataset`."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_resnext.checks import check, choice, integer, optional
from keras_resnext.data.images import ON_ERROR
from keras_resnext.data.parts import Dataset, Part, stratified_split
from keras_resnext.data.sources import DataSource, Request, arrays, find_sources
from keras_resnext.errors import unknown

__all__ = ["DATA_SOURCES", "Dataset", "Part", "load_dataset", "stratified_split"]

DATA_SOURCES = find_sources()


def load_dataset(
    source: str | Path | Mapping[str, np.ndarray],
    image_size: int | None = None,
    seed: int = 0,
    on_error: str = "raise",
) -> Dataset:
    """Find, check and split a data set; image files are not decoded yet.

    Args:
        source: str, `"digits"`; `"tfds:NAME"`, optionally with splits
            (`"tfds:cifar10,train[:80%],test"`) and a data_dir (`"tfds:cifar10@FOLDER"`); a folder
            of class folders (with train/ and test/ or val/ in it, or without); a .csv with the
            columns path, label and optionally split; an .npz with x_train, y_train, x_test, y_test
            or images, labels, and optionally class_names; a folder written by `data pack`. Or a
            dictionary of such arrays.
        image_size: int, edge in pixels that the shorter side is resized to before the middle is
            cropped. None keeps the size of the images, if it is the same for all.
        seed: int, seed of the split if the source has no test part: a fifth of each class.
        on_error: str, what to do about broken files: `"raise"` names them all, `"skip"` lists them
            in `Dataset.skipped`.

    Returns:
        `Dataset`.

    Raises:
        ValueError: If the source is unknown or anything about it is invalid.

    Example:
    >>> digits = load_dataset("digits")
    >>> len(digits.train), len(digits.test), digits.classes, digits.train.images.shape
    (1438, 359, 10, (1438, 32, 32, 1))
    """
    check("on_error", on_error, choice(ON_ERROR))
    check("image_size", image_size, optional(integer(arrays.MIN_SIZE)))
    if isinstance(source, Mapping):
        return arrays.from_arrays(source, Request("arrays", image_size, seed, on_error))
    source = str(source)
    row = _row_of(source)
    if row is not None:
        return row.load(Request(source, image_size, seed, on_error))
    raise ValueError(
        f"{unknown('data', source, [*_names(), *_neighbors(source)])} "
        "Expected a name, or a file or folder that exists: "
        f"{'; '.join(f'{row.name}: {row.summary}' for row in DATA_SOURCES.values())}."
    )


def absolute_source(source: str | Path) -> str:
    """Return the source with an absolute path, unless it is a name such as "digits"."""
    given, absolute = str(source), str(Path(source).absolute())
    return absolute if _row_of(given) is _row_of(absolute) else given


def _row_of(source: str) -> DataSource | None:
    rows = sorted(DATA_SOURCES.values(), key=lambda row: row.fallback)
    return next((row for row in rows if row.accepts(source)), None)


def _names() -> list[str]:
    return [name for name in DATA_SOURCES if name.islower()]


def _neighbors(source: str) -> list[str]:
    parent = Path(source).parent
    if not parent.is_dir():
        return []
    return [str(p) for p in parent.iterdir() if p.suffix in (".npz", ".csv") or p.is_dir()]
