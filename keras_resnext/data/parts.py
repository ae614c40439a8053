"""A loaded data set: parts of images and labels. Needs only NumPy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from keras_resnext import imagenet

if TYPE_CHECKING:
    import tensorflow as tf

    from keras_resnext.data.augment import Augmentation

TEST_FRACTION = 0.2
# What a share of a label is spread over: see `pipeline.smooth`.
SMOOTHINGS = ("all", "others")


@dataclass(frozen=True, eq=False)
class Records:
    """Encoded images that can only be read in sequence: record files, TFDS.

    Args:
        read: Function from a seed of two integers, which determines the order, or None for the
            stored order, to a tf.data.Dataset of (int64 number from 0, contents, int64 label).
        numbers: int array, the numbers that belong to the part, ascending.
        identity: str, a text that changes whenever the images do.
    """

    read: "Callable[[tf.Tensor | None], tf.data.Dataset]"
    numbers: np.ndarray
    identity: str


@dataclass(frozen=True, eq=False)
class Part:
    """The images and labels of one part (training or test) of a data set, in order.

    Args:
        images: uint8 array (count, height, width, 3 or 1); or a tuple of paths; or `Records`.
        labels: int64 array (count,); None for `Records`, whose labels `labels_of` reads.
    """

    images: np.ndarray | tuple[str, ...] | Records
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images.numbers if isinstance(self.images, Records) else self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set and the defaults for training on it.

    Args:
        name: str, short name that can be used for a folder.
        source: str, name or path that it was loaded from.
        train: `Part` to train on.
        test: `Part` to measure on: never shuffled, never augmented.
        class_names: tuple of str, in the order of the labels.
        image_size: int, edge in pixels of the square images that the network sees.
        augmentation: str or `Augmentation`: see `augment.parse_augmentation`.
        epochs: int, default number of epochs.
        batch_size: int, default number of images per step.
        mean: tuple of 3 floats by channel, subtracted from pixels scaled to 0..1.
        std: tuple of 3 floats by channel, by which they are then divided.
        skipped: tuple of (path, reason) of broken files.
    """

    name: str
    source: str
    train: Part
    test: Part
    class_names: tuple[str, ...]
    image_size: int
    augmentation: "str | Augmentation"
    epochs: int = 30
    batch_size: int = 64
    mean: tuple[float, float, float] = imagenet.MEAN
    std: tuple[float, float, float] = imagenet.STD
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return sorted indices of two parts; the second has a fraction of each class.

    A class of two or more images is in both parts, a single image is in the first.
    """
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        chosen.append(members[:count])
    second = np.sort(np.concatenate(chosen))
    return np.setdiff1d(np.arange(len(labels)), second), second


def split(
    source: str, whole: Part, seed: int, fraction: float = TEST_FRACTION
) -> tuple[Part, Part]:
    """Split a part into a training and a test part, which gets a fraction of each class."""
    first, second = stratified_split(labels_of(whole), fraction, seed)
    if len(second) == 0:
        raise ValueError(
            f"{source} has one image per class: none is left for a test part. Expected two or more."
        )
    return take(whole, first), take(whole, second)


def take(part: Part, indices: Sequence[int]) -> Part:
    """Return the images of a part at some places, ascending."""
    indices = np.asarray(indices, np.int64)
    labels = None if part.labels is None else part.labels[indices]
    if isinstance(part.images, Records):
        return Part(replace(part.images, numbers=part.images.numbers[indices]), labels)
    if isinstance(part.images, tuple):
        return Part(tuple(part.images[i] for i in indices), labels)
    return Part(part.images[indices], labels)


def labels_of(part: Part) -> np.ndarray:
    """Return the labels of a part, int64; for `Records`, this takes a pass over them."""
    if part.labels is not None:
        return part.labels
    places = {int(number): place for place, number in enumerate(part.images.numbers)}
    labels = np.zeros(len(part), np.int64)
    stream = part.images.read(None).map(lambda number, contents, label: (number, label))
    for number, label in stream.as_numpy_iterator():
        if int(number) in places:
            labels[places[int(number)]] = label
    return labels


def check_labels(source: str, names: Sequence[str], train: np.ndarray, test: np.ndarray) -> None:
    """Raise a `ValueError` if there is only one class, or a label beyond the classes."""
    if len(names) < 2:
        raise ValueError(f"{source} has one class only. Expected two or more.")
    for part, labels in (("training", train), ("test", test)):
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise ValueError(
                f"{source}: the {part} part has the label {wrong[0]}. Expected the labels 0 to "
                f"{len(names) - 1}, without gaps, for {len(names)} classes."
            )


def square(source: str, shape: Sequence[int]) -> int:
    """Return the edge of images of a shape, or raise a `ValueError` if they are not square."""
    if shape[0] != shape[1]:
        raise ValueError(
            f"{source}: the images are {shape[0]}x{shape[1]} pixels, not square. "
            "Give an image size: they are resized by the shorter side and cropped in the middle."
        )
    return int(shape[0])


def photo_augmentation(size: int) -> str:
    """Return the augmentation of small images, which fill the frame, or of photographs.

    Crops cover at least a third of a photograph: the usual 8 % suits hundreds of epochs.
    """
    return "shift_flip" if size <= 64 else "resized_crop_flip(0.35)"
