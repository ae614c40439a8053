"""Image classification data sets of TensorFlow Datasets, by name."""

import re
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from keras_resnext.data.parts import Dataset, Part, Records, photo_augmentation, split
from keras_resnext.data.sources import DataSource, Request
from keras_resnext.errors import unknown

if TYPE_CHECKING:
    import tensorflow as tf
    import tensorflow_datasets as tfds

PREFIX = "tfds:"
TEST_SPLITS = ("test", "validation", "val")
# tfds:NAME[/CONFIG][:VERSION][,TRAIN[,TEST]][@DATA_DIR]
PATTERN = re.compile(
    r"tfds:(?P<name>[^,@\[\]]+)(,(?P<train>[^,@]+))?(,(?P<test>[^,@]+))?(@(?P<folder>.+))?$"
)


def load(request: Request) -> Dataset:
    """Prepare a builder of TFDS; its images stay encoded until the pipeline decodes them."""
    parsed = PATTERN.match(request.source)
    if parsed is None:
        raise ValueError(
            f'"{request.source}" cannot be read. Expected tfds:NAME, tfds:NAME,TRAIN,TEST (such '
            "as tfds:cifar10,train[:80%],train[80%:]), and @FOLDER after it for a data_dir."
        )
    builder = _builder(parsed["name"], parsed["folder"])
    image, label = _keys(builder)
    train, test = _splits(builder, parsed["train"], parsed["test"], label)
    parts = {name: _part(builder, name, image, label) for name in (train, test) if name}
    if test is None:
        first, second = split(request.source, parts[train], request.seed)
    else:
        first, second = parts[train], parts[test]
    size = request.image_size or _size(request.source, builder.info.features[image].shape)
    return Dataset(
        name=builder.name,
        source=request.source,
        train=first,
        test=second,
        class_names=tuple(builder.info.features[label].names),
        image_size=size,
        augmentation=_augmentation(builder.info.features[image].shape, size),
    )


def _builder(name: str, folder: str | None) -> "tfds.core.DatasetBuilder":
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=folder)
    except tfds.core.DatasetNotFoundError as error:
        raise ValueError(unknown("TensorFlow dataset", name, tfds.list_builders())) from error
    except Exception as error:  # a version or a configuration that does not exist
        raise ValueError(f'TensorFlow Datasets has no "{name}": {error}') from error
    try:
        builder.download_and_prepare()
    except Exception as error:
        # No network, a missing package, a manual download, ...
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f'The TensorFlow dataset "{name}" is not in {builder.data_dir} and could not be '
            f"prepared there ({type(error).__name__}: {reason[0]}). On a machine with a network, "
            f"run `tfds build {name}`, copy its ~/tensorflow_datasets/{builder.name} here, and "
            f"name the folder that holds it: --data tfds:{name}@FOLDER, or set TFDS_DATA_DIR. "
            "Folders of images need no TFDS."
        ) from error
    return builder


def _keys(builder: "tfds.core.DatasetBuilder") -> tuple[str, str]:
    import tensorflow_datasets as tfds

    features = builder.info.features
    keys = [
        next((name for name, feature in features.items() if isinstance(feature, kind)), None)
        for kind in (tfds.features.Image, tfds.features.ClassLabel)
    ]
    preferred = builder.info.supervised_keys or ()
    if len(preferred) == 2 and all(isinstance(key, str) for key in preferred):
        kinds = (tfds.features.Image, tfds.features.ClassLabel)
        if all(isinstance(features[k], t) for k, t in zip(preferred, kinds, strict=True)):
            return preferred
    if None in keys:
        raise ValueError(
            f'The TensorFlow dataset "{builder.name}" has the features {", ".join(features)}. '
            "Expected an image and one class label."
        )
    return tuple(keys)


def _splits(
    builder: "tfds.core.DatasetBuilder", train: str | None, test: str | None, label: str
) -> tuple[str, str | None]:
    existing = list(builder.info.splits)
    for split_text in filter(None, (train, test)):
        for name in re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^\]]*\]", "", split_text)):
            if existing and name not in existing:
                raise ValueError(unknown(f"split of {builder.name}", name, existing))
        if not _is_labeled(builder, split_text, label):
            raise ValueError(
                f'The split "{split_text}" of the TensorFlow dataset "{builder.name}" has no '
                f"labels. Expected splits that have, of {', '.join(existing)}: "
                f"tfds:{builder.name},TRAIN,TEST."
            )
    if train:
        return train, test
    existing = existing or ["train", "test"]  # a builder that does not say
    if "train" not in existing:
        raise ValueError(
            f'The TensorFlow dataset "{builder.name}" has the splits {", ".join(existing)}, none '
            f"called train. Say which: tfds:{builder.name},TRAIN,TEST."
        )
    tests = (name for name in TEST_SPLITS if name in existing)
    return "train", next((name for name in tests if _is_labeled(builder, name, label)), None)


def _is_labeled(builder: "tfds.core.DatasetBuilder", name: str, label: str) -> bool:
    """Check the first record: if the labels of a test split are secret, all of them are -1."""
    return all(row[label] >= 0 for row in _labels(builder, name, label).take(1).as_numpy_iterator())


def _part(builder: "tfds.core.DatasetBuilder", name: str, image: str, label: str) -> Part:
    import tensorflow as tf
    import tensorflow_datasets as tfds

    def read(seed: tf.Tensor | None) -> tf.data.Dataset:
        """Read in the stored order whatever the seed: TFDS has already shuffled the records."""
        with tf.init_scope():  # TFDS cannot be asked from within tf.data
            stored = tf.autograph.experimental.do_not_convert(builder.as_dataset)(
                split=name,
                decoders={image: tfds.decode.SkipDecoding()},
                read_config=tfds.ReadConfig(try_autocache=False),
            )
        return stored.enumerate().map(
            lambda number, row: (number, row[image], tf.cast(row[label], tf.int64))
        )

    count = _count(builder, name, label)
    identity = f"{builder.info.full_name} {name} {count} {builder.data_path}"
    return Part(Records(read, np.arange(count), identity), None)


def _count(builder: "tfds.core.DatasetBuilder", name: str, label: str) -> int:
    with suppress(KeyError, ValueError):
        if count := builder.info.splits[name].num_examples:
            return count
    return sum(1 for _ in _labels(builder, name, label).batch(1024).unbatch())


def _labels(builder: "tfds.core.DatasetBuilder", name: str, label: str) -> "tf.data.Dataset":
    import tensorflow_datasets as tfds

    return builder.as_dataset(
        split=name,
        decoders=tfds.decode.PartialDecoding({label: True}),
        read_config=tfds.ReadConfig(try_autocache=False),
    )


def _size(source: str, shape: tuple) -> int:
    if shape[0] is None or shape[0] != shape[1]:
        raise ValueError(
            f"The images of {source} are of shape {tuple(shape)}. Give an image size: they are "
            "resized by the shorter side and cropped in the middle."
        )
    return shape[0]


def _augmentation(shape: tuple, size: int) -> str:
    """Return an augmentation; small gray images are writing, which must not be mirrored."""
    return "shift" if shape[2] == 1 and size <= 64 else photo_augmentation(size)


SOURCE = DataSource(
    "tfds:NAME",
    lambda source: source.startswith(PREFIX),
    load,
    "a TensorFlow dataset, such as tfds:cifar10 or tfds:cifar10,train[:80%],train[80%:]",
)
