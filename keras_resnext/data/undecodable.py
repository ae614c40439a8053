"""Finding images that cannot be decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import tensorflow as tf

from keras_resnext.data.decode import decode
from keras_resnext.data.encoded import encoded_stream
from keras_resnext.data.images import describe_broken, image_fault
from keras_resnext.data.parts import Dataset, Part
from keras_resnext.data.sources.folders import without


def without_undecodable(dataset: Dataset) -> Dataset:
    """Decode every image file once, and move those that fail to `Dataset.skipped`."""
    broken = find_undecodable(dataset.train) | find_undecodable(dataset.test)
    if not broken:
        return dataset
    parts = {name: _without(getattr(dataset, name), broken) for name in ("train", "test")}
    return replace(dataset, skipped=(*dataset.skipped, *broken.items()), **parts)


def _without(part: Part, broken: dict[str, str]) -> Part:
    return without(part, broken) if isinstance(part.images, tuple) else part


@contextmanager
def naming_undecodable(dataset: Dataset) -> Iterator[None]:
    """Turn a decoding error within the context into a `ValueError` that names the file."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ not in ("InvalidArgumentError", "UnknownError"):
            raise
        message = name_undecodable(dataset.train) or name_undecodable(dataset.test)
        if message is None:
            raise
        raise ValueError(message) from error


def name_undecodable(part: Part) -> str | None:
    """Return an error message that names every undecodable file (tf.data does not), or None."""
    broken = find_undecodable(part)
    return describe_broken(broken) if broken else None


def find_undecodable(part: Part) -> dict[str, str]:
    """Return the undecodable files of a part and what is wrong with them, by path."""
    if not isinstance(part.images, tuple):
        return {}

    def attempt(place: tf.Tensor, contents: tf.Tensor, label: tf.Tensor) -> tuple:
        pixel = tf.cond(
            tf.io.is_jpeg(contents),
            lambda: tf.reduce_max(tf.io.decode_jpeg(contents, channels=3, ratio=8)),
            lambda: tf.reduce_max(decode(contents)),
        )
        return place, pixel

    stream = encoded_stream(part).map(attempt, num_parallel_calls=tf.data.AUTOTUNE)
    good = {int(place) for place, _ in stream.ignore_errors().as_numpy_iterator()}
    bad = [path for place, path in enumerate(part.images) if place not in good]
    return {path: _decoding_fault(path) for path in bad}


def _decoding_fault(path: str) -> str:
    try:
        decode(tf.io.read_file(path))
    except (tf.errors.OpError, ValueError) as error:
        return image_fault(path) or str(error).split("} ", 1)[-1].split(" [Op:")[0]
    return "cannot be decoded"
