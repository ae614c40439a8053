"""Decoded images in a file, named by a hash of everything it depends on."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
from filelock import FileLock, Timeout

from keras_resnext.data.parts import Part, Records
from keras_resnext.data.resize import Resize

VERSION = 1
PIXELS, SHAPES, META = "pixels.bin", "shapes.npy", "meta.json"

Images = Iterator[tuple[np.ndarray, int]]


def write_file(parent: Path, part: Part, resize: Resize, images: Callable[[], Images]) -> Path:
    """Write the result of `images()` below a folder, unless it exists, and return the path."""
    folder = parent / _key(part, resize)
    if not _is_whole(folder):
        parent.mkdir(parents=True, exist_ok=True)
        with FileLock(_lock_path(folder)):
            _remove_leftovers(parent)
            if not _is_whole(folder):  # another process may have written it meanwhile
                _write(folder, images())
    return folder


def read_file(folder: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Map a cache into memory: all pixels in a row, shapes (count, 3), and labels."""
    shapes = np.load(folder / SHAPES, allow_pickle=False)
    flat = np.memmap(folder / PIXELS, np.uint8, mode="c")
    return flat, shapes[:, :3], shapes[:, 3].astype(np.int64)


def _key(part: Part, resize: Resize) -> str:
    # The words are those that caches of earlier versions are named by.
    text = f"{VERSION} Form(edge={resize.edge}, size={resize.size})"
    digest = hashlib.sha256(text.encode())
    for chunk in fingerprint(part):
        digest.update(chunk)
    return digest.hexdigest()[:24]


def fingerprint(part: Part) -> Iterator[bytes]:
    """Yield bytes to hash: everything that a part's images, order and labels depend on."""
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
    """Return whether the folder exists and its files still have the right lengths."""
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        return all((folder / name).stat().st_size == size for name, size in meta["bytes"].items())
    except (OSError, ValueError, KeyError):
        return False


def _write(folder: Path, images: Images) -> None:
    unfinished = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a process that was killed: the lock is ours
    try:
        _write_files(unfinished, images)
        if folder.exists():  # damaged after it was written
            shutil.rmtree(folder)
        os.replace(unfinished, folder)
    except BaseException:  # a full disk, an image that cannot be decoded, Ctrl-C
        shutil.rmtree(unfinished, ignore_errors=True)
        raise


def _write_files(folder: Path, images: Images) -> None:
    folder.mkdir()
    rows = []
    with open(folder / PIXELS, "wb") as file:
        for image, label in images:
            file.write(image.data)
            rows.append((*image.shape, label))
        _flush(file)
    with open(folder / SHAPES, "wb") as file:
        np.save(file, np.array(rows, np.int32), allow_pickle=False)
        _flush(file)
    sizes = {name: (folder / name).stat().st_size for name in (PIXELS, SHAPES)}
    with open(folder / META, "w", encoding="utf-8") as file:
        json.dump({"version": VERSION, "bytes": sizes}, file)
        _flush(file)


def _flush(file: IO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _lock_path(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


def _remove_leftovers(folder: Path) -> None:
    for unfinished in folder.glob("*.part"):
        lock = FileLock(_lock_path(unfinished.with_suffix("")), timeout=0)
        with suppress(Timeout), lock:  # or it is being written
            shutil.rmtree(unfinished, ignore_errors=True)
