"""Data sets from real folders and files, made by PIL and NumPy."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_resnext.data import sources
from keras_resnext.data.datasets import DATA_SOURCES, load_dataset, stratified_split
from keras_resnext.data.images import image_fault


def arrays(count=10, size=12, classes=2):
    return {
        "images": np.zeros((count, size, size, 3), np.uint8),
        "labels": np.arange(count) % classes,
    }


def write_npz(path, **contents):
    np.savez(path, **contents)
    return str(path)


def test_digits_are_those_of_scikit_learn_with_a_fixed_test_part():
    from sklearn.datasets import load_digits

    dataset, other = load_dataset("digits", seed=0), load_dataset("digits", seed=7)
    np.testing.assert_array_equal(dataset.test.images, other.test.images)
    np.testing.assert_array_equal(dataset.train.labels, other.train.labels)
    assert dataset.image_size == 32 and dataset.class_names == tuple("0123456789")
    share = np.bincount(dataset.test.labels) / np.bincount(load_digits().target)
    np.testing.assert_allclose(share, 0.2, atol=0.005)
    # Averaging each 4x4 block of the enlarged image gives, nearly, the original's pixels.
    images = np.concatenate([dataset.train.images, dataset.test.images])[..., 0]
    blocks = images.reshape(-1, 8, 4, 8, 4).mean((2, 4))
    originals = load_digits().images
    total = originals.sum() * 255 / 16
    assert abs(blocks.sum() / total - 1) < 0.01
    keys = {tuple(np.argsort(image.ravel())[-8:]) for image in originals}
    assert len(keys) > 1000
    assert images.max() == 255 and images.min() == 0


def test_digits_mean_and_std_are_those_of_the_training_part():
    dataset = load_dataset("digits")
    pixels = dataset.train.images / 255
    assert pixels.mean() == pytest.approx(dataset.mean[0], abs=0.002)
    assert pixels.std() == pytest.approx(dataset.std[0], abs=0.002)


def test_enlarging_is_pillows_bilinear():
    from sklearn.datasets import load_digits

    from keras_resnext.data.sources.digits import _enlarge

    for image in load_digits().images[:3] * (255 / 16):
        expected = Image.fromarray(image.astype(np.float32)).resize((32, 32), Image.BILINEAR)
        ours = _enlarge(image[None], 32)[0].astype(float)
        np.testing.assert_allclose(ours, np.asarray(expected), atol=0.51)


def test_digits_are_drawn_at_the_size_asked_for():
    assert load_dataset("digits", 64).train.images.shape[1:] == (64, 64, 1)


def test_a_split_keeps_each_class_in_both_parts():
    labels = np.repeat([0, 1, 2, 3], [50, 10, 2, 1])
    train, test = stratified_split(labels, 0.2, seed=3)
    assert sorted([*train, *test]) == list(range(63))
    np.testing.assert_array_equal(np.bincount(labels[test], minlength=4), [10, 2, 1, 0])
    assert list(test) == list(stratified_split(labels, 0.2, seed=3)[1])
    assert list(test) != list(stratified_split(labels, 0.2, seed=4)[1])


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_folder_with_train_and_test(tmp_path, test_name, make_folder):
    make_folder(tmp_path / "train", count=4)
    make_folder(tmp_path / test_name, count=2)
    dataset = load_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (8, 4)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.image_size == 16
    for part in (dataset.train, dataset.test):
        for path, label in zip(part.images, part.labels, strict=True):
            assert f"/{dataset.class_names[label]}/" in path


def test_folder_without_parts_is_split_by_seed(tmp_path, make_folder):
    make_folder(tmp_path / "pets", count=10, suffix="jpg")
    splits = [load_dataset(tmp_path / "pets", seed=seed) for seed in (0, 0, 1)]
    tests = [set(dataset.test.images) for dataset in splits]
    assert tests[0] == tests[1] != tests[2]
    assert not tests[0] & set(splits[0].train.images)
    assert np.bincount(splits[0].test.labels).tolist() == [2, 2]
    assert splits[0].name == "pets"


def test_train_and_test_in_capitals(tmp_path, make_folder):
    make_folder(tmp_path / "Train", count=4)
    make_folder(tmp_path / "TEST", count=2)
    dataset = load_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (8, 4)
    assert dataset.class_names == ("cat", "dog")


@pytest.mark.parametrize("name", ["test", "Val"])
def test_a_test_folder_alone_is_no_class(tmp_path, name, make_folder):
    make_folder(tmp_path, ("cat", "dog", name))
    with pytest.raises(
        ValueError, match=rf"/{name} has no training folder beside it. Expected .*/train, .*rename"
    ):
        load_dataset(tmp_path)


def test_only_a_train_folder_is_split(tmp_path, make_folder):
    make_folder(tmp_path / "train", count=10)
    dataset = load_dataset(tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (16, 4)


def test_dirty_folder(tmp_path, make_folder):
    make_folder(tmp_path / "cat_and_dog")
    root = tmp_path / "cat_and_dog"
    (root / ".git").mkdir()
    (root / ".DS_Store").write_bytes(b"x")
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    (root / "cat" / "._0.png").write_bytes(b"x")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    (root / "cat" / "notes.txt").write_text("not an image")
    (root / "cat" / ".thumbnails").mkdir()
    (root / "cat" / ".thumbnails" / "0.png").write_bytes((root / "cat" / "0.png").read_bytes())
    (root / "dog" / "more").mkdir()
    Image.new("RGB", (16, 16)).save(root / "dog" / "more" / "UPPER.JPG", "JPEG")
    dataset = load_dataset(root)
    assert len(dataset.train) + len(dataset.test) == 11


def test_images_of_several_sizes_want_a_size(tmp_path, make_folder):
    make_folder(tmp_path / "a", ("cat",), size=(16, 16))
    make_folder(tmp_path / "a", ("dog",), size=(20, 24))
    with pytest.raises(ValueError, match=r"differ in size: .*16x16, .*24x20. Give an image size"):
        load_dataset(tmp_path / "a")
    assert load_dataset(tmp_path / "a", 32).image_size == 32


def test_npz_with_parts(tmp_path):
    part = arrays()
    source = write_npz(
        tmp_path / "toy.npz",
        x_train=part["images"],
        y_train=part["labels"][:, None],
        x_test=part["images"][:4, ..., 0],
        y_test=part["labels"][:4],
        class_names=np.array(["red", "blue"]),
    )
    dataset = load_dataset(source)
    assert (dataset.name, dataset.class_names) == ("toy", ("red", "blue"))
    assert (len(dataset.train), len(dataset.test), dataset.image_size) == (10, 4, 12)
    assert dataset.train.labels.shape == (10,)


def test_npz_without_parts_is_split_and_grey_is_not_mirrored(tmp_path):
    colour = load_dataset(write_npz(tmp_path / "c.npz", **arrays()))
    part = arrays()
    grey = load_dataset(write_npz(tmp_path / "g.npz", **part | {"images": part["images"][..., 0]}))
    assert (len(grey.train), len(grey.test)) == (8, 2)
    assert (colour.augmentation, grey.augmentation) == ("shift_flip", "shift")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": np.zeros((0, 12, 12, 3), np.uint8)}, "images is empty"),
        ({"images": np.zeros((10, 12, 12, 3))}, "images is float64. Expected uint8"),
        ({"images": np.zeros((10, 12), np.uint8)}, r"shape \(10, 12\). Expected \(count"),
        ({"images": np.zeros((10, 12, 12, 4), np.uint8)}, "1 or 3 channels"),
        ({"images": np.zeros((10, 4, 4, 3), np.uint8)}, "4x4 pixels. Expected at least 8x8"),
        ({"images": np.zeros((10, 12, 9, 3), np.uint8)}, "12x9 pixels, not square"),
        ({"images": np.zeros((9, 12, 12, 3), np.uint8)}, "9 images, labels 10 labels"),
        ({"labels": np.arange(10) % 2 * 1.0}, "labels has shape .* of float64"),
        ({"labels": np.zeros(10, int)}, "one class only"),
        ({"labels": np.arange(10) % 2 - 1}, "label -1. Expected the labels 0 to 1"),
        ({"labels": np.arange(10) % 2 * 5}, "label 5. Expected the labels 0 to 1"),
        ({"labels": np.array([None] * 10)}, "pickled"),
        ({"images": None, "pictures": np.zeros(3)}, "holds the arrays labels, pictures. Expected"),
    ],
)
def test_wrong_npz(tmp_path, change, message):
    contents = {k: v for k, v in (arrays() | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        load_dataset(write_npz(tmp_path / "wrong.npz", **contents))


def test_npz_that_is_none(tmp_path):
    whole = Path(write_npz(tmp_path / "a.npz", **arrays())).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[:99])
    (tmp_path / "empty.npz").touch()
    for name in ("cut.npz", "empty.npz"):
        with pytest.raises(ValueError, match=f"{name} cannot be read"):
            load_dataset(tmp_path / name)


def test_test_labels_beyond_the_classes(tmp_path):
    part = arrays()
    contents = {"x_train": part["images"], "y_train": part["labels"], "x_test": part["images"]}
    source = write_npz(tmp_path / "a.npz", **contents, y_test=part["labels"] + 1)
    with pytest.raises(ValueError, match="test part has the label 2"):
        load_dataset(source)


@pytest.mark.parametrize("name, row", DATA_SOURCES.items())
def test_sources_are_whole(name, row):
    assert name == row.name and len(row.summary) > 10 and not row.summary.endswith(".")
    assert callable(row.load) and not row.accepts("/no/such/place")


SQUARES = """
import numpy as np
from keras_resnext.data.sources import DataSource, arrays

def load(request):
    images = np.zeros((20, 16, 16, 3), np.uint8)
    images[10:, 4:12, 4:12] = 255
    return arrays.from_arrays({"images": images, "labels": np.arange(20) // 10}, request)

SOURCE = DataSource("squares", lambda source: source == "squares", load, "white squares, or none")
"""


def test_a_source_is_added_in_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    (tmp_path / "squares.py").write_text(SQUARES)
    monkeypatch.setitem(DATA_SOURCES, "squares", sources.find_sources()["squares"])
    assert load_dataset("squares").class_names == ("0", "1")
    with pytest.raises(ValueError, match="squares: white squares, or none"):
        load_dataset("/no/such/place")
    (tmp_path / "half.py").write_text(SQUARES.split("SOURCE")[0])
    with pytest.raises(AttributeError, match="SOURCE"):
        sources.find_sources()


def test_unknown_data_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match='Unknown data "digit".*Did you mean "digits"'):
        load_dataset("digit")
    (tmp_path / "flowers").mkdir()
    with pytest.raises(ValueError, match='Did you mean "flowers"'):
        load_dataset("flower")
    with pytest.raises(ValueError) as error:
        load_dataset("/no/such/place")
    for name in DATA_SOURCES:
        assert name in str(error.value)


def test_wrong_folders(tmp_path, make_folder):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match="No image in .*empty. Expected one folder per class"):
        load_dataset(empty)
    (empty / "cat").mkdir()
    (empty / "cat" / "a.tiff").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"No image.*Found only \.tiff"):
        load_dataset(empty)
    Image.new("RGB", (16, 16)).save(empty / "loose.png")
    with pytest.raises(ValueError, match="loose.png and 0 more lie beside"):
        load_dataset(empty)
    one = make_folder(tmp_path / "one", ("cat",))
    with pytest.raises(ValueError, match='one class only, "cat"'):
        load_dataset(one)
    (one / "dog").mkdir()
    with pytest.raises(ValueError, match="class folder .*dog has no image"):
        load_dataset(one)
    few = make_folder(tmp_path / "few", count=1)
    with pytest.raises(ValueError, match="one image per class"):
        load_dataset(few)


def test_class_folders_that_disagree(tmp_path, make_folder):
    make_folder(tmp_path / "train", ("cat", "dog"))
    make_folder(tmp_path / "test", ("cat", "god"))
    with pytest.raises(ValueError, match='"dog" is in .*train only; "god" is in .*test only'):
        load_dataset(tmp_path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "gif"])
def test_truncated_empty_and_foreign_files_are_named(tmp_path, suffix, make_folder):
    root = make_folder(tmp_path, suffix=suffix)
    victim = root / "dog" / f"3.{suffix}"
    whole = victim.read_bytes()
    assert image_fault(victim) is None
    for contents, words in (
        (whole[: len(whole) // 2], "truncated"),
        (b"", "empty"),
        (b"<html>404</html>", "neither JPEG, PNG"),
    ):
        victim.write_bytes(contents)
        with pytest.raises(ValueError, match=f"Unreadable image .*dog/3.{suffix}: .*{words}"):
            load_dataset(root)


@pytest.mark.parametrize("part", ["train", "test", "."])
def test_a_part_of_nothing_but_broken_files_is_refused(tmp_path, part, make_folder):
    for name in ("train", "test") if part != "." else (".",):
        make_folder(tmp_path / name, count=2)
    broken = sorted((tmp_path / part).rglob("*.png"))
    for path in broken:
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="4 files are not whole images.*nothing is left") as error:
        load_dataset(tmp_path, on_error="skip")
    for path in broken:
        assert f"{path}: the file is empty" in str(error.value)


def test_a_test_split_of_nothing_but_broken_files_is_refused(tmp_path, make_folder):
    make_folder(tmp_path, count=3)
    (tmp_path / "dog" / "2.png").write_bytes(b"")
    rows = [f"{name}/{n}.png,{name},train" for name in ("cat", "dog") for n in range(2)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,split", *rows, "dog/2.png,dog,test"]))
    with pytest.raises(ValueError, match="dog/2.png: the file is empty.*nothing is left"):
        load_dataset(table, on_error="skip")


def test_size_below_the_least():
    with pytest.raises(
        ValueError, match="`image_size`. Expected an integer of at least 8.*image_size=4"
    ):
        load_dataset("digits", 4)
