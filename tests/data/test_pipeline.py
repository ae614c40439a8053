"""The pipeline against PIL and NumPy: order, augmentation, what each epoch holds."""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnext.data import pipeline
from keras_resnext.data.datasets import Dataset, Part, load_dataset
from keras_resnext.data.resize import resize_and_crop
from keras_resnext.data.undecodable import find_undecodable, name_undecodable


def numbered(count=50, classes=5, size=8):
    """A data set of which each image is a flat grey that is its number."""
    numbers = np.arange(count, dtype=np.uint8)[:, None, None, None]
    images = np.broadcast_to(numbers, (count, size, size, 3))
    part = Part(images, np.arange(count) % classes)
    names = tuple("abcde"[:classes])
    return Dataset("numbers", "numbers", part, part, names, size, "none", batch_size=8)


def pixels(batches, dataset):
    """What the network would see, back to 0..255, and the labels' rows."""
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    images = np.concatenate(images)
    assert images.dtype == np.float32
    return (images * np.array(dataset.std) + np.array(dataset.mean)) * 255, np.concatenate(labels)


def numbers(batches, dataset):
    return pixels(batches, dataset)[0][:, 4, 4, 0].round().astype(int)


def test_each_epoch_is_the_data_set_in_another_order():
    dataset = numbered()
    batches = pipeline.training_batches(dataset, seed=1)
    epochs = [numbers(batches, dataset).tolist() for _ in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert all(epoch != sorted(epoch) for epoch in epochs)
    # Shuffled over the whole set, not within a buffer.
    assert max(epochs[0][:8]) > 25 and min(epochs[0][-8:]) < 25
    again = pipeline.training_batches(dataset, seed=1)
    assert [numbers(again, dataset).tolist() for _ in range(3)] == epochs
    other = pipeline.training_batches(dataset, seed=2)
    assert numbers(other, dataset).tolist() != epochs[0]


def test_labels_stay_with_their_images():
    dataset = numbered()
    images, labels = pixels(pipeline.training_batches(dataset), dataset)
    np.testing.assert_array_equal(images[:, 0, 0, 0].round() % 5, labels.argmax(1))


def test_label_smoothing_is_of_training_labels_only():
    dataset = numbered()
    _, labels = pixels(pipeline.training_batches(dataset, label_smoothing=0.1), dataset)
    np.testing.assert_allclose(np.unique(labels), [0.02, 0.92], rtol=1e-6)
    np.testing.assert_allclose(labels.sum(1), 1, rtol=1e-6)
    others = {"label_smoothing": 0.1, "smoothing_over": "others"}
    _, labels = pixels(pipeline.training_batches(dataset, **others), dataset)
    np.testing.assert_allclose(np.unique(labels), [0.025, 0.9], rtol=1e-6)
    with pytest.raises(ValueError, match='Unknown smoothing_over "other". Did you mean "others"'):
        pipeline.training_batches(dataset, smoothing_over="other")
    _, labels = pixels(pipeline.test_batches(dataset), dataset)
    assert set(np.unique(labels)) == {0, 1}


def test_augmentation_differs_between_epochs_and_images():
    dataset = replace(numbered(), augmentation="shift", batch_size=50)
    images = np.zeros((50, 8, 8, 3), np.uint8)
    images[:, 4, 4] = 255
    dataset = replace(dataset, train=Part(images, dataset.train.labels))
    batches = pipeline.training_batches(dataset)
    epochs = [pixels(batches, dataset)[0] for _ in range(2)]
    places = [np.argwhere(epoch[..., 0] > 128)[:, 1:] for epoch in epochs]
    assert len({tuple(place) for place in places[0]}) == 9
    assert not np.array_equal(*places)


def test_testing_neither_shuffles_nor_augments():
    dataset = replace(numbered(), augmentation="shift_flip")
    batches = pipeline.test_batches(dataset)
    for _ in range(2):
        images, labels = pixels(batches, dataset)
        np.testing.assert_allclose(images, dataset.test.images, atol=1e-3)
        np.testing.assert_array_equal(labels.argmax(1), dataset.test.labels)


def test_remainder():
    dataset = numbered()
    kept = [len(y) for _, y in pipeline.training_batches(dataset, 8)]
    dropped = [len(y) for _, y in pipeline.training_batches(dataset, 8, drop_remainder=True)]
    assert kept == [8] * 6 + [2] and dropped == [8] * 6


def test_grey_arrays_are_shown_in_every_channel():
    dataset = load_dataset("digits")
    images, _ = pixels(pipeline.test_batches(dataset), dataset)
    np.testing.assert_allclose(images, np.repeat(dataset.test.images, 3, -1), atol=1e-3)


@pytest.mark.parametrize("suffix, tolerance", [("png", 0), ("bmp", 0), ("gif", 0), ("jpg", 6)])
def test_files_are_decoded_as_pillow_does(tmp_path, suffix, tolerance, make_folder):
    rng = np.random.default_rng(0)
    root = make_folder(tmp_path, count=5, suffix=suffix)
    for path in root.rglob(f"*.{suffix}"):
        smooth = rng.integers(0, 256, (4, 4, 3)).repeat(4, 0).repeat(4, 1).astype(np.uint8)
        Image.fromarray(smooth).save(path)
    dataset = load_dataset(root)
    images, _ = pixels(pipeline.test_batches(dataset), dataset)
    expected = [np.asarray(Image.open(path).convert("RGB")) for path in dataset.test.images]
    np.testing.assert_allclose(images, expected, atol=tolerance + 1e-3)


def test_images_of_other_sizes_are_resized_and_cropped(tmp_path):
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("flower.jpg"))
    for number, (label, size) in enumerate(
        [("a", (96, 64)), ("a", (64, 64)), ("b", (50, 90)), ("b", (32, 32))] * 3
    ):
        (tmp_path / label).mkdir(exist_ok=True)
        photo.resize(size).save(tmp_path / label / f"{number}.png")
    dataset = load_dataset(tmp_path, 32)
    dataset = replace(dataset, test=dataset.train)
    images, _ = pixels(pipeline.test_batches(dataset), dataset)
    for path, image in zip(dataset.test.images, images, strict=True):
        original = Image.open(path)
        width, height = (32 * edge // min(original.size) for edge in original.size)
        resized = np.asarray(original.resize((width, height), Image.BILINEAR)).astype(float)
        top, left = (round((edge - 32) / 2) for edge in (height, width))
        assert np.abs(image - resized[top : top + 32, left : left + 32]).mean() < 0.6, path


def test_photographs_are_tested_on_the_middle(tmp_path, make_folder):
    make_folder(tmp_path, size=(80, 80))
    dataset = load_dataset(tmp_path, 70)
    assert dataset.augmentation == "resized_crop_flip(0.35)"
    assert pipeline.test_edge(dataset) == 80
    gradient = np.arange(80, dtype=np.uint8)[:, None, None] + np.zeros((80, 80, 3), np.uint8)
    cropped = resize_and_crop(gradient, 80, 70).numpy()
    np.testing.assert_array_equal(cropped[:, 0, 0], np.arange(5, 75))
    batch, _ = next(iter(pipeline.training_batches(dataset)))
    assert batch.shape == (8, 70, 70, 3)


def test_an_image_that_fails_only_when_decoded_is_named(tmp_path, make_folder):
    root = make_folder(tmp_path, count=6)
    for name in ("cat", "dog"):
        for path in sorted((root / name).iterdir())[:2]:
            contents = path.read_bytes()
            place = contents.index(b"IDAT")
            path.write_bytes(contents[: place + 4] + b"x" * 8 + contents[place + 12 :])
    dataset = load_dataset(root, 16)
    with pytest.raises(ValueError, match=r"(?s)Unreadable image .*(cat|dog)/[01].png: "):
        pipeline.training_batches(dataset, cache="memory")
    broken = find_undecodable(dataset.train) | find_undecodable(dataset.test)
    assert sorted(path[-9:] for path in broken) == [
        "cat/0.png", "cat/1.png", "dog/0.png", "dog/1.png"
    ]  # fmt: skip
    assert "png" in name_undecodable(dataset.train)


@pytest.mark.only_tensorflow
def test_stored_answers_are_no_part_of_the_graph():
    """Which may not be larger than 2 GiB."""
    answers = np.random.default_rng(0).random((50, 10_000), np.float32)
    training = pipeline.prepare_training(numbered(), teacher_probabilities=answers)
    assert "CPU:0" in training.teacher_probabilities.device
    assert pipeline.prepare_training(numbered()).teacher_probabilities is None
    places = tf.constant([3, 1], tf.int64)
    batch = (tf.zeros((2, 8, 8, 3), tf.uint8), tf.constant([0, 1], tf.int64), places, places)
    function = tf.function(lambda *parts: pipeline.finish_batch(training, [parts]))
    (_, found), _ = function(*batch)
    np.testing.assert_array_equal(found, answers[[3, 1]])
    graph = function.get_concrete_function(*batch).graph.as_graph_def()
    assert graph.ByteSize() < answers.nbytes / 10


@pytest.mark.slow
def test_speed_of_small_images():
    """50,000 images of 32 pixels a second and more on two idle cores; a fifth is demanded here."""
    import time

    rng = np.random.default_rng(0)
    part = Part(rng.integers(0, 256, (20_000, 32, 32, 3), dtype=np.uint8), np.arange(20_000) % 10)
    names = tuple("0123456789")
    batches = pipeline.training_batches(
        Dataset("noise", "noise", part, part, names, 32, "shift_flip")
    )
    best = 0
    for _ in range(3):
        begin = time.perf_counter()
        for _ in batches:
            pass
        best = max(best, 20_000 / (time.perf_counter() - begin))
    assert best > 10_000
