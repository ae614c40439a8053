"""A folder of TFRecord shards written by `data pack`, with the features "image" and "label"."""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from keras_resnext.data.parts import Dataset, Part, Records
from keras_resnext.data.sources import DataSource, Request

if TYPE_CHECKING:
    import tensorflow as tf

PACK = "pack.json"
FORMAT = 1


def is_pack(source: str) -> bool:
    """Return whether a folder is a complete pack."""
    return Path(source, PACK).is_file()


def load(request: Request) -> Dataset:
    """Read a pack's table of contents, and check that its shards are complete."""
    root = Path(request.source)
    try:
        pack = json.loads((root / PACK).read_text(encoding="utf-8"))
        if pack["format"] != FORMAT:
            raise ValueError(f"format {pack['format']}, expected {FORMAT}")
        parts, key = pack["parts"], pack["key"]
        train, test = (_part(root, parts[name], key) for name in ("train", "test"))
        size = request.image_size or pack["image_size"]
        return Dataset(
            name=pack["name"],
            source=request.source,
            train=train,
            test=test,
            class_names=tuple(pack["class_names"]),
            image_size=size,
            augmentation=pack["augmentation"],
            mean=tuple(pack["mean"]),
            std=tuple(pack["std"]),
        )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(
            f"{root / PACK} cannot be used: {error}. Pack the data set anew into another folder."
        ) from error


def _part(root: Path, shards: list[Mapping], key: str) -> Part:
    for shard in shards:
        path = root / shard["file"]
        if path.stat().st_size != shard["bytes"]:
            raise ValueError(f"{path} has {path.stat().st_size} bytes, not {shard['bytes']}")
    counts = [shard["count"] for shard in shards]
    paths = [str(root / shard["file"]) for shard in shards]
    starts = np.cumsum([0, *counts[:-1]])
    # Other images or labels may well make shards of the same sizes: the key is of all contents.
    identity = hashlib.sha256(json.dumps([key, shards]).encode()).hexdigest()
    return Part(Records(_reader(paths, starts), np.arange(sum(counts)), identity), None)


def _reader(paths: list[str], starts: np.ndarray) -> Callable:
    def read(seed: "tf.Tensor | None") -> "tf.data.Dataset":
        import tensorflow as tf

        def records(path: tf.Tensor, start: tf.Tensor) -> tf.data.Dataset:
            return tf.data.TFRecordDataset(path, buffer_size=4 << 20).enumerate(start)

        def parse(number: tf.Tensor, record: tf.Tensor) -> tuple:
            features = {
                "image": tf.io.FixedLenFeature([], tf.string),
                "label": tf.io.FixedLenFeature([], tf.int64),
            }
            row = tf.io.parse_single_example(record, features)
            return number, row["image"], row["label"]

        places = tf.range(len(paths))
        if seed is not None:
            places = tf.random.experimental.stateless_shuffle(places, seed)
        files = tuple(tf.gather(column, places) for column in (paths, starts.astype(np.int64)))
        files = tf.data.Dataset.from_tensor_slices(files)
        if seed is None:
            return files.flat_map(records).map(parse, num_parallel_calls=tf.data.AUTOTUNE)
        stream = files.interleave(
            records, cycle_length=min(16, len(paths)), num_parallel_calls=tf.data.AUTOTUNE
        )
        return stream.map(parse, num_parallel_calls=tf.data.AUTOTUNE)

    return read


SOURCE = DataSource("PACK", is_pack, load, "a folder that `data pack` has written")
