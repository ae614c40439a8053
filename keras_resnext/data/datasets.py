"""The data sets that training knows: a table of sources, each giving a checked ``Dataset``.

Everything wrong with a data set is said here, as a ValueError, before any work is done. Networks
are shown RGB throughout (the pipeline repeats grey arrays over the channels), so that every network
of the package, and every published checkpoint, takes every data set.
"""

import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_resnext.data.images import HIDDEN, SUFFIXES, common_size, first_broken
from keras_resnext.errors import unknown

MIN_SIZE = 8
TEST_FRACTION = 0.2
TRAIN_FOLDERS = ("train", "training")
TEST_FOLDERS = ("test", "val", "valid", "validation")

# Of ImageNet's training images (pixels from 0 to 1): what published ResNets were trained with, and
# near enough to any photograph for a network that begins with a batch norm.
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels, in order: one part (training or test) of a data set.

    Args:
        images: uint8 array of shape (count, height, width, channels), 3 channels or, grey, 1; or
            the paths of as many files.
        labels: int64 array of shape (count,), each label from 0 to the number of classes - 1.
    """

    images: np.ndarray | tuple[str, ...]
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set, and how it is best trained on where nothing else is asked for.

    Args:
        name: Short name, fit for a folder's name.
        source: What was asked for: a name or a path.
        train: The part to train on.
        test: The part to measure on: never shuffled, never augmented.
        class_names: As many as there are classes, in the order of the labels.
        image_size: Edge, in pixels, of the square images that the network is to see.
        augmentation: Name of a row of ``augment.AUGMENTATIONS``.
        epochs: Default number of epochs.
        batch_size: Default number of images a step.
        mean: Of each channel, of pixels scaled to 0..1: subtracted.
        std: Of each channel, of pixels scaled to 0..1: divided by.
    """

    name: str
    source: str
    train: Part
    test: Part
    class_names: tuple[str, ...]
    image_size: int
    augmentation: str
    epochs: int = 30
    batch_size: int = 64
    mean: tuple[float, float, float] = PHOTO_MEAN
    std: tuple[float, float, float] = PHOTO_STD

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


@dataclass(frozen=True)
class Source:
    """A row of the table of sources.

    Args:
        name: As the help shows it.
        accepts: Whether a string given as ``--data`` means this source.
        load: Takes that string, the image size (or None) and the seed; gives a Dataset.
        summary: One line for the help.
    """

    name: str
    accepts: Callable[[str], bool]
    load: Callable[[str, int | None, int], Dataset]
    summary: str


def load_dataset(source: str | Path, image_size: int | None = None, seed: int = 0) -> Dataset:
    """Find, check and split a data set. Pixels of image files are not decoded yet.

    Args:
        source: "digits", a folder of class folders (with train/ and test/ or val/ below it, or
            without), or an .npz file with x_train, y_train, x_test, y_test or images, labels (and
            class_names, if you like).
        image_size: Edge in pixels that images are resized to, by the shorter side, then cropped in
            the middle. None: the size they have, if it is the same for all.
        seed: Of the split, where the source has no test part of its own: a fifth of each class.

    Returns:
        A Dataset.

    Raises:
        ValueError: For an unknown source and for everything wrong with a known one.

    Example:

    >>> digits = load_dataset("digits")
    >>> len(digits.train), len(digits.test), digits.classes, digits.train.images.shape
    (1438, 359, 10, (1438, 32, 32, 1))
    """
    source = str(source)
    if image_size is not None and image_size < MIN_SIZE:
        raise ValueError(
            f"Invalid value for `image_size`. Expected at least {MIN_SIZE} pixels. "
            f"Received: image_size={image_size}"
        )
    for row in SOURCES:
        if row.accepts(source):
            return row.load(source, image_size, seed)
    raise ValueError(
        f"{unknown('data', source, [*_names(), *_neighbours(source)])} "
        "Expected a name, a folder or an .npz file that exists: "
        f"{'; '.join(f'{row.name}: {row.summary}' for row in SOURCES)}."
    )


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split so that each class keeps its share.

    Args:
        labels: int array of shape (count,).
        fraction: Of each class that goes into the second part. A class of two or more images is
            in both parts; an only one stays in the first.
        seed: Of the choice.

    Returns:
        Two sorted int arrays of indices, disjoint, that are everything together.

    Example:

    >>> first, second = stratified_split(np.array([0] * 10 + [1] * 5), 0.2, seed=0)
    >>> len(first), len(second)
    (12, 3)
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen.append(members[:count])
    second = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), second), second


# ---------------------------------------------------------------------------------------- digits


def _load_digits(source: str, image_size: int | None, seed: int) -> Dataset:
    """scikit-learn's 1,797 handwritten digits; the test part is the same whatever the seed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = _enlarge(data.images * (255 / 16), image_size or 32)[..., None]
    labels = data.target.astype(np.int64)
    train, test = (Part(images[i], labels[i]) for i in stratified_split(labels, TEST_FRACTION, 0))
    return Dataset(
        name="digits",
        source=source,
        train=train,
        test=test,
        class_names=tuple("0123456789"),
        image_size=images.shape[1],
        augmentation="shift",  # a mirrored 2 is no digit
        epochs=15,
        batch_size=32,
        mean=(0.305,) * 3,
        std=(0.324,) * 3,
    )


def _enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Bilinear, (count, height, width) to (count, size, size), rounded to uint8."""

    def weights(length: int) -> np.ndarray:
        centres = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        return np.clip(1 - np.abs(centres[:, None] - np.arange(length)), 0, None)

    rows, columns = (weights(length) for length in images.shape[1:])
    return np.rint(rows @ images @ columns.T).astype(np.uint8)


# ------------------------------------------------------------------------------------------- npz


def _load_npz(source: str, image_size: int | None, seed: int) -> Dataset:
    arrays = _read_npz(source)
    if {"x_train", "y_train", "x_test", "y_test"} <= arrays.keys():
        train = _array_part(source, arrays, "x_train", "y_train")
        test = _array_part(source, arrays, "x_test", "y_test")
    elif {"images", "labels"} <= arrays.keys():
        whole = _array_part(source, arrays, "images", "labels")
        train, test = _split(source, whole, seed)
    else:
        raise ValueError(
            f"{source} holds the arrays {', '.join(arrays) or '(none)'}. "
            "Expected x_train, y_train, x_test and y_test, or images and labels."
        )
    names = _array_class_names(source, arrays, train.labels)
    _check_labels(source, names, train.labels, test.labels)
    if train.images.shape[1:3] != test.images.shape[1:3] and image_size is None:
        raise ValueError(
            f"{source}: training images are {train.images.shape[1:3]}, those of the test part "
            f"{test.images.shape[1:3]} pixels. Give an image size to resize both."
        )
    grey = train.images.shape[3] == 1
    size = image_size or _square(source, train.images.shape[1:3])
    return Dataset(
        name=Path(source).stem,
        source=source,
        train=train,
        test=test,
        class_names=names,
        image_size=size,
        # Grey arrays are mostly writing, which must not be mirrored.
        augmentation="shift" if grey and size <= 64 else _photo_augmentation(size),
    )


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
    images, labels = arrays[x], arrays[y]
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
            "Expected one integer an image, shape (count,)."
        )
    if len(images) != len(labels):
        raise ValueError(f"{source}: {x} has {len(images)} images, {y} {len(labels)} labels.")
    return Part(images if images.ndim == 4 else images[..., None], labels.astype(np.int64))


def _array_class_names(source: str, arrays: dict, labels: np.ndarray) -> tuple[str, ...]:
    if "class_names" in arrays:
        return tuple(str(name) for name in arrays["class_names"])
    count = len(np.unique(labels))
    return tuple(str(label) for label in range(count))


def _check_labels(source: str, names: Sequence[str], train: np.ndarray, test: np.ndarray) -> None:
    if len(names) < 2:
        raise ValueError(f"{source} has one class only. Expected two or more.")
    for part, labels in (("training", train), ("test", test)):
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise ValueError(
                f"{source}: the {part} part has the label {wrong[0]}. Expected the labels 0 to "
                f"{len(names) - 1}, without gaps, for {len(names)} classes."
            )


def _square(source: str, shape: Sequence[int]) -> int:
    if shape[0] != shape[1]:
        raise ValueError(
            f"{source}: the images are {shape[0]}x{shape[1]} pixels, not square. "
            "Give an image size: they are resized by the shorter side and cropped in the middle."
        )
    return int(shape[0])


# ---------------------------------------------------------------------------------------- folder


def _load_folder(source: str, image_size: int | None, seed: int) -> Dataset:
    root = Path(source)
    train_root = _first_folder(root, TRAIN_FOLDERS)
    test_root = _first_folder(root, TEST_FOLDERS)
    if train_root is None or test_root is None:
        names, whole = _scan_classes(train_root or root)
        train, test = _split(source, whole, seed)
    else:
        names, train = _scan_classes(train_root)
        test_names, test = _scan_classes(test_root)
        _check_same_classes(train_root, names, test_root, test_names)
    files = (*train.images, *test.images)
    broken = first_broken(files)
    if broken:
        raise ValueError(f"Unreadable image {broken[0]}: {broken[1]}. Replace or remove it.")
    size = image_size or _square(source, common_size(source, files))
    return Dataset(
        name=root.resolve().name,
        source=source,
        train=train,
        test=test,
        class_names=names,
        image_size=size,
        augmentation=_photo_augmentation(size),
    )


def _photo_augmentation(size: int) -> str:
    """Small images fill the frame; larger ones are photographs that can be cropped anywhere."""
    return "shift_flip" if size <= 64 else "resized_crop_flip"


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if (root / name).is_dir()), None)


def _scan_classes(root: Path) -> tuple[tuple[str, ...], Part]:
    folders = sorted(path for path in root.iterdir() if path.is_dir() and not _hidden(path.name))
    files = {folder.name: _image_files(folder) for folder in folders}
    if not any(files.values()):
        raise ValueError(
            f"No image in {root}. Expected one folder a class with {', '.join(SUFFIXES)} files."
            f"{_what_is_there(root)}"
        )
    for name, members in files.items():
        if not members:
            raise ValueError(
                f"The class folder {root / name} has no image ({', '.join(SUFFIXES)}). "
                "Add some or remove the folder."
            )
    if len(files) < 2:
        raise ValueError(f'{root} has one class only, "{folders[0].name}". Expected two or more.')
    labels = np.repeat(np.arange(len(files)), [len(members) for members in files.values()])
    return tuple(files), Part(tuple(f for m in files.values() for f in m), labels)


def _image_files(folder: Path) -> list[str]:
    """Files below a class folder, at any depth, sorted so that a split by seed stays the same."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [os.path.join(place, name) for name in files if _is_image(name)]
    return sorted(found)


def _is_image(name: str) -> bool:
    return name.lower().endswith(SUFFIXES) and not _hidden(name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in HIDDEN


def _what_is_there(root: Path) -> str:
    """Why a folder that looks full to its owner has no image for us."""
    loose = [p for p in root.iterdir() if _is_image(p.name)]
    if loose:
        return f" {loose[0].name} and {len(loose) - 1} more lie beside, not in, class folders."
    other = {p.suffix for p in root.rglob("*") if p.is_file() and not _hidden(p.name)}
    return f" Found only {', '.join(sorted(other)) or 'nothing'}." if other else ""


def _check_same_classes(train_root: Path, train: tuple, test_root: Path, test: tuple) -> None:
    if train == test:
        return
    lacking = [
        f'"{name}" is in {there} only'
        for there, names, others in ((train_root, train, test), (test_root, test, train))
        for name in names
        if name not in others
    ]
    raise ValueError(
        f"The class folders of {train_root} and {test_root} disagree: {'; '.join(lacking[:4])}. "
        "Expected the same class folders in both."
    )


def _split(source: str, whole: Part, seed: int) -> tuple[Part, Part]:
    first, second = stratified_split(whole.labels, TEST_FRACTION, seed)
    if len(second) == 0:
        raise ValueError(
            f"{source} has one image a class: none is left for a test part. Expected two or more."
        )
    return _take(whole, first), _take(whole, second)


def _take(part: Part, indices: np.ndarray) -> Part:
    if isinstance(part.images, tuple):
        return Part(tuple(part.images[i] for i in indices), part.labels[indices])
    return Part(part.images[indices], part.labels[indices])


SOURCES = (
    Source(
        "digits",
        lambda source: source == "digits",
        _load_digits,
        "handwritten digits that come with scikit-learn",
    ),
    Source(
        "FILE.npz",
        lambda source: source.endswith(".npz") and Path(source).is_file(),
        _load_npz,
        "arrays x_train, y_train, x_test, y_test or images, labels",
    ),
    Source(
        "FOLDER",
        lambda source: Path(source).is_dir(),
        _load_folder,
        "one folder a class, with train/ and test/ above them or without",
    ),
)


def _names() -> list[str]:
    return [row.name for row in SOURCES if row.name.islower()]


def _neighbours(source: str) -> list[str]:
    """Folders and .npz files beside the one that does not exist, for the nearest name."""
    parent = Path(source).parent
    if not parent.is_dir():
        return []
    return [str(p) for p in parent.iterdir() if p.suffix == ".npz" or p.is_dir()]
