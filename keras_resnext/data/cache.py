"""What is kept of a data set between epochs, and where: planned from its size and free memory.

Never anything augmented: a cache holds whole images (or, where training crops nothing, the square
in the middle), so that every epoch differs. A file cache is named by a hash of all it depends on
(the files with their sizes and times, the form of the images, the version of this code), is written
under another name while a lock is held, and renamed when it is whole: an interrupted one is never
used, and is removed by whoever comes next.
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from filelock import FileLock, Timeout

from keras_resnext.data.decode import decode
from keras_resnext.data.forms import Form, fit_form
from keras_resnext.data.images import describe_broken, file_size, image_fault
from keras_resnext.data.memory import free_disk, free_memory, readable
from keras_resnext.data.parts import Part, Records
from keras_resnext.errors import unknown

CACHES = ("auto", "memory", "encoded")
# The share of the free memory that kept images may take.
MEMORY_SHARE = 0.6
# "auto" writes files only where this variable names a folder for them.
FOLDER_VARIABLE = "KERAS_RESNEXT_CACHE"
# Of files, and of the first records, that sizes are estimated from.
SAMPLE = 256
# An estimate from a sample may be wrong by so much before it counts.
SPARE = 1.15
VERSION = 1
# TensorFlow's kernels stop the process where a tensor begins elsewhere.
ALIGNMENT = 64
PIXELS, SHAPES, META = "pixels.bin", "shapes.npy", "meta.json"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachePlan:
    """What is kept, and why.

    Args:
        kind: "decoded", "encoded", "file", "nothing" or, where the data set is an array in memory
            already, "array".
        reason: In words.
        decoded: Bytes of all images, decoded.
        encoded: Bytes of all images, as they are stored.
        budget: Bytes that may be kept in memory.
        folder: Of a file cache.
    """

    kind: str
    reason: str
    decoded: int
    encoded: int
    budget: int
    folder: Path | None = None


@dataclass(frozen=True, eq=False)
class Kept:
    """Images that can be fetched in any order.

    Args:
        pixels: uint8 (count, height, width, channels), where all have the same shape.
        flat: uint8, all pixels one after the other, where shapes differ.
        shapes: int32 (count, 3), with ``flat``.
        starts: int64 (count,), with ``flat``.
        contents: Bytes of the image files, or
        paths: where they are.
        labels: int64 (count,).
    """

    labels: tf.Tensor
    pixels: tf.Tensor | None = None
    flat: tf.Tensor | None = None
    shapes: tf.Tensor | None = None
    starts: tf.Tensor | None = None
    contents: tf.Tensor | None = None
    paths: tf.Tensor | None = None

    def image(self, index):
        """Give a decoded image.

        Args:
            index: Scalar.

        Returns:
            uint8 of shape (height, width, channels).
        """
        if self.pixels is not None:
            return self.pixels[index]
        if self.flat is not None:
            shape, start = self.shapes[index], self.starts[index]
            size = tf.reduce_prod(tf.cast(shape, tf.int64))
            image = tf.reshape(tf.slice(self.flat, [start], [size]), shape)
            return tf.ensure_shape(image, [None, None, 3])
        return decode(self.encoded(index))

    def shape(self, index):
        """Give height and width of decoded images, or None where they are not kept decoded.

        Args:
            index: Of any shape.

        Returns:
            int32, (..., 2), or (2,) where all are the same.
        """
        if self.pixels is not None:
            return tf.shape(self.pixels)[1:3]
        return None if self.flat is None else tf.gather(self.shapes, index)[..., :2]

    def encoded(self, index):
        """Give the bytes of an image file, or None where only pixels are kept.

        Args:
            index: Scalar.
        """
        if self.contents is not None:
            return self.contents[index]
        return read_contents(self.paths[index]) if self.paths is not None else None


def read_contents(path):
    """Read a file.

    Args:
        path: Scalar string tensor.
    """
    return tf.io.read_file(path)


# ---------------------------------------------------------------------------------------- planning


def plan_cache(
    part: Part, form: Form, cache: str | Path | bool = "auto", budget: int | None = None
) -> CachePlan:
    """Decide what to keep of a part: the first of decoded, encoded and nothing that fits.

    Args:
        part: Of a data set.
        form: Of decoded images.
        cache: "auto"; "memory" for decoded images; "encoded" for the bytes of the files; a folder
            for a file of decoded images in it; or False.
        budget: Bytes of memory that may be kept. Default: 60 % of what is free.

    Returns:
        A CachePlan.

    Raises:
        ValueError: For another ``cache``, or one that memory has no room for.
    """
    folder = check_cache(cache)
    budget = int(MEMORY_SHARE * free_memory()) if budget is None else budget
    decoded, encoded = decoded_bytes(part, form), encoded_bytes(part)
    facts = {"decoded": decoded, "encoded": encoded, "budget": budget}
    if _is_in_form(part, form) and (cache in CACHES or cache is False):
        reason = f"the images are an array of {readable(part.images.nbytes)} in memory already"
        return CachePlan("array", reason, **facts)
    if cache is False:
        return CachePlan("nothing", "as asked", **facts)
    if folder is not None:
        return _plan_file(folder, "as asked", facts)
    if cache == "encoded" and isinstance(part.images, np.ndarray):
        return CachePlan("nothing", "an array has no files to keep the bytes of", **facts)
    if cache != "auto":
        kind = "decoded" if cache == "memory" else cache
        _check_room(kind, facts)
        return CachePlan(kind, f"as asked: {readable(facts[kind])}", **facts)
    return _plan_freely(part, facts)


def _plan_freely(part: Part, facts: dict) -> CachePlan:
    sizes = {kind: readable(size) for kind, size in facts.items()}
    room = f"of the {sizes['budget']} that may be used"
    if facts["decoded"] <= facts["budget"]:
        return CachePlan("decoded", f"decoded images take {sizes['decoded']} {room}", **facts)
    too_large = f"decoded images would take {sizes['decoded']} {room}"
    folder = os.environ.get(FOLDER_VARIABLE)
    if folder and facts["decoded"] * SPARE < free_disk(Path(folder)):
        return _plan_file(Path(folder), too_large, facts)
    if facts["encoded"] <= facts["budget"] and not isinstance(part.images, np.ndarray):
        reason = f"{too_large}, encoded ones take {sizes['encoded']}"
        return CachePlan("encoded", reason, **facts)
    return CachePlan("nothing", f"{too_large}, encoded ones {sizes['encoded']}", **facts)


def _plan_file(folder: Path, reason: str, facts: dict) -> CachePlan:
    return CachePlan("file", f"{reason}: {readable(facts['decoded'])}", folder=folder, **facts)


def _check_room(kind: str, facts: dict) -> None:
    if facts[kind] > facts["budget"]:
        raise ValueError(
            f"{kind} images would take {readable(facts[kind])} of the {readable(facts['budget'])} "
            'of memory that may be used. Expected cache="auto", a folder for a file, or False.'
        )


def check_cache(cache: str | Path | bool) -> Path | None:
    """Refuse what cannot be meant by ``cache``, and give the folder if it is one.

    Args:
        cache: As ``plan_cache`` takes it.

    Returns:
        The folder of a file cache, or None.

    Raises:
        ValueError: For another value, with the nearest valid one.
    """
    if cache is False or cache in CACHES:
        return None
    if isinstance(cache, Path) or (isinstance(cache, str) and _is_path(cache)):
        return Path(cache)
    raise ValueError(
        f"{unknown('cache', cache, CACHES)} Or False, or a folder (with a slash: ./{cache})."
    )


def _is_path(text: str) -> bool:
    return os.sep in text or Path(text).is_dir()


def decoded_bytes(part: Part, form: Form) -> int:
    """Estimate how much memory the decoded images of a part take.

    Args:
        part: Of a data set.
        form: Of the images.

    Returns:
        Bytes: exact where all images have the same size, else from a sample.
    """
    channels = part.images.shape[-1] if isinstance(part.images, np.ndarray) else 3
    if form.size is not None:
        return len(part) * form.size**2 * channels
    if isinstance(part.images, np.ndarray):
        return part.images.nbytes
    pixels = [np.prod(_bounded(shape, form.edge)) for shape in _sample_shapes(part)]
    return int(np.mean(pixels) * 3 * len(part) * SPARE)


def encoded_bytes(part: Part) -> int:
    """Estimate how much memory the image files of a part take.

    Args:
        part: Of a data set.

    Returns:
        Bytes, from a sample; those of an array.
    """
    if isinstance(part.images, np.ndarray):
        return part.images.nbytes
    return int(np.mean([_length(sample) for sample in _sample(part)]) * len(part) * SPARE)


def _sample(part: Part) -> list:
    """Paths from all over a part, or the contents of its first records."""
    if isinstance(part.images, tuple):
        return list(part.images[:: max(1, len(part) // SAMPLE)][:SAMPLE])
    stream = part.images.read(None).take(SAMPLE).as_numpy_iterator()
    return [contents for _, contents, _ in stream]


def _sample_shapes(part: Part) -> list[tuple[int, int]]:
    if isinstance(part.images, tuple):
        return [file_size(path) for path in _sample(part)]
    return [tuple(decode(contents).shape[:2]) for contents in _sample(part)]


def _length(sample: str | bytes) -> int:
    return len(sample) if isinstance(sample, bytes) else os.path.getsize(sample)


def _bounded(shape: tuple[int, int], edge: int) -> tuple[float, float]:
    scale = min(1.0, edge / min(shape))
    return shape[0] * scale, shape[1] * scale


def _is_in_form(part: Part, form: Form) -> bool:
    if not isinstance(part.images, np.ndarray):
        return False
    return form.size is None or part.images.shape[1:3] == (form.size, form.size)


# ----------------------------------------------------------------------------------------- keeping


def keep(part: Part, form: Form, plan: CachePlan) -> Kept | None:
    """Do what a plan says.

    Args:
        part: Of a data set.
        form: Of decoded images.
        plan: From ``plan_cache``.

    Returns:
        Kept images, or None: Records that nothing is kept of are read anew in each epoch.

    Raises:
        ValueError: If an image cannot be decoded (it is named), or the disk has no room.
    """
    with tf.device("CPU:0"):  # never in the accelerator's memory
        return KEEPERS[plan.kind](part, form, plan)


def _keep_array(part: Part, form: Form, plan: CachePlan) -> Kept:
    return Kept(_labels(part), pixels=_shared(np.ascontiguousarray(part.images)))


def _keep_nothing(part: Part, form: Form, plan: CachePlan) -> Kept | None:
    if isinstance(part.images, Records):
        return None
    if isinstance(part.images, np.ndarray):
        return _keep_array(part, form, plan)
    return Kept(_labels(part), paths=tf.constant(part.images))


def _keep_encoded(part: Part, form: Form, plan: CachePlan) -> Kept:
    stream = encoded_stream(part).map(lambda _, contents, label: (contents, label))
    contents, labels = stream.batch(len(part)).get_single_element()
    return Kept(labels, contents=contents)


def _keep_decoded(part: Part, form: Form, plan: CachePlan) -> Kept:
    # Pages that are never written to take no memory: the estimate may be generous.
    room = plan.decoded if form.size is not None else int(plan.decoded * SPARE)
    flat, done, shapes, labels = _aligned(room), 0, [], []
    for image, label in _decoded(part, form):
        if done + image.size > room:
            log.warning("decoded images take more than estimated: they are kept encoded")
            return _keep_encoded(part, form, plan)
        flat[done : done + image.size] = image.reshape(-1)
        done += image.size
        shapes.append(image.shape)
        labels.append(label)
    return _kept_pixels(flat[:done], np.array(shapes, np.int32), np.array(labels, np.int64))


def _keep_file(part: Part, form: Form, plan: CachePlan) -> Kept:
    folder = plan.folder / _key(part, form)
    if not _is_whole(folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_path(folder)):
            _remove_left_overs(plan.folder)
            if not _is_whole(folder):  # another process may have written it meanwhile
                _check_disk(plan)
                _write(folder, _decoded(part, form))
    shapes = np.load(folder / SHAPES, allow_pickle=False)
    flat = np.memmap(folder / PIXELS, np.uint8, mode="c")
    return _kept_pixels(flat, shapes[:, :3], shapes[:, 3].astype(np.int64))


def _check_disk(plan: CachePlan) -> None:
    free = free_disk(plan.folder)
    if plan.decoded > free:
        raise ValueError(
            f"decoded images would take {readable(plan.decoded)} of the {readable(free)} that are "
            f'free on the disk of {plan.folder}. Expected cache="auto", a folder with more room, '
            "or False."
        )


KEEPERS = {
    "array": _keep_array,
    "nothing": _keep_nothing,
    "encoded": _keep_encoded,
    "decoded": _keep_decoded,
    "file": _keep_file,
}


def _kept_pixels(flat: np.ndarray, shapes: np.ndarray, labels: np.ndarray) -> Kept:
    if (shapes == shapes[0]).all():
        return Kept(tf.constant(labels), pixels=_shared(flat.reshape(-1, *shapes[0])))
    sizes = shapes.astype(np.int64).prod(1)
    starts = np.cumsum(sizes) - sizes
    return Kept(
        tf.constant(labels),
        flat=_shared(flat),
        shapes=tf.constant(shapes),
        starts=tf.constant(starts),
    )


def _shared(array: np.ndarray) -> tf.Tensor:
    """A tensor of the same memory, where that can be: a copy would need it twice."""
    if not array.flags.writeable or array.ctypes.data % ALIGNMENT:
        return tf.constant(array)
    return tf.experimental.dlpack.from_dlpack(array.__dlpack__())


def _aligned(size: int) -> np.ndarray:
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size]


def _labels(part: Part) -> tf.Tensor:
    return tf.constant(part.labels, tf.int64)


def encoded_stream(part: Part) -> tf.data.Dataset:
    """Read the image files of a part in order.

    Args:
        part: Of paths or Records.

    Returns:
        A tf.data.Dataset of (place in the part, contents, label).
    """
    if isinstance(part.images, Records):
        return numbered_stream(part.images, None)
    rows = tf.data.Dataset.from_tensor_slices((list(part.images), part.labels)).enumerate()
    return rows.map(
        lambda place, row: (place, read_contents(row[0]), row[1]),
        num_parallel_calls=tf.data.AUTOTUNE,
    )


def numbered_stream(records: Records, seed: tf.Tensor | None) -> tf.data.Dataset:
    """Read the records that belong to a part.

    Args:
        records: Of the part.
        seed: Two integers, of the order of files; None for the stored order.

    Returns:
        A tf.data.Dataset of (place in the part, contents, label).
    """
    stream = records.read(seed)
    count = len(records.numbers)
    if count == 0 or (records.numbers[-1] == count - 1):  # all, up to the last
        return stream.take(count) if seed is None else stream
    places = np.full(records.numbers[-1] + 1, -1)
    places[records.numbers] = np.arange(count)
    places = tf.constant(places)

    def belongs(number, contents, label):
        inside = number < tf.size(places, tf.int64)
        return inside & (places[tf.where(inside, number, 0)] >= 0)

    return stream.filter(belongs).map(lambda number, *rest: (places[number], *rest))


def _decoded(part: Part, form: Form) -> Iterator[tuple[np.ndarray, int]]:
    """Images in their form, and labels, in order; a ValueError names what cannot be decoded."""
    auto = tf.data.AUTOTUNE
    if isinstance(part.images, np.ndarray):
        stream = tf.data.Dataset.from_tensor_slices((part.images, part.labels))
        stream = stream.map(
            lambda image, label: (fit_form(image, form), label), num_parallel_calls=auto
        )
    else:
        stream = encoded_stream(part).map(
            lambda _, contents, label: (fit_form(decode(contents), form), label),
            num_parallel_calls=auto,
        )
    try:
        yield from stream.prefetch(64).as_numpy_iterator()
    except tf.errors.OpError as error:
        raise ValueError(name_undecodable(part) or str(error)) from error


def find_undecodable(part: Part) -> dict[str, str]:
    """Decode every image of a part, coarsely where the format allows, and name what fails.

    Args:
        part: Of paths; others have none.

    Returns:
        What is wrong with it, by path.
    """
    if not isinstance(part.images, tuple):
        return {}

    def attempt(place, contents, label):
        fine = tf.cond(
            tf.io.is_jpeg(contents),
            lambda: tf.reduce_max(tf.io.decode_jpeg(contents, channels=3, ratio=8)),
            lambda: tf.reduce_max(decode(contents)),
        )
        return place, fine

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


def name_undecodable(part: Part) -> str | None:
    """Find the images behind a failure to decode, which tf.data does not name.

    Args:
        part: Of a data set.

    Returns:
        An error message that names every file that cannot be decoded, or None.
    """
    broken = find_undecodable(part)
    return describe_broken(broken) if broken else None


# -------------------------------------------------------------------------------------------- file


def _key(part: Part, form: Form) -> str:
    digest = hashlib.sha256(f"{VERSION} {form}".encode())
    for chunk in identity(part):
        digest.update(chunk)
    return digest.hexdigest()[:24]


def identity(part: Part) -> Iterator[bytes]:
    """Give all that the images of a part, their order and their labels depend on.

    Args:
        part: Of a data set.

    Yields:
        Bytes, to be hashed.
    """
    if isinstance(part.images, Records):
        yield part.images.identity.encode()
        yield part.images.numbers.tobytes()
    elif isinstance(part.images, np.ndarray):
        yield str(part.images.shape).encode()
        for chunk in range(0, len(part.images), 1024):
            yield np.ascontiguousarray(part.images[chunk : chunk + 1024]).data
        yield part.labels.tobytes()
    else:
        for path in part.images:
            status = os.stat(path)
            yield f"{os.path.abspath(path)}\0{status.st_size}\0{status.st_mtime_ns}\0".encode()
        yield part.labels.tobytes()


def _is_whole(folder: Path) -> bool:
    """The folder is renamed when it is whole; lengths are compared for what came later."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in meta["bytes"].items())
    except (OSError, ValueError, KeyError):
        return False


def _write(folder: Path, images: Iterator[tuple[np.ndarray, int]]) -> None:
    part = _part_path(folder)
    shutil.rmtree(part, ignore_errors=True)  # of a process that was killed: the lock is ours
    try:
        _write_part(part, images)
        if folder.exists():  # damaged after it was written
            shutil.rmtree(folder)
        os.replace(part, folder)
    except BaseException:  # a full disk, an image that cannot be decoded, Ctrl-C
        shutil.rmtree(part, ignore_errors=True)
        raise


def _write_part(part: Path, images: Iterator[tuple[np.ndarray, int]]) -> None:
    part.mkdir()
    rows = []
    with open(part / PIXELS, "wb") as file:
        for image, label in images:
            file.write(image.data)
            rows.append((*image.shape, label))
        _flush(file)
    with open(part / SHAPES, "wb") as file:
        np.save(file, np.array(rows, np.int32), allow_pickle=False)
        _flush(file)
    sizes = {name: (part / name).stat().st_size for name in (PIXELS, SHAPES)}
    with open(part / META, "w", encoding="utf-8") as file:
        json.dump({"version": VERSION, "bytes": sizes}, file)
        _flush(file)


def _flush(file) -> None:
    file.flush()
    os.fsync(file.fileno())


def _part_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.part")


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _remove_left_overs(folder: Path) -> None:
    """Remove what killed processes left: a lock dies with the process that held it."""
    for part in folder.glob("*.part"):
        lock = FileLock(_lock_path(part.with_suffix("")), timeout=0)
        try:
            with lock:
                shutil.rmtree(part, ignore_errors=True)
        except Timeout:
            pass  # being written
