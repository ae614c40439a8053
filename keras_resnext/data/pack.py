"""Writing a data set as TFRecord shards: a few large files instead of many small ones.

A shard is written under another name and renamed when it is whole; ``pack.json``, without which no
folder is taken for a pack, comes last. Packing again goes on after the last whole shard.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf
from filelock import FileLock

from keras_resnext.data.cache import encoded_stream, identity
from keras_resnext.data.parts import Dataset, Part, Records, take
from keras_resnext.data.sources.packs import FORMAT, PACK

PLAN, LOCK = "plan.json", ".lock"
SHARD_IMAGES = 1024


def write_pack(
    dataset: Dataset,
    folder: str | Path,
    shard_images: int = SHARD_IMAGES,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Write a data set as TFRecord shards, or go on where writing it was interrupted.

    Image files are stored as they are, arrays as PNG. Training images are shuffled once, since
    records are read as they lie. Two processes that write the same pack take turns.

    Args:
        dataset: From ``load_dataset``.
        folder: To write to: new, empty, or holding this pack, whole or begun.
        shard_images: Images a file.
        progress: Called with the number of images that are written and that of all.

    Returns:
        The folder, which ``load_dataset`` takes.

    Raises:
        ValueError: If the folder holds anything else, or for less than one image a file.
    """
    if shard_images < 1:
        raise ValueError(
            "Invalid value for `shard_images`. Expected at least 1. "
            f"Received: shard_images={shard_images}"
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": _shuffled(dataset.train), "test": dataset.test}
    plan = {"format": FORMAT, "shard_images": shard_images, "key": _key(dataset, parts)}
    with FileLock(folder / LOCK):
        if _begin(folder, plan):
            return folder
        total, done, shards = sum(map(len, parts.values())), 0, {}
        for name, part in parts.items():
            shards[name] = _write_part(
                folder, name, part, shard_images, lambda n, d=done: progress(d + n, total)
            )
            done += len(part)
        _write_json(folder / PACK, plan | _description(dataset) | {"parts": shards})
    return folder


def _begin(folder: Path, plan: dict) -> bool:
    """Claim the folder; say whether the pack is whole already."""
    for name in (PACK, PLAN):
        path = folder / name
        if path.exists():
            there = json.loads(path.read_text(encoding="utf-8"))
            if any(there.get(key) != value for key, value in plan.items()):
                raise ValueError(
                    f'The folder "{folder}" holds a pack of other data, or of other shards. '
                    "Name another folder, or remove it."
                )
            return name == PACK
    others = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    if others:
        raise ValueError(f'The folder "{folder}" is not empty: {others[0]}. Name a new one.')
    _write_json(folder / PLAN, plan)
    return False


def _shuffled(part: Part) -> Part:
    if isinstance(part.images, Records):
        return part
    return take(part, np.random.default_rng(0).permutation(len(part)))


def _key(dataset: Dataset, parts: dict[str, Part]) -> str:
    digest = hashlib.sha256(json.dumps(_description(dataset)).encode())
    for part in parts.values():
        for chunk in identity(part):
            digest.update(chunk)
    return digest.hexdigest()


def _description(dataset: Dataset) -> dict:
    names = ("name", "class_names", "image_size", "augmentation", "mean", "std")
    return {name: getattr(dataset, name) for name in names}


def _write_part(folder: Path, name: str, part: Part, shard_images: int, progress) -> list[dict]:
    count = -(-len(part) // shard_images)
    paths = [folder / f"{name}-{i:05}-of-{count:05}.tfrecord" for i in range(count)]
    begun = next((i for i, path in enumerate(paths) if not path.exists()), count)
    first = begun * shard_images
    progress(first)
    rest = take(part, np.arange(first, len(part)))
    rows = _examples(rest)
    for number in range(begun, count):
        size = min(shard_images, len(part) - number * shard_images)
        _write_shard(paths[number], rows, size)
        progress(number * shard_images + size)
    sizes = [min(shard_images, len(part) - i * shard_images) for i in range(count)]
    return [
        {"file": path.name, "count": size, "bytes": path.stat().st_size}
        for path, size in zip(paths, sizes, strict=True)
    ]


def _write_shard(path: Path, rows, count: int) -> None:
    part = path.with_suffix(".part")
    with tf.io.TFRecordWriter(str(part)) as writer:
        for _ in range(count):
            writer.write(next(rows))
    os.replace(part, path)


def _examples(part: Part):
    """Serialized examples, in order."""
    if len(part) == 0:
        return iter(())
    if isinstance(part.images, np.ndarray):
        stream = tf.data.Dataset.from_tensor_slices((part.images, part.labels))
        stream = stream.map(lambda image, label: (tf.io.encode_png(image), label))
    else:
        stream = encoded_stream(part).map(lambda _, contents, label: (contents, label))
    return (_example(*row) for row in stream.prefetch(64).as_numpy_iterator())


def _example(contents: bytes, label: int) -> bytes:
    feature = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def _write_json(path: Path, data: dict) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
