"""Arrays in an .npz file."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_resnext.data.parts import (
    Dataset,
    Part,
    check_labels,
    photo_augmentation,
    split,
    square,
)
from keras_resnext.data.sources import DataSource, Request

MIN_SIZE = 8
WITH_TEST = ("x_train", "y_train", "x_test", "y_test")
WHOLE = ("images", "labels")
CLASS_NAMES = "class_names"


def load(request: Request) -> Dataset:
    """Read an .npz file."""
    return from_arrays(_read_npz(request.source), request)


def from_arrays(arrays: Mapping[str, np.ndarray], request: Request) -> Dataset:
    """Make a data set of arrays, which are not copied: see `datasets.load_dataset`."""
    source, size = request.source, request.image_size
    if arrays.keys() >= set(WITH_TEST):
        train = _array_part(source, arrays, "x_train", "y_train")
        test = _array_part(source, arrays, "x_test", "y_test")
    elif arrays.keys() >= set(WHOLE):
        whole = _array_part(source, arrays, "images", "labels")
        train, test = split(source, whole, request.seed)
    else:
        raise ValueError(
            f"{source} holds the arrays {', '.join(arrays) or '(none)'}. "
            "Expected x_train, y_train, x_test and y_test, or images and labels."
        )
    names = _array_class_names(arrays, train.labels)
    check_labels(source, names, train.labels, test.labels)
    if train.images.shape[1:3] != test.images.shape[1:3] and size is None:
        raise ValueError(
            f"{source}: training images are {train.images.shape[1:3]}, test images "
            f"{test.images.shape[1:3]} pixels. Give an image size to resize both."
        )
    gray = train.images.shape[3] == 1
    size = size or square(source, train.images.shape[1:3])
    return Dataset(
        name=Path(source).stem,
        source=source,
        train=train,
        test=test,
        class_names=names,
        image_size=size,
        # Gray arrays are mostly writing, which must not be mirrored.
        augmentation="shift" if gray and size <= 64 else photo_augmentation(size),
    )


def plain(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the arrays that `from_arrays` takes, ready for an .npz file without pickling."""
    own = {name: np.asarray(arrays[name]) for name in (*WITH_TEST, *WHOLE) if name in arrays}
    if CLASS_NAMES in arrays:  # which may be objects, as a table's column is
        own[CLASS_NAMES] = np.array([str(name) for name in arrays[CLASS_NAMES]])
    return own


def _read_npz(source: str) -> dict[str, np.ndarray]:
    try:
        with np.load(source, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{source} cannot be read: {error}. Expected an .npz file of plain arrays, as "
            "np.savez writes it (pickled objects are refused: loading them runs code)."
        ) from error


def _array_part(source: str, arrays: dict[str, np.ndarray], x: str, y: str) -> Part:
    images, labels = np.asarray(arrays[x]), np.asarray(arrays[y])
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if len(images) == 0:
        raise ValueError(f"{source}: {x} is empty. Expected at least one image.")
    if images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] not in (1, 3)):
        raise ValueError(
            f"{source}: {x} has shape {images.shape}. Expected (count, height, width), or that "
            "with 1 or 3 channels last."
        )
    if min(images.shape[1:3]) < MIN_SIZE:
        raise ValueError(
            f"{source}: the images of {x} are {images.shape[1]}x{images.shape[2]} pixels. "
            f"Expected at least {MIN_SIZE}x{MIN_SIZE}."
        )
    if images.dtype != np.uint8:
        raise ValueError(
            f"{source}: {x} is {images.dtype}. Expected uint8 pixels from 0 to 255: for pixels "
            f'from 0 to 1, ({x} * 255).round().astype("uint8").'
        )
    if labels.ndim != 1 or not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(
            f"{source}: {y} has shape {labels.shape} of {labels.dtype}. "
            "Expected one integer per image, shape (count,)."
        )
    if len(images) != len(labels):
        raise ValueError(f"{source}: {x} has {len(images)} images, {y} {len(labels)} labels.")
    return Part(images if images.ndim == 4 else images[..., None], labels.astype(np.int64))


def _array_class_names(arrays: Mapping[str, np.ndarray], labels: np.ndarray) -> tuple[str, ...]:
    if CLASS_NAMES in arrays:
        return tuple(str(name) for name in arrays[CLASS_NAMES])
    count = len(np.unique(labels))
    return tuple(str(label) for label in range(count))


SOURCE = DataSource(
    "FILE.npz",
    lambda source: source.endswith(".npz") and Path(source).is_file(),
    load,
    "arrays x_train, y_train, x_test, y_test or images, labels",
)
