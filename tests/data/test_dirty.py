"""Images as people have them: every kind read rightly, every broken one named or left out."""

import csv
import io
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps
from rich.console import Console
from sklearn.datasets import load_sample_image

from keras_resnext import cli
from keras_resnext.data import datasets
from keras_resnext.data.audit import audit_dataset
from keras_resnext.data.decode import (
    Crop,
    crop_image,
    decode,
    decode_crop,
    pixel_windows,
    relative_windows,
)
from keras_resnext.data.images import image_fault
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.train import train

pytestmark = pytest.mark.only_tensorflow


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("flower.jpg")).resize((80, 60))


def encoded(image, kind, **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def animated(photo):
    frames = [photo.quantize(64), photo.transpose(Image.FLIP_LEFT_RIGHT).quantize(64)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def deep(photo):
    """16 bits a pixel; Pillow itself cuts those at 255, so that 8 bits are what it should be."""
    grey = np.asarray(photo.convert("L")).astype(np.uint16) * 257
    return encoded(Image.fromarray(grey), "PNG")


# What is stored, and what Pillow shows of it (None: what Pillow shows of the file itself).
KINDS = {
    "grey": (lambda p: encoded(p.convert("L"), "JPEG"), None),
    "CMYK": (lambda p: encoded(p.convert("CMYK"), "JPEG", quality=95), None),
    "progressive": (lambda p: encoded(p, "JPEG", progressive=True), None),
    "16 bit": (deep, lambda p: p.convert("L")),
    "palette": (lambda p: encoded(p.quantize(32), "PNG", transparency=3), None),
    "transparent": (lambda p: encoded(p.convert("RGBA"), "PNG"), None),
    "one bit": (lambda p: encoded(p.convert("1"), "PNG"), None),
    "animated GIF": (animated, None),
    "WebP": (lambda p: encoded(p, "WEBP", lossless=True), None),
    "BMP palette": (lambda p: encoded(p.quantize(32), "BMP"), None),
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_read_as_pillow_does(photo, name, tmp_path):
    make, shown = KINDS[name]
    contents = make(photo)
    expected = shown(photo) if shown else Image.open(io.BytesIO(contents))
    expected = np.asarray(expected.convert("RGB")).astype(int)
    # JPEGs differ by how their colours are enlarged.
    tolerance = 2.5 if contents.startswith(b"\xff\xd8") else 0
    assert np.abs(decode(tf.constant(contents)).numpy() - expected).mean() <= tolerance
    path = tmp_path / "image.jpg"  # whatever it is
    path.write_bytes(contents)
    assert image_fault(path) is None


@pytest.mark.parametrize("preview", [False, True])
def test_a_film_after_the_image_is_no_fault(photo, preview, tmp_path):
    """A motion photo is whole where its image is; a preview in its header has an end of its own."""
    exif = Image.Exif()
    if preview:
        exif[0x010E] = b"\xff\xd8 preview \xff\xd9" + bytes(5000)
    image, film = encoded(photo, "JPEG", exif=exif), bytes(3 << 20)
    assert (image.index(b"\xff\xd9") < len(image) - 2) == preview
    path = tmp_path / "motion.jpg"
    path.write_bytes(image + film)
    assert image_fault(path) is None
    assert decode(tf.io.read_file(str(path))).shape == (60, 80, 3)
    path.write_bytes(image[:-2] + film)
    assert image_fault(path) == "the JPEG file is truncated"
    path.write_bytes(image[: image.index(b"\xff\xc0") + 40] + film)
    assert image_fault(path) == "the JPEG file is truncated"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_photographs_are_turned_upright(photo, turn, kind):
    exif = Image.Exif()
    exif[0x010E], exif[0x0112] = "a description", turn
    contents = encoded(photo, kind, exif=exif, quality=95)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(contents))).convert("RGB")
    ours = decode(tf.constant(contents)).numpy().astype(int)
    assert ours.shape == np.asarray(expected).shape
    assert np.abs(ours - np.asarray(expected)).mean() < 2.5


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_fused_crop_is_the_crop_of_the_upright_image(turn):
    """On a smooth picture, where coarser decoding and resizing lose nothing."""
    rows, columns = np.mgrid[0:180, 0:240]
    smooth = np.stack([rows, columns, (rows + columns) // 2], -1).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = turn
    contents = tf.constant(encoded(Image.fromarray(smooth), "JPEG", exif=exif, quality=98))
    whole = decode(contents)
    for number, crop in enumerate((Crop((0.05, 0.2)), Crop((0.5, 1.0)))):
        window = relative_windows(tf.random.stateless_uniform([4], (turn, number)), crop)
        expected = crop_image(whole, pixel_windows(window, whole.shape[:2]), 48).numpy().astype(int)
        ours = decode_crop(contents, window, 48).numpy().astype(int)
        assert np.abs(ours - expected).mean() < 2.5
        flipped = np.abs(ours[:, ::-1] - expected).mean()
        assert flipped > 4  # or the picture would not tell


def test_branches_for_rare_files_stay_functions():
    """Or each of their operations would be passed by for every image."""
    crop = tf.function(lambda contents: decode_crop(contents, tf.constant([0.5] * 4), 32))
    graph = crop.get_concrete_function(tf.TensorSpec([], tf.string)).graph.as_graph_def()
    assert sum(function.attr["_noinline"].b for function in graph.library.function) >= 2


def broken_in_eight_ways(contents: bytes) -> dict[str, bytes]:
    """By what it is; the PNG is corrupt where only decoding tells."""
    png = encoded(Image.open(io.BytesIO(contents)), "PNG")
    place = png.index(b"IDAT") + 4
    return {
        "empty": b"",
        "truncated": contents[: len(contents) // 2],
        "a page": b"<!DOCTYPE html><html>404</html>",
        "zeros": bytes(2000),
        "header only": contents[:20],
        "noise": np.random.default_rng(0).bytes(3000),
        "no frame": b"\xff\xd8\xff" + b"nonsense" * 40 + b"\xff\xd9",
        "corrupt": png[:place] + b"x" * 16 + png[place + 16 :],
    }


def make_dirty(root, count, share=0.05):
    """A folder of which every 20th image is broken; gives the broken, and those by header."""
    photo = Image.fromarray(load_sample_image("flower.jpg")).resize((24, 24))
    good = encoded(photo, "JPEG")
    ways = list(broken_in_eight_ways(good).items())
    broken, by_header, step = set(), set(), round(1 / share)
    for number in range(count):
        path = root / ("cat", "dog")[number // step % 2] / f"{number:04}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(good)
        if number % step == 0:
            name, contents = ways[number // step % len(ways)]
            path.write_bytes(contents)
            broken.add(str(path))
            if name != "corrupt":
                by_header.add(str(path))
    return broken, by_header


def tiny():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            layers.Conv2D(4, 3, strides=4),
            layers.GlobalAveragePooling2D(),
            layers.Dense(2, "softmax", dtype="float32"),
        ]
    )


def test_a_dirty_folder_trains_with_skip_and_is_named_with_raise(tmp_path):
    broken, by_header = make_dirty(tmp_path / "dirty", count=320)
    assert len(broken) == 16
    with pytest.raises(ValueError, match="files are not whole images") as error:
        datasets.load_dataset(tmp_path / "dirty", 24)
    named = {line.split("Unreadable image ")[1].split(": ")[0] for line in
             str(error.value).splitlines()[1:]}  # fmt: skip
    assert named == by_header
    dataset = datasets.load_dataset(tmp_path / "dirty", 24, on_error="skip")
    settings = Recipe(epochs=1, batch_size=50, on_error="skip")
    console = Console(file=io.StringIO(), width=200)
    summary = train(tiny(), dataset, settings, tmp_path / "run", console=console)
    with open(tmp_path / "run" / "skipped.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == broken and len(rows) == 16
    assert all(row["fault"] for row in rows)
    assert summary["skipped_images"] == 16
    assert summary["train_images"] + summary["test_images"] == 304
    assert "left out: 16 broken files" in console.file.getvalue()


def test_what_only_decoding_shows_is_named_or_left_out_by_every_command(
    photo, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for k in range(12):
        path = tmp_path / "photos" / "ab"[k % 2] / f"{k}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        photo.resize((24, 24)).save(path)
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 0xFF
    path.write_bytes(contents)
    data = ["--data", "photos", "--image-size", "16"]
    profile = ["profile", "--seconds", "0.01", "--batch-size", "4"]
    for command in (["data", "show", "--count", "12"], profile):
        assert cli.main([*command, *data]) == 2
        assert f"Unreadable image photos/b/{path.name}" in capsys.readouterr().err
    assert cli.main([*profile, *data, "--on-error", "skip"]) == 0
    assert cli.main(["data", "pack", *data, "--output", "pack", "--on-error", "skip"]) == 0
    packed = datasets.load_dataset("pack", 16)
    assert len(packed.train) + len(packed.test) == 11


def test_check_reports_what_is_there(tmp_path, capsys):
    broken, _ = make_dirty(tmp_path / "train", count=60, share=0.1)
    make_dirty(tmp_path / "test", count=20, share=0.0001)
    (tmp_path / "test" / "dog").mkdir(exist_ok=True)
    other = Image.fromarray(np.zeros((30, 50, 3), np.uint8))
    other.save(tmp_path / "test" / "dog" / "other.png")
    assert cli.main(["data", "check", "--data", str(tmp_path), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    extra = {path for path in report["broken"] if path not in broken}
    assert broken <= set(report["broken"]) and len(extra) <= 1
    assert report["sizes"][0] == [24, 24] and report["sizes"][2] == [30, 50]
    assert sum(train for train, _ in report["counts"].values()) >= 54 - 1
    assert len(report["duplicates"]) == 19
    assert cli.main(["data", "check", "--data", "digits"]) == 0
    assert "broken files: 0" in capsys.readouterr().out
    assert audit_dataset(datasets.load_dataset("digits")).counts["0"] == (142, 36)
