"""What two epochs hold, for every source and every way of keeping images between them."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnext import cli
from keras_resnext.data import datasets, pack, pipeline
from keras_resnext.data.parts import labels_of, take

COUNT, SIZE = 40, 16
pytestmark = pytest.mark.only_tensorflow


def pictures(count=COUNT, shape=(SIZE, SIZE)):
    """The number of an image is its level of grey, less a pixel that shows where it was shifted."""
    images = np.zeros((count, *shape, 3), np.uint8)
    images[:] = (np.arange(count) * 6)[:, None, None, None]
    images[:, shape[0] // 2, shape[1] // 2 - 3] = 255
    return images


def write_folder(root, images, labels, names=("cat", "dog")):
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        (root / names[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(root / names[label] / f"{number:03}.png")


def digits_source(root):
    return "digits"


def npz_source(root):
    images, labels = pictures(), np.arange(COUNT) % 2
    np.savez(root / "a.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    return root / "a.npz"


def folder_source(root):
    for name in ("train", "test"):
        write_folder(root / "folder" / name, pictures(), np.arange(COUNT) % 2)
    return root / "folder"


def csv_source(root):
    write_folder(root, pictures(), np.arange(COUNT) % 2)
    with open(root / "a.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["Path", "label", "split"])
        for name in ("train", "test"):
            for path in sorted(root.rglob("*.png")):
                table.writerow([path.relative_to(root), path.parent.name, name])
    return root / "a.csv"


def pack_source(root):
    dataset = datasets.load_dataset(npz_source(root))
    return pack.write_pack(dataset, root / "pack", shard_images=7)


def pets_info(builder):
    import tensorflow_datasets as tfds

    image = tfds.features.Image(shape=(SIZE, SIZE, 3))
    label = tfds.features.ClassLabel(names=["cat", "dog"])
    features = tfds.features.FeaturesDict({"image": image, "label": label})
    return tfds.core.DatasetInfo(builder=builder, features=features)


def tfds_source(root):
    import tensorflow_datasets as tfds

    class NumberedImages(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return pets_info(self)

        def _split_generators(self, _):
            return {"train": self._generate_examples(), "test": self._generate_examples()}

        def _generate_examples(self):
            for number, image in enumerate(pictures()):
                yield number, {"image": image, "label": number % 2}

    NumberedImages(data_dir=str(root)).download_and_prepare()
    return f"tfds:numbered_images@{root}"


MAKERS = {
    "digits": digits_source,
    "tfds:NAME": tfds_source,
    "FILE.npz": npz_source,
    "FILE.csv": csv_source,
    "PACK": pack_source,
    "FOLDER": folder_source,
}
# An array, files, and records: what is beyond the source itself sees no more than these.
KINDS = [
    pytest.param("FILE.npz"),
    pytest.param("FOLDER"),
    pytest.param("PACK", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data sets by the name of their source, made once."""
    found = {}

    def make(name):
        if name not in found:
            found[name] = make_dataset(name, tmp_path_factory.mktemp("source"))
        return found[name]

    return make


@pytest.fixture
def dataset(request, made):
    """A data set of every row of the table: a new row has to be given a maker."""
    return made(request.param)


def make_dataset(name, folder):
    dataset = datasets.load_dataset(MAKERS[name](folder))
    if dataset.name == "digits":
        part = take(dataset.train, np.arange(COUNT))
        part.images[:] = (np.arange(COUNT) * 6)[:, None, None, None]
        part.images[:, 16, 13] = 255
        object.__setattr__(dataset, "train", part)
        object.__setattr__(dataset, "test", take(part, np.arange(COUNT)))
    return dataset


def numbers(images, dataset):
    """Which image each is: its middle, where neither a shift nor the mark reaches."""
    pixels = (images * np.array(dataset.std) + np.array(dataset.mean)) * 255
    return np.rint(np.median(pixels, axis=(1, 2))[:, 0] / 6).astype(int)


def epoch(batches):
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


COMBINATIONS = [(name, False) for name in datasets.DATA_SOURCES]
COMBINATIONS += [("FILE.npz", "folder"), ("FILE.npz", "auto")]
COMBINATIONS += [("FOLDER", cache) for cache in ("memory", "encoded", "folder")]
COMBINATIONS += [
    pytest.param("PACK", cache, marks=pytest.mark.slow) for cache in ("memory", "encoded", "folder")
]


@pytest.mark.parametrize("source, cache", COMBINATIONS)
def test_epochs_of_every_source_and_cache(made, source, cache, tmp_path):
    dataset = made(source)
    cache = tmp_path / "cache" if cache == "folder" else cache
    batches = pipeline.training_batches(dataset, 16, seed=3, augmentation="shift", cache=cache)
    epochs = [epoch(batches) for _ in range(2)]
    orders = [numbers(images, dataset) for images, _ in epochs]
    for order, (_, labels) in zip(orders, epochs, strict=True):
        assert sorted(order) == list(range(COUNT))  # each image, once
        if dataset.classes == 2:
            np.testing.assert_array_equal(labels.argmax(1), order % 2)
    assert orders[0].tolist() != orders[1].tolist()
    assert orders[0].tolist() != sorted(orders[0])
    same = [images[np.argsort(order)] for order, (images, _) in zip(orders, epochs, strict=True)]
    moved = [not np.array_equal(a, b) for a, b in zip(*same, strict=True)]
    assert 0.6 < np.mean(moved) <= 1
    again = pipeline.training_batches(dataset, 16, seed=3, augmentation="shift", cache=cache)
    for one, other in zip(epochs[0], epoch(again), strict=True):
        np.testing.assert_array_equal(one, other)
    tests = pipeline.test_batches(dataset, 16, cache=cache)
    tests = [epoch(tests) for _ in range(2)]
    np.testing.assert_array_equal(tests[0][0], tests[1][0])
    pixels = (tests[0][0] * np.array(dataset.std) + np.array(dataset.mean)) * 255
    order = numbers(tests[0][0], dataset)
    expected = pictures(COUNT, pixels.shape[1:3])[order]
    np.testing.assert_allclose(pixels, expected, atol=1e-3)  # as they are
    if not dataset.source.startswith("tfds"):  # which orders what it stores by hash
        in_order = list(range(COUNT))
        by_class = sorted(in_order, key=lambda n: (n % 2, n))
        assert order.tolist() in (in_order, by_class)


@pytest.mark.parametrize("dataset", KINDS, indirect=True)
def test_all_epochs_in_one_pass_are_the_same_epochs(dataset):
    one_by_one = pipeline.training_batches(dataset, 16, drop_remainder=True, cache=False)
    together = pipeline.training_batches(dataset, 16, drop_remainder=True, cache=False, epochs=2)
    first, second = epoch(one_by_one), epoch(one_by_one)
    images, labels = epoch(together)
    np.testing.assert_array_equal(images, np.concatenate([first[0], second[0]]))
    np.testing.assert_array_equal(labels, np.concatenate([first[1], second[1]]))
    assert int(together.cardinality()) == 4


@pytest.mark.parametrize("dataset", KINDS, indirect=True)
def test_batches_begin_anywhere_as_they_would_have_gone_on(dataset, monkeypatch):
    """Whatever the program's own seed, here of two streams; what is skipped is not decoded."""
    options = {"augmentation": "shift", "mixing": "mixup1", "drop_remainder": True, "cache": False}
    training = pipeline.prepare_training(dataset, 16, seed=3, **options)
    whole = list(pipeline.assemble(training, 3).as_numpy_iterator())
    assert len(whole) == 3 * 2
    decode, decoded = pipeline.decode, []

    def counted(contents):
        tf.numpy_function(lambda: decoded.append(1) or np.int32(0), [], tf.int32)
        return decode(contents)

    monkeypatch.setattr(pipeline, "decode", counted)
    for start, left in (((0, 1), 5), ((1, 1), 3), ((3, 0), 0)):
        tf.random.set_seed(left)
        decoded.clear()
        rest = pipeline.assemble(training, 3, start)
        assert int(rest.cardinality()) == left
        assert_same(list(rest.as_numpy_iterator()), whole[len(whole) - left :])
        arrays = isinstance(dataset.train.images, np.ndarray)
        assert len(decoded) == (0 if arrays else left * 2 * 16)
    one_by_one = pipeline.assemble(training, start=(1, 1))
    for expected in (whole[3:4], whole[4:]):  # the rest of an epoch, then whole ones
        assert_same(list(one_by_one.as_numpy_iterator()), expected)


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for ours, theirs in zip(batches, expected, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("start", [(-1, 0), (0, 2), (0, -1), (2, 1), (3, 0)])
def test_there_is_no_such_start(made, start):
    training = pipeline.prepare_training(made("FILE.npz"), 16, drop_remainder=True)
    with pytest.raises(ValueError, match="an epoch of 2 epochs, from 0, and one of its 2 steps"):
        pipeline.assemble(training, 2, start)


def test_photographs_of_several_sizes(tmp_path):
    """Cropped from files, from encoded and from decoded images: the same windows."""
    images = [pictures(6, shape)[n] for n, shape in enumerate([(40, 56), (64, 40), (44, 44)] * 2)]
    ramps = [image + np.arange(image.shape[1], dtype=np.uint8)[None, :, None] for image in images]
    write_folder(tmp_path, ramps, [0, 1] * 3)
    dataset = datasets.load_dataset(tmp_path, 24)
    results = {}
    for cache in (False, "encoded", "memory", tmp_path / "cache"):
        batches = pipeline.training_batches(
            dataset, 4, seed=1, cache=cache, augmentation="resized_crop_flip"
        )
        results[str(cache)] = [epoch(batches) for _ in range(2)]
    reference = results.pop("False")
    for found in results.values():
        for (images, labels), (images2, labels2) in zip(reference, found, strict=True):
            np.testing.assert_array_equal(labels, labels2)
            # Kept decoded, images are of the size that testing resizes them to: softer.
            assert np.abs(images - images2).mean() < 0.25
    np.testing.assert_array_equal(reference[0][0], results["encoded"][0][0])
    np.testing.assert_array_equal(results["memory"][1][0], results[str(tmp_path / "cache")][1][0])


def test_published_datasets_of_tfds_are_read(tmp_path):
    """A builder of TFDS itself, with made-up images: its features, splits and names."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=12, data_dir=str(tmp_path)):
        dataset = datasets.load_dataset("tfds:cifar10")
        assert (len(dataset.train), len(dataset.test)) == (12, 12)
        assert (dataset.classes, dataset.image_size) == (10, 32)
        for batches in (
            pipeline.training_batches(dataset, 5, cache=False),
            pipeline.test_batches(dataset, 5, cache="memory"),
        ):
            images, labels = epoch(batches)
            assert images.shape == (12, 32, 32, 3) and labels.shape == (12, 10)
            assert images.std() > 0.5 and set(labels.sum(1)) == {1.0}


def test_unlabelled_splits_of_tfds_are_not_measured_on(tmp_path):
    import tensorflow_datasets as tfds

    class SecretLabels(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return pets_info(self)

        def _split_generators(self, _):
            counts = {"train": 8, "test": 5, "val": 3}
            return {name: self._generate_examples(name, n) for name, n in counts.items()}

        def _generate_examples(self, split, count):
            for number, image in enumerate(pictures(count)):
                yield number, {"image": image, "label": -1 if split == "test" else number % 2}

    SecretLabels(data_dir=str(tmp_path)).download_and_prepare()
    dataset = datasets.load_dataset(f"tfds:secret_labels@{tmp_path}")
    assert (len(dataset.train), len(dataset.test)) == (8, 3)
    assert labels_of(dataset.test).min() == 0
    for asked in ("train,test", "train,test[1:]", "test"):
        with pytest.raises(ValueError, match=r'split "test.*" of .*"secret_labels" has no labels'):
            datasets.load_dataset(f"tfds:secret_labels,{asked}@{tmp_path}")


def test_without_a_network_it_says_how_to_bring_the_data(tmp_path):
    import tensorflow_datasets as tfds

    class FarAway(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = tfds.features.FeaturesDict({"image": tfds.features.Image()})
            return tfds.core.DatasetInfo(builder=self, features=features)

        def _split_generators(self, manager):
            raise OSError("<urlopen error [Errno -2] Name or service not known>")

        def _generate_examples(self):
            return ()

    with pytest.raises(ValueError) as error:
        datasets.load_dataset(f"tfds:far_away@{tmp_path}")
    for words in (
        f'"far_away" is not in {tmp_path}/far_away/1.0.0',
        "Name or service not known",
        "`tfds build far_away`",
        "--data tfds:far_away@FOLDER, or set TFDS_DATA_DIR",
    ):
        assert words in str(error.value)


def test_the_command_packs_what_training_reads(tmp_path, capsys):
    source, target = folder_source(tmp_path), tmp_path / "pack"
    line = ["data", "pack", "--data", str(source), "--output", str(target), "--shard-images", "16"]
    assert cli.main(line) == 0
    assert f"keras-resnext train --data {target}" in capsys.readouterr().out
    original, packed = datasets.load_dataset(source), datasets.load_dataset(target)
    for kind in ("train", "test"):
        some = replace(original, test=getattr(original, kind))
        packed_some = replace(packed, test=getattr(packed, kind))
        images, labels = epoch(pipeline.test_batches(some))
        found = epoch(pipeline.test_batches(packed_some))
        order, found_order = (np.argsort(numbers(x, original)) for x in (images, found[0]))
        np.testing.assert_array_equal(found[0][found_order], images[order])
        np.testing.assert_array_equal(found[1][found_order], labels[order])
    stamps = [path.stat().st_mtime_ns for path in sorted(target.iterdir())]
    assert cli.main(line) == 0  # whole already
    assert [path.stat().st_mtime_ns for path in sorted(target.iterdir())] == stamps
    assert cli.main([*line[:-1], "17"]) == 2
    assert "holds a pack of other data, or of other shards" in capsys.readouterr().err


@pytest.mark.parametrize("size", [0, -1])
def test_a_pack_has_an_image_a_shard_at_least(tmp_path, size):
    with pytest.raises(
        ValueError, match=f"`shard_images`. Expected an integer of at least 1. .*={size}"
    ):
        pack.write_pack(datasets.load_dataset("digits"), tmp_path / "pack", shard_images=size)
    assert not (tmp_path / "pack").exists()


def test_a_pack_keeps_what_the_data_set_knows(tmp_path):
    original = datasets.load_dataset(folder_source(tmp_path))
    path = pack.write_pack(original, tmp_path / "pack", shard_images=10)
    packed = datasets.load_dataset(path)
    for name in ("name", "class_names", "image_size", "augmentation", "mean", "std"):
        assert getattr(packed, name) == getattr(original, name)
    assert len(list(path.glob("train-*.tfrecord"))) == 4
    numbers = [number for number, *_ in packed.train.images.read(None).as_numpy_iterator()]
    assert numbers == list(range(COUNT))
    with pytest.raises(ValueError, match="holds a pack of other data"):
        pack.write_pack(datasets.load_dataset("digits"), path)
    (path / "train-00002-of-00004.tfrecord").write_bytes(b"short")
    with pytest.raises(ValueError, match="train-00002.* has 5 bytes"):
        datasets.load_dataset(path)
    (path / "pack.json").write_text(json.dumps({"format": 99}))
    with pytest.raises(ValueError, match=r"pack.json cannot be used: format 99"):
        datasets.load_dataset(path)


def test_deterministic_batches_do_not_depend_on_cores(tmp_path):
    dataset = datasets.load_dataset(folder_source(tmp_path))
    results = []
    for threads in (1, 4):
        options = tf.data.Options()
        options.threading.private_threadpool_size = threads
        batches = pipeline.training_batches(
            dataset, 8, augmentation="resized_crop_flip", mixing="mixup+cutmix", cache=False
        )
        results.append(epoch(batches.with_options(options)))
    for one, four in zip(*results, strict=True):
        np.testing.assert_array_equal(one, four)
