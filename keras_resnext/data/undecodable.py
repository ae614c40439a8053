"""Images that cannot be decoded: left out, or named where one has failed in a step."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from keras_resnext.data.cache import find_undecodable, name_undecodable
from keras_resnext.data.parts import Dataset, Part
from keras_resnext.data.sources.folders import without


def without_undecodable(dataset: Dataset) -> Dataset:
    """Decode every image once, and leave out those that fail.

    Args:
        dataset: Of files; of others nothing is left out.

    Returns:
        A Dataset, with what was left out in ``skipped``.

    Raises:
        ValueError: If nothing is left to train on, or to test on; the files are named.
    """
    broken = find_undecodable(dataset.train) | find_undecodable(dataset.test)
    if not broken:
        return dataset
    parts = {name: _without(getattr(dataset, name), broken) for name in ("train", "test")}
    return replace(dataset, skipped=(*dataset.skipped, *broken.items()), **parts)


def _without(part: Part, broken: dict[str, str]) -> Part:
    return without(part, broken) if isinstance(part.images, tuple) else part


@contextmanager
def naming_undecodable(dataset: Dataset) -> Iterator[None]:
    """Say which image it was where one that cannot be decoded fails somewhere in a step.

    Args:
        dataset: That holds it.

    Raises:
        ValueError: With the name of its file.
    """
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in ("InvalidArgumentError", "UnknownError"):
            raise
        message = name_undecodable(dataset.train) or name_undecodable(dataset.test)
        if message is None:
            raise
        raise ValueError(message) from error
