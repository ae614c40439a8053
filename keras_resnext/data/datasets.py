"""The data sets that training knows: a table of sources, each giving a checked ``Dataset``.

Everything wrong with a data set is said here, as a ValueError, before any work is done. Networks
are shown RGB throughout (the pipeline repeats grey arrays over the channels), so that every network
of the package, and every published checkpoint, takes every data set.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_resnext.data.images import ON_ERROR
from keras_resnext.data.parts import Dataset, Part, stratified_split
from keras_resnext.data.sources import arrays, csv_file, digits, folders, packs, tensorflow_datasets
from keras_resnext.data.sources.request import Request, Source
from keras_resnext.errors import one_of, unknown

__all__ = ["SOURCES", "Dataset", "Part", "load_dataset", "stratified_split"]

MIN_SIZE = arrays.MIN_SIZE

# The first that accepts is taken.
SOURCES = (
    Source(
        "digits",
        lambda source: source == "digits",
        digits.load,
        "handwritten digits that come with scikit-learn",
    ),
    Source(
        "tfds:NAME",
        lambda source: source.startswith(tensorflow_datasets.PREFIX),
        tensorflow_datasets.load,
        "a TensorFlow dataset, such as tfds:cifar10 or tfds:cifar10,train[:80%],train[80%:]",
    ),
    Source(
        "FILE.npz",
        lambda source: source.endswith(".npz") and Path(source).is_file(),
        arrays.load,
        "arrays x_train, y_train, x_test, y_test or images, labels",
    ),
    Source(
        "FILE.csv",
        lambda source: source.endswith(".csv") and Path(source).is_file(),
        csv_file.load,
        "columns path, label and, if you like, split",
    ),
    Source(
        "PACK",
        packs.is_pack,
        packs.load,
        "a folder that `data pack` has written",
    ),
    Source(
        "FOLDER",
        lambda source: Path(source).is_dir(),
        folders.load,
        "one folder a class, with train/ and test/ above them or without",
    ),
)


def load_dataset(
    source: str | Path | Mapping[str, np.ndarray],
    image_size: int | None = None,
    seed: int = 0,
    on_error: str = "raise",
) -> Dataset:
    """Find, check and split a data set. Pixels of image files are not decoded yet.

    Args:
        source: "digits"; "tfds:NAME", with splits if you like ("tfds:cifar10,train[:80%],test") and
            a data_dir ("tfds:cifar10@FOLDER"); a folder of class folders (with train/ and test/ or
            val/ below it, or without); a .csv with the columns path and label (and split); an .npz
            file with x_train, y_train, x_test, y_test or images, labels (and class_names, if you
            like); a dictionary of such arrays; or a folder that ``data pack`` has written.
        image_size: Edge in pixels that images are resized to, by the shorter side, then cropped in
            the middle. None: the size they have, if it is the same for all.
        seed: Of the split, where the source has no test part of its own: a fifth of each class.
        on_error: What is done about files that are no whole images: "raise" names them all, "skip"
            leaves them out and lists them in ``Dataset.skipped``.

    Returns:
        A Dataset.

    Raises:
        ValueError: For an unknown source and for everything wrong with a known one.

    Example:

    >>> digits = load_dataset("digits")
    >>> len(digits.train), len(digits.test), digits.classes, digits.train.images.shape
    (1438, 359, 10, (1438, 32, 32, 1))
    """
    one_of("on_error", on_error, ON_ERROR)
    if image_size is not None and image_size < MIN_SIZE:
        raise ValueError(
            f"Invalid value for `image_size`. Expected at least {MIN_SIZE} pixels. "
            f"Received: image_size={image_size}"
        )
    if isinstance(source, Mapping):
        return arrays.from_arrays(source, Request("arrays", image_size, seed, on_error))
    source = str(source)
    for row in SOURCES:
        if row.accepts(source):
            return row.load(Request(source, image_size, seed, on_error))
    raise ValueError(
        f"{unknown('data', source, [*_names(), *_neighbours(source)])} "
        "Expected a name, or a file or folder that exists: "
        f"{'; '.join(f'{row.name}: {row.summary}' for row in SOURCES)}."
    )


def absolute_source(source: str | Path) -> str:
    """Give a source as it is found from any folder.

    Args:
        source: As in ``load_dataset``, but for arrays.

    Example:

    >>> absolute_source("digits")  # built in, whatever folder has that name
    'digits'
    """
    given, absolute = str(source), str(Path(source).absolute())
    taken = [next((row for row in SOURCES if row.accepts(s)), None) for s in (given, absolute)]
    return absolute if taken[0] is taken[1] else given


def _names() -> list[str]:
    return [row.name for row in SOURCES if row.name.islower()]


def _neighbours(source: str) -> list[str]:
    """Folders and files beside the one that does not exist, for the nearest name."""
    parent = Path(source).parent
    if not parent.is_dir():
        return []
    return [str(p) for p in parent.iterdir() if p.suffix in (".npz", ".csv") or p.is_dir()]
