"""Augmentation against plain NumPy, eagerly and inside tf.data."""

import numpy as np
import pytest
import tensorflow as tf
from marked import rows
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_image

from keras_resnext.data.augment import (
    AUGMENTATIONS,
    apply_steps,
    color_jitter,
    cutout,
    flip,
    pad_and_crop,
    parse_augmentation,
    random_erasing,
)
from keras_resnext.data.decode import Crop, crop_image, pixel_windows, relative_windows

SEED = (3, 5)


@pytest.fixture(scope="module")
def images():
    """64 pieces of a photograph, 32 by 32."""
    photo = load_sample_image("china.jpg")
    corners = np.random.default_rng(0).integers(0, 300, (64, 2))
    return np.stack([photo[y : y + 32, x : x + 32] for y, x in corners])


def test_flip_mirrors_about_half(images):
    flipped = flip(images, SEED).numpy()
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(flipped, images, strict=True)]
    kept = [np.array_equal(a, b) for a, b in zip(flipped, images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, kept, strict=True))
    assert 16 < sum(mirrored) < 48


def test_pad_and_crop_gives_every_crop_of_the_padded_image(images):
    many = np.repeat(images[:1], 2000, axis=0)
    padded = np.pad(images[0], [(4, 4), (4, 4), (0, 0)])
    crops = {padded[y : y + 32, x : x + 32].tobytes(): (y, x) for y in range(9) for x in range(9)}
    shifts = [crops[image.tobytes()] for image in pad_and_crop(many, SEED, 32).numpy()]
    counts = np.histogram2d(*np.array(shifts).T, bins=9)[0]
    assert counts.min() > 5 and counts.max() < 60  # 24.7 expected of each


def test_random_resized_crop_is_pillows_crop_and_resize():
    """Windows by NumPy, from the same draws."""
    photo = load_sample_image("china.jpg")[:300, :400]
    count, size = 6, 96
    draws = tf.random.stateless_uniform([4, count], SEED)
    relative = relative_windows(draws, Crop())
    for number, (area, shape, y, x) in enumerate(draws.numpy().T.astype(float)):
        area = (0.08 + 0.92 * area) * 300 * 400
        ratio = np.exp(np.log(3 / 4) + shape * np.log(16 / 9))
        height, width = (
            round(min(np.sqrt(area / ratio), 300)),
            round(min(np.sqrt(area * ratio), 400)),
        )
        top, left = int(y * (301 - height)), int(x * (401 - width))
        part = Image.fromarray(photo[top : top + height, left : left + width])
        window = pixel_windows(relative[number], photo.shape[:2])
        ours = crop_image(tf.constant(photo), window, size).numpy().astype(int)
        whole = (0, 0, width, height)
        if max(height, width) > 2 * size:  # it would skip pixels
            expected = np.asarray(part.resize((size, size), Image.BILINEAR)).astype(int)
        else:
            expected = part.transform((size, size), Image.EXTENT, whole, Image.BILINEAR)
        off = np.abs(ours - np.asarray(expected))
        assert off.max() <= 2 and off.mean() < 0.6


def test_random_resized_crop_draws_areas_and_shapes_in_range():
    draws = tf.random.stateless_uniform([4, 1000], SEED)
    windows = pixel_windows(relative_windows(draws, Crop()), (96, 96)).numpy()
    _, left, height, width = windows.T
    area = width * height / 96**2
    assert 0.07 < area.min() < 0.12 and 0.9 < area.max() <= 1
    assert 0.45 < area.mean() < 0.56
    ratio = np.log(width / height)
    assert np.abs(ratio).max() < np.log(4 / 3) + 0.06
    assert abs(ratio.mean()) < 0.02
    assert 0.12 < ratio[area < 0.5].std() < 0.2  # uniform: .166
    # Small crops come from everywhere.
    assert left[area < 0.3].min() < 5 and left[area < 0.3].max() > 45


@pytest.mark.parametrize(
    "name", rows(AUGMENTATIONS, slow=["augmix", "autoaugment_cifar10", "autoaugment_svhn"])
)
def test_every_row_is_seeded_and_the_same_in_tf_data(images, name):
    row = parse_augmentation(name)
    seed = tf.constant(SEED, tf.int64)
    eager = apply_steps(tf.constant(images[:6]), seed, row, 32).numpy()
    seeds = tf.data.Dataset.from_tensor_slices([SEED, (8, 1)])
    stream = seeds.map(lambda s: apply_steps(images[:6], s, row, 32))
    same, other = stream.as_numpy_iterator()
    # Compiled, a sum may be added up in another order: a pixel is then cut one lower.
    off = np.abs(same.astype(int) - eager)
    assert off.max() <= 1 and (off > 0).mean() < 0.01
    assert eager.shape == (6, 32, 32, 3) and eager.dtype == np.uint8
    assert np.array_equal(same, other) == AUGMENTATIONS[name].crops


def test_color_jitter_is_pillows(images):
    draws = tf.random.stateless_uniform([3, 4, 1, 1, 1], SEED, -1, 1).numpy().reshape(3, 4)
    factors = 1 + 0.4 * draws
    jittered = color_jitter(tf.constant(images[:4]), SEED).numpy()
    for number, ours in enumerate(jittered):
        image = Image.fromarray(images[number])
        for kind, factor in zip(
            ("Brightness", "Contrast", "Color"), factors[:, number], strict=True
        ):
            image = getattr(ImageEnhance, kind)(image).enhance(float(factor))
        assert np.abs(ours.astype(int) - np.asarray(image)).max() <= 2


def test_cutout_paints_a_square_and_erasing_a_rectangle(images):
    many = np.repeat(np.zeros_like(images[:1]), 600, 0)
    painted = cutout(many, SEED, 32).numpy()[..., 0] == 128
    assert painted[:, 16, 16].mean() == pytest.approx(0.25, abs=0.06)  # its middle is anywhere
    for one in painted:
        rows, columns = (np.flatnonzero(one.any(axis)) for axis in (1, 0))
        assert one[np.ix_(rows, columns)].all()
        inner = rows[0] > 0 and rows[-1] < 31 and columns[0] > 0 and columns[-1] < 31
        assert not inner or (len(rows), len(columns)) == (16, 16)
    erased = random_erasing(many, SEED, 32).numpy()[..., 0] == 128
    shares = erased.mean((1, 2))
    assert (shares > 0).mean() == pytest.approx(0.5, abs=0.08)
    assert shares.max() < 0.36 and shares[shares > 0].min() < 0.06


def test_each_step_draws_for_itself(images):
    """With the same draw, two flips would undo each other."""
    twice = apply_steps(tf.constant(images), SEED, parse_augmentation("flip+flip"), 32).numpy()
    mirrored = [np.array_equal(a, b[:, ::-1]) for a, b in zip(twice, images, strict=True)]
    assert 16 < sum(mirrored) < 48
