"""What a data set is once it has been found: parts of images and labels. NumPy alone."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

TEST_FRACTION = 0.2
# What a share of a label is spread over: see ``pipeline.smooth``.
SMOOTHINGS = ("all", "others")

# Of ImageNet's training images (pixels from 0 to 1): what published ResNets were trained with, and
# near enough to any photograph for a network that begins with a batch norm.
PHOTO_MEAN, PHOTO_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class Records:
    """Encoded images that can only be read one after the other: record files, TFDS.

    Args:
        read: Takes two integers, a seed, or None for the order they are stored in, and gives a
            tf.data.Dataset of (number, contents, label): int64 from 0, bytes of an image file,
            int64. The order is a function of the seed.
        numbers: Those that belong to the part, ascending.
        identity: A text that changes whenever the images do.
    """

    read: "Callable[[tf.Tensor | None], tf.data.Dataset]"
    numbers: np.ndarray
    identity: str


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels, in order: one part (training or test) of a data set.

    Args:
        images: uint8 array of shape (count, height, width, channels), 3 channels or, grey, 1; or
            the paths of as many files; or Records.
        labels: int64 array of shape (count,), each label from 0 to the number of classes - 1. None
            for Records, which bring them along: ``labels_of`` reads them.
    """

    images: np.ndarray | tuple[str, ...] | Records
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.images.numbers if isinstance(self.images, Records) else self.labels)


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
        skipped: The files left out because they are broken, each with what is wrong with it.
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
    skipped: tuple[tuple[str, str], ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


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


def split(
    source: str, whole: Part, seed: int, fraction: float = TEST_FRACTION
) -> tuple[Part, Part]:
    """Split off a part to measure on.

    Args:
        source: For the error.
        whole: Everything there is.
        seed: Of the choice.
        fraction: Of each class. Default: a fifth.

    Returns:
        The training and the test part.

    Raises:
        ValueError: If there is one image a class.
    """
    first, second = stratified_split(labels_of(whole), fraction, seed)
    if len(second) == 0:
        raise ValueError(
            f"{source} has one image a class: none is left for a test part. Expected two or more."
        )
    return take(whole, first), take(whole, second)


def take(part: Part, indices: Sequence[int]) -> Part:
    """Keep some of a part.

    Args:
        part: Of a data set.
        indices: Places in it, ascending.

    Returns:
        A Part of as many images.
    """
    indices = np.asarray(indices, np.int64)
    labels = None if part.labels is None else part.labels[indices]
    if isinstance(part.images, Records):
        return Part(replace(part.images, numbers=part.images.numbers[indices]), labels)
    if isinstance(part.images, tuple):
        return Part(tuple(part.images[i] for i in indices), labels)
    return Part(part.images[indices], labels)


def labels_of(part: Part) -> np.ndarray:
    """Give the labels of a part; those of Records are read, which takes a pass over them.

    Args:
        part: Of a data set.

    Returns:
        int64 array of shape (count,), in the order of the part.
    """
    if part.labels is not None:
        return part.labels
    kept = {int(number): place for place, number in enumerate(part.images.numbers)}
    labels = np.zeros(len(part), np.int64)
    stream = part.images.read(None).map(lambda number, contents, label: (number, label))
    for number, label in stream.as_numpy_iterator():
        if int(number) in kept:
            labels[kept[int(number)]] = label
    return labels


def check_labels(source: str, names: Sequence[str], train: np.ndarray, test: np.ndarray) -> None:
    """Refuse labels that no network could learn.

    Args:
        source: For the error.
        names: Of the classes.
        train: Labels of the training part.
        test: Labels of the test part.

    Raises:
        ValueError: If there is one class only, or a label beyond the classes.
    """
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
    """Give the edge of images that are square.

    Args:
        source: For the error.
        shape: Height and width, pixels.

    Raises:
        ValueError: If they are not.
    """
    if shape[0] != shape[1]:
        raise ValueError(
            f"{source}: the images are {shape[0]}x{shape[1]} pixels, not square. "
            "Give an image size: they are resized by the shorter side and cropped in the middle."
        )
    return int(shape[0])


def photo_augmentation(size: int) -> str:
    """Small images fill the frame; larger ones are photographs that can be cropped anywhere.

    Args:
        size: Edge of the images, pixels.

    Returns:
        Name of a row of ``augment.AUGMENTATIONS``.
    """
    return "shift_flip" if size <= 64 else "resized_crop_flip"
