"""What to cache of a data set, before augmentation: planned from its size and free memory."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.data.cache_file import read_file, write_file
from keras_resnext.data.decode import decode
from keras_resnext.data.encoded import encoded_stream, read_contents
from keras_resnext.data.images import file_size
from keras_resnext.data.memory import free_disk, free_memory, readable
from keras_resnext.data.parts import Part, Records
from keras_resnext.data.resize import Resize, resize_image
from keras_resnext.data.undecodable import name_undecodable
from keras_resnext.errors import unknown

CACHES = ("auto", "memory", "encoded")
# The share of the free memory that a cache may take.
MEMORY_SHARE = 0.6
# "auto" writes files only if this variable names a folder for them.
FOLDER_VARIABLE = "KERAS_RESNEXT_CACHE"
# Sizes are estimated from this many files, or first records.
SAMPLE = 256
# An estimate from a sample may be wrong by this factor.
SPARE = 1.15
# TensorFlow's kernels crash if a tensor is not aligned to this many bytes.
ALIGNMENT = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachePlan:
    """What to cache ("decoded", "encoded", "file", "nothing" or "array"), and why."""

    kind: str
    reason: str
    decoded: int
    encoded: int
    budget: int
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Store:
    """Images that can be fetched in any order: pixels, contents of files, or paths.

    `pixels` (count, height, width, channels) holds images of one shape; otherwise `flat` holds all
    pixels in a row, with `shapes` (count, 3) and `starts`.
    """

    labels: tf.Tensor
    pixels: tf.Tensor | None = None
    flat: tf.Tensor | None = None
    shapes: tf.Tensor | None = None
    starts: tf.Tensor | None = None
    contents: tf.Tensor | None = None
    paths: tf.Tensor | None = None

    def image(self, index: tf.Tensor) -> tf.Tensor:
        """Return a decoded uint8 image (height, width, channels)."""
        if self.pixels is not None:
            return self.pixels[index]
        if self.flat is not None:
            shape, start = self.shapes[index], self.starts[index]
            size = tf.reduce_prod(tf.cast(shape, tf.int64))
            image = tf.reshape(tf.slice(self.flat, [start], [size]), shape)
            return tf.ensure_shape(image, [None, None, 3])
        return decode(self.encoded(index))

    def shape(self, index: tf.Tensor) -> tf.Tensor | None:
        """Return the height and width of decoded images, or None if they are not decoded."""
        if self.pixels is not None:
            return tf.shape(self.pixels)[1:3]
        return None if self.flat is None else tf.gather(self.shapes, index)[..., :2]

    def encoded(self, index: tf.Tensor) -> tf.Tensor | None:
        """Return the bytes of an image file, or None if only pixels are stored."""
        if self.contents is not None:
            return self.contents[index]
        return read_contents(self.paths[index]) if self.paths is not None else None


def plan_cache(
    part: Part, resize: Resize, cache: str | Path | bool = "auto", budget: int | None = None
) -> CachePlan:
    """Decide what to cache of a part: the first of decoded, encoded and nothing that fits.

    `cache` and `budget` (in bytes) are `cache` and `memory_budget` of `training_batches`. Raise a
    `ValueError` if memory does not suffice for the cache that was requested.
    """
    folder = _folder_of(cache)
    budget = int(MEMORY_SHARE * free_memory()) if budget is None else budget
    decoded, encoded = _decoded_bytes(part, resize), _encoded_bytes(part)
    sizes = {"decoded": decoded, "encoded": encoded, "budget": budget}
    array = isinstance(part.images, np.ndarray)
    if array and folder is None and part.images.shape[1:3] == _shape_of(part, resize):
        reason = f"the images are an array of {readable(part.images.nbytes)} in memory already"
        return CachePlan("array", reason, **sizes)
    if cache is False:
        return CachePlan("nothing", "as requested", **sizes)
    if folder is not None:
        return _plan_file(folder, "as requested", sizes)
    if cache == "encoded" and array:
        return CachePlan("nothing", "an array has no files to keep the bytes of", **sizes)
    if cache == "auto":
        return _plan_freely(part, sizes)
    kind = "decoded" if cache == "memory" else "encoded"
    if sizes[kind] > budget:
        raise ValueError(
            f"{kind} images would take {readable(sizes[kind])} of the {readable(budget)} "
            'of memory that may be used. Expected cache="auto", a folder for a file, or False.'
        )
    return CachePlan(kind, f"as requested: {readable(sizes[kind])}", **sizes)


def _plan_freely(part: Part, sizes: dict) -> CachePlan:
    words = {kind: readable(size) for kind, size in sizes.items()}
    room = f"of the {words['budget']} that may be used"
    if sizes["decoded"] <= sizes["budget"]:
        return CachePlan("decoded", f"decoded images take {words['decoded']} {room}", **sizes)
    too_large = f"decoded images would take {words['decoded']} {room}"
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and sizes["decoded"] * SPARE < free_disk(Path(folder)):
        return _plan_file(Path(folder), too_large, sizes)
    if sizes["encoded"] <= sizes["budget"] and not isinstance(part.images, np.ndarray):
        return CachePlan("encoded", f"{too_large}, encoded ones take {words['encoded']}", **sizes)
    return CachePlan("nothing", f"{too_large}, encoded ones {words['encoded']}", **sizes)


def _plan_file(folder: Path, reason: str, sizes: dict) -> CachePlan:
    return CachePlan("file", f"{reason}: {readable(sizes['decoded'])}", folder=folder, **sizes)


def _folder_of(cache: str | Path | bool) -> Path | None:
    if cache is False or cache in CACHES:
        return None
    if isinstance(cache, Path):
        return cache
    if isinstance(cache, str) and (os.sep in cache or Path(cache).is_dir()):
        return Path(cache)
    raise ValueError(
        f"{unknown('cache', cache, CACHES)} Or False, or a folder (with a slash: ./{cache})."
    )


def _decoded_bytes(part: Part, resize: Resize) -> int:
    """Estimate the bytes of a part's decoded images; exact if all have the same size."""
    channels = part.images.shape[-1] if isinstance(part.images, np.ndarray) else 3
    if resize.size is not None:
        return len(part) * resize.size**2 * channels
    if isinstance(part.images, np.ndarray):
        return part.images.nbytes
    shapes = np.array(_sample_shapes(part))
    scales = np.minimum(1.0, resize.edge / shapes.min(1))
    return int(np.mean(np.prod(shapes * scales[:, None], 1)) * 3 * len(part) * SPARE)


def _encoded_bytes(part: Part) -> int:
    if isinstance(part.images, np.ndarray):
        return part.images.nbytes
    length = os.path.getsize if isinstance(part.images, tuple) else len
    return int(np.mean([length(sample) for sample in _sample(part)]) * len(part) * SPARE)


def _sample(part: Part) -> list:
    if isinstance(part.images, tuple):
        return list(part.images[:: max(1, len(part) // SAMPLE)][:SAMPLE])
    stream = part.images.read(None).take(SAMPLE).as_numpy_iterator()
    return [contents for _, contents, _ in stream]


def _sample_shapes(part: Part) -> list[tuple[int, int]]:
    if isinstance(part.images, tuple):
        return [file_size(path) for path in _sample(part)]
    return [tuple(decode(contents).shape[:2]) for contents in _sample(part)]


def _shape_of(part: Part, resize: Resize) -> tuple[int, int]:
    return part.images.shape[1:3] if resize.size is None else (resize.size, resize.size)


def fill_cache(part: Part, resize: Resize, plan: CachePlan) -> Store | None:
    """Carry out a plan; return None for `Records` that are read again in each epoch."""
    with tf.device("CPU:0"):  # never in the accelerator's memory
        if plan.kind == "decoded":
            return _store_decoded(part, resize, plan)
        if plan.kind == "file":
            return _store_file(part, resize, plan)
        if plan.kind == "encoded":
            return _store_encoded(part)
        if isinstance(part.images, Records):
            return None
        labels = tf.constant(part.labels, tf.int64)
        if isinstance(part.images, np.ndarray):
            return Store(labels, pixels=_shared(np.ascontiguousarray(part.images)))
        return Store(labels, paths=tf.constant(part.images))


def _store_encoded(part: Part) -> Store:
    stream = encoded_stream(part).map(lambda _, contents, label: (contents, label))
    contents, labels = stream.batch(len(part)).get_single_element()
    return Store(labels, contents=contents)


def _store_decoded(part: Part, resize: Resize, plan: CachePlan) -> Store:
    # Pages that are never written to take no memory: the estimate may be generous.
    room = plan.decoded if resize.size is not None else int(plan.decoded * SPARE)
    flat, done, shapes, labels = _aligned(room), 0, [], []
    for image, label in _decoded(part, resize):
        if done + image.size > room:
            log.warning("decoded images take more than estimated: they are kept encoded")
            return _store_encoded(part)
        flat[done : done + image.size] = image.reshape(-1)
        done += image.size
        shapes.append(image.shape)
        labels.append(label)
    return _store_pixels(flat[:done], np.array(shapes, np.int32), np.array(labels, np.int64))


def _store_file(part: Part, resize: Resize, plan: CachePlan) -> Store:
    def images() -> Iterator[tuple[np.ndarray, int]]:
        _check_disk(plan)
        yield from _decoded(part, resize)

    folder = write_file(plan.folder, part, resize, images)
    return _store_pixels(*read_file(folder))


def _check_disk(plan: CachePlan) -> None:
    free = free_disk(plan.folder)
    if plan.decoded > free:
        raise ValueError(
            f"decoded images would take {readable(plan.decoded)} of the {readable(free)} that are "
            f'free on the disk of {plan.folder}. Expected cache="auto", a folder with more room, '
            "or False."
        )


def _store_pixels(flat: np.ndarray, shapes: np.ndarray, labels: np.ndarray) -> Store:
    if (shapes == shapes[0]).all():
        return Store(tf.constant(labels), pixels=_shared(flat.reshape(-1, *shapes[0])))
    sizes = shapes.astype(np.int64).prod(1)
    return Store(
        tf.constant(labels),
        flat=_shared(flat),
        shapes=tf.constant(shapes),
        starts=tf.constant(np.cumsum(sizes) - sizes),
    )


def _shared(array: np.ndarray) -> tf.Tensor:
    """Return a tensor that shares the array's memory, if possible."""
    if not array.flags.writeable or array.ctypes.data % ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _aligned(size: int) -> np.ndarray:
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size]


def _decoded(part: Part, resize: Resize) -> Iterator[tuple[np.ndarray, int]]:
    """Yield resized images and labels in order; a `ValueError` names undecodable images."""
    if isinstance(part.images, np.ndarray):
        rows = tf.data.Dataset.from_tensor_slices((part.images, part.labels))
    else:
        rows = encoded_stream(part).map(lambda _, contents, label: (contents, label))

    def resized(image: tf.Tensor, label: tf.Tensor) -> tuple:
        image = decode(image) if image.dtype == tf.string else image
        return resize_image(image, resize), label

    stream = rows.map(resized, num_parallel_calls=tf.data.AUTOTUNE)
    try:
        yield from stream.prefetch(64).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise ValueError(name_undecodable(part) or str(error)) from error
