"""Streams of encoded image files."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from keras_resnext.data.parts import Part, Records


def read_contents(path: tf.Tensor) -> tf.Tensor:
    """Read a file."""
    return tf.io.read_file(path)


def encoded_stream(part: Part) -> tf.data.Dataset:
    """Return (place in the part, contents, label) of paths or `Records`, in order."""
    if isinstance(part.images, Records):
        return numbered_stream(part.images, None)
    rows = tf.data.Dataset.from_tensor_slices((list(part.images), part.labels)).enumerate()
    return rows.map(
        lambda place, row: (place, read_contents(row[0]), row[1]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def numbered_stream(records: Records, seed: tf.Tensor | None) -> tf.data.Dataset:
    """Return (place in the part, contents, label) of records, in an order given by the seed."""
    stream = records.read(seed)
    count = len(records.numbers)
    if count == 0 or (records.numbers[-1] == count - 1):  # all, up to the last
        return stream.take(count) if seed is None else stream
    places = np.full(records.numbers[-1] + 1, -1)
    places[records.numbers] = np.arange(count)
    places = tf.constant(places)

    def belongs(number: tf.Tensor, contents: tf.Tensor, label: tf.Tensor) -> tf.Tensor:
        inside = number < tf.size(places, tf.int64)
        return inside & (places[tf.where(inside, number, 0)] >= 0)

    return stream.filter(belongs).map(lambda number, *rest: (places[number], *rest))
