"""Operations and policies against Pillow, eagerly and inside tf.data."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

from keras_resnext.data import policies
from keras_resnext.data.augment import parse_augmentation

pytestmark = pytest.mark.only_tensorflow
LEVELS = (0.0, 0.37, 0.93)  # none of which puts a whole row on a tie


@pytest.fixture(scope="module")
def photo():
    return Image.fromarray(load_sample_image("flower.jpg")).crop((180, 100, 260, 164))


def moved(*matrix):
    return lambda image: image.transform(image.size, Image.AFFINE, matrix, fillcolor=(128,) * 3)


def by_pillow(name, value, size):
    """What Pillow does to an image."""
    enhancers = {
        "color": ImageEnhance.Color,
        "contrast": ImageEnhance.Contrast,
        "brightness": ImageEnhance.Brightness,
        "sharpness": ImageEnhance.Sharpness,
    }
    if name in enhancers:
        return lambda image: enhancers[name](image).enhance(1 + value)
    width, height = size
    return {
        "identity": lambda image: image,
        "autocontrast": ImageOps.autocontrast,
        "equalize": ImageOps.equalize,
        "invert": ImageOps.invert,
        "posterize": lambda image: ImageOps.posterize(image, int(value)),
        "solarize": lambda image: ImageOps.solarize(image, value),
        "shear_x": moved(1, value, 0, 0, 1, 0),
        "shear_y": moved(1, 0, 0, value, 1, 0),
        "translate_x": moved(1, 0, value * width, 0, 1, 0),
        "translate_y": moved(1, 0, 0, 0, 1, value * height),
        "rotate": lambda image: image.rotate(value, fillcolor=(128,) * 3),
    }[name]


@pytest.mark.parametrize("name", policies.OPERATIONS)
def test_operations_are_pillows(photo, name):
    row = policies.OPERATIONS[name]
    pixels = tf.constant(np.asarray(photo))
    compiled = tf.function(row.apply)
    for level in LEVELS:
        for sign in (1, -1) if row.signed else (1,):
            value = sign * row.value(level)
            expected = np.asarray(by_pillow(name, value, photo.size)(photo)).astype(int)
            for function in (row.apply, compiled):
                ours = function(pixels, tf.constant(value, tf.float32)).numpy().astype(int)
                off = np.abs(ours - expected)
                if name in ("shear_x", "shear_y", "translate_x", "translate_y", "rotate"):
                    assert (off.max(-1) > 0).mean() < 0.01  # a tie may be cut the other way
                else:
                    assert off.max() <= (1 if name in ENHANCING else 0)
                    assert (off > 0).mean() < 0.002


ENHANCING = ("color", "contrast", "brightness", "sharpness")


def test_grey_images_and_flat_ones(photo):
    flat = tf.constant(np.full((16, 16, 3), 77, np.uint8))
    single = tf.constant(np.asarray(photo.convert("L"))[..., None])
    for name, row in policies.OPERATIONS.items():
        value = row.value(0.5)
        assert row.apply(single, value).shape == single.shape
        if name in ("autocontrast", "equalize", "color", "sharpness", "contrast"):
            np.testing.assert_array_equal(row.apply(flat, value), flat)


def test_published_policies_have_the_sub_policies_of_the_paper():
    for name in policies.POLICIES:
        policy = policies.published_policy(name)
        assert len(policy) == 25 and {len(row) for row in policy} == {2}
    assert policies.published_policy("imagenet")[0] == (
        ("posterize", 0.4, 8 / 9),
        ("rotate", 0.6, 1.0),
    )


def test_a_policy_applies_one_of_its_sub_policies(photo):
    """With probabilities of 1 the result is one of the four that Pillow gives."""
    policy = ((("invert", 1.0, 0.0), ("posterize", 1.0, 1.0)), (("rotate", 1.0, 0.5),) * 2)
    pixels = tf.constant(np.asarray(photo))
    inverted = np.asarray(ImageOps.posterize(ImageOps.invert(photo), 4))
    run = tf.function(lambda seed: policies.apply_policy(pixels, seed, policy))
    results = [run(tf.constant([1, n], tf.int64)).numpy() for n in range(24)]
    found = [np.array_equal(result, inverted) for result in results]
    assert 4 < sum(found) < 20
    turned = [
        np.asarray(photo.rotate(a, fillcolor=(128,) * 3).rotate(b, fillcolor=(128,) * 3))
        for a in (15, -15)
        for b in (15, -15)
    ]
    for result, other in zip(results, found, strict=True):
        near = min((result != expected).mean() for expected in turned)
        assert other or near < 0.02
    never = tuple(tuple((name, 0.0, level) for name, _, level in row) for row in policy)
    np.testing.assert_array_equal(policies.apply_policy(pixels, (1, 2), never), pixels)


def drawn(photo, name, level, draw):
    """What Pillow makes of an image by an operation at a level, in the direction of a draw."""
    row = policies.OPERATIONS[name]
    value = np.float32(row.value(level))
    return by_pillow(name, -value if row.signed and draw < 0.5 else value, photo.size)(photo)


def uniform(shape, seed, number, *bounds):
    """The draws of a function, which are all that is taken from it."""
    folded = tf.random.experimental.stateless_fold_in(tf.constant(seed, tf.int64), number)
    return tf.random.stateless_uniform(shape, folded, *bounds).numpy()


def assert_near(ours, expected):
    """But for pixels on a tie, which may come from the neighbour."""
    off = np.abs(ours.numpy().astype(int) - np.asarray(expected)).max(-1)
    assert (off > 3).mean() < 0.02 and np.median(off) <= 1


@pytest.mark.parametrize("level", [None, 7.0])
def test_rand_augment_is_pillows_operations_in_turn(photo, level):
    """Both of them at 9 of 30, or at a level of timm's, each in half of the images."""
    pixels = tf.constant(np.asarray(photo))
    run = tf.function(lambda seed: policies.rand_augment(pixels, seed, level))
    seen = set()
    for n in range(20):
        seed = (7, n)
        numbers = uniform([2], seed, 0, 0, len(policies.RANDAUGMENT), tf.int32)
        draws, applied = uniform([2], seed, 1), uniform([2], seed, 2) < (0.5 if level else 1)
        names = np.where(applied, np.array(policies.RANDAUGMENT)[numbers], "identity")
        expected = photo
        for name, draw in zip(names, draws, strict=True):
            expected = drawn(expected, name, level / 10 if level else 0.3, draw)
        if "equalize" not in names[1:] and "autocontrast" not in names[1:]:  # which enlarge ties
            assert_near(run(tf.constant(seed, tf.int64)), expected)
        seen |= set(names)
    assert len(seen) > 9


def test_aug_mix_is_a_mixture_of_pillows_chains(photo):
    """Algorithm 1 of the paper, from the same draws."""
    pixels = tf.constant(np.asarray(photo))
    run = tf.function(lambda seed: policies.aug_mix(pixels, seed, width=2, depth=2))
    for n in range(6):
        seed = (2, n)
        draws, lengths = uniform([2, 2, 3], seed, 0), uniform([2], seed, 1, 1, 3, tf.int32)
        weights = -np.log(uniform([2], seed, 2, 1e-7, 1))
        mixture = 0
        for chain, length, weight in zip(draws, lengths, weights / weights.sum(), strict=True):
            image = photo
            for number, level, draw in chain[:length]:
                level = 0.3 * (int(level * 10) + 1) / 10
                image = drawn(image, policies.AUGMIX[int(number * 9)], level, draw)
            mixture = mixture + weight * np.asarray(image, float)
        share = uniform([], seed, 3)
        expected = np.rint((1 - share) * np.asarray(photo, float) + share * mixture)
        assert_near(run(tf.constant(seed, tf.int64)), expected.astype(int))


def test_policy_files(tmp_path, photo):
    path = tmp_path / "mine.json"
    policy = [[["invert", 1.0, 0.0], ["identity", 1.0, 0.0]]]
    path.write_text(json.dumps({"format": 1, "policy": policy}))
    row = parse_augmentation(f"flip+{path}")
    assert len(row.steps) == 2
    images = np.asarray(photo)[None]
    np.testing.assert_array_equal(row.steps[1](images, (1, 2), 64), 255 - images)
    for wrong, message in (
        ([[["invrt", 1, 0]]], 'Unknown operation "invrt". Did you mean "invert"'),
        ([[["invert", 2, 0]]], "expected 0 to 1"),
        ([], "same number of steps"),
        ("x", "holds no policy"),
    ):
        path.write_text(json.dumps({"format": 1, "policy": wrong}))
        with pytest.raises(ValueError, match=message):
            parse_augmentation(str(path))
    path.write_text(json.dumps({"format": 2, "policy": policy}))
    with pytest.raises(ValueError, match="format 2, expected 1"):
        parse_augmentation(str(path))
