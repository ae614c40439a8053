"""Writing a data set as TFRecord shards; `pack.json`, written last, makes the folder a pack."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from filelock import FileLock

from keras_resnext.checks import check, integer
from keras_resnext.data.cache_file import fingerprint
from keras_resnext.data.encoded import encoded_stream
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
    """Write a data set as TFRecord shards, or resume writing them.

    Image files are stored unchanged, arrays as PNG. Training images are shuffled once. Two
    processes that write the same pack take turns. `progress(done, total)` counts images.
    """
    check("shard_images", shard_images, integer(1))
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
    """Claim the folder; return whether the pack is already complete."""
    for name in (PACK, PLAN):
        path = folder / name
        if path.exists():
            existing = json.loads(path.read_text(encoding="utf-8"))
            if any(existing.get(key) != value for key, value in plan.items()):
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
        for chunk in fingerprint(part):
            digest.update(chunk)
    return digest.hexdigest()


def _description(dataset: Dataset) -> dict:
    names = ("name", "class_names", "image_size", "augmentation", "mean", "std")
    return {name: getattr(dataset, name) for name in names}


def _write_part(
    folder: Path, name: str, part: Part, shard_images: int, progress: Callable[[int], None]
) -> list[dict]:
    count = -(-len(part) // shard_images)
    paths = [folder / f"{name}-{i:05}-of-{count:05}.tfrecord" for i in range(count)]
    begun = next((i for i, path in enumerate(paths) if not path.exists()), count)
    first = begun * shard_images
    progress(first)
    rows = _examples(take(part, np.arange(first, len(part))))
    sizes = [min(shard_images, len(part) - i * shard_images) for i in range(count)]
    for number in range(begun, count):
        _write_shard(paths[number], rows, sizes[number])
        progress(number * shard_images + sizes[number])
    return [
        {"file": path.name, "count": size, "bytes": path.stat().st_size}
        for path, size in zip(paths, sizes, strict=True)
    ]


def _write_shard(path: Path, rows: Iterator[bytes], count: int) -> None:
    unfinished = path.with_suffix(".part")
    with tf.io.TFRecordWriter(str(unfinished)) as writer:
        for _ in range(count):
            writer.write(next(rows))
    os.replace(unfinished, path)


def _examples(part: Part) -> Iterator[bytes]:
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
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    os.replace(unfinished, path)
