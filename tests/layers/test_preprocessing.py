"""The transform of published networks, against Pillow doing what torchvision's transforms do."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_resnext.layers import Preprocessing

RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Height and width: landscape, portrait, tiny (enlarged), odd rests of the crop, the size itself.
SHAPES = [(375, 500), (301, 203), (40, 31), (333, 334), (64, 64)]


def picture(height, width):
    """Smooth with an edge and some noise, as photographs are."""
    random = np.random.RandomState(height)
    y, x = np.mgrid[:height, :width]
    waves = np.sin(x / 9)[..., None] * np.cos(y / 13)[..., None] * (60, 80, 100) + 128
    waves[height // 3 :, width // 2 :] += 70
    return np.clip(waves + random.normal(0, 12, waves.shape), 0, 255).astype("uint8")


def by_pillow(image, layer):
    """Resize, CenterCrop and Normalize as torchvision defines them for Pillow images."""
    height, width = image.shape[:2]
    short = min(height, width)
    edge = int(layer.size / layer.crop)
    size = (int(edge * width / short), int(edge * height / short))
    resized = Image.fromarray(image).resize(size, RESAMPLING[layer.interpolation])
    left, top = (round((side - layer.size) / 2.0) for side in size)
    cropped = np.asarray(resized.crop((left, top, left + layer.size, top + layer.size)))
    return (cropped / 255 - layer.mean) / layer.std


def levels(layer, difference):
    return np.abs(difference * layer.std * 255)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("interpolation", RESAMPLING)
@pytest.mark.parametrize("size, crop", [(64, 0.875), (60, 1.0)])
def test_it_is_pillows(shape, interpolation, size, crop):
    layer, image = Preprocessing(size, crop, interpolation), picture(*shape)
    found = keras.ops.convert_to_numpy(layer(image[None]))[0]
    off = levels(layer, found - by_pillow(image, layer))
    # Pillow's weights have 22 bits: a pixel at half a level may round to the other.
    assert off.max() < 1.01 and (off > 0.5).mean() < 0.05


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("interpolation", RESAMPLING)
def test_for_tf_data(shape, interpolation):
    import tensorflow as tf

    layer, image = Preprocessing(56, 0.95, interpolation), picture(*shape)
    (found,) = tf.data.Dataset.from_tensors(image).map(layer.for_tf_data()).as_numpy_iterator()
    assert found.shape == (56, 56, 3) and found.dtype == "float32"
    off = levels(layer, found - by_pillow(image, layer))
    assert off.max() < 2.01 and (off > 0.5).mean() < 0.05


def test_any_size_of_picture_in_one_model(tmp_path):
    layer = Preprocessing(32, mean=(0.5,) * 3, std=(0.5,) * 3, name="images")
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, keras.layers.GlobalMaxPooling2D()(layer(image)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for shape in ((40, 50), (90, 33)):
        x = picture(*shape)[None]
        expected = by_pillow(x[0], layer).max((0, 1))
        np.testing.assert_allclose(loaded.predict(x, verbose=0)[0], expected, atol=0.01)


def test_a_picture_that_fits_may_be_left():
    import tensorflow as tf

    image, other = picture(32, 32), picture(40, 33)
    layer = Preprocessing(32, mean=(0,) * 3, std=(1,) * 3, resize_fitting=False)
    plain = Preprocessing(32, mean=(0,) * 3, std=(1,) * 3)
    for x, expected in ((image, image / 255), (other, by_pillow(other, plain))):
        found = keras.ops.convert_to_numpy(layer(x[None]))[0]
        np.testing.assert_allclose(found, expected, atol=1.01 / 255)
        np.testing.assert_allclose(
            layer.for_tf_data()(tf.constant(x)).numpy(), expected, atol=1.01 / 255
        )
    np.testing.assert_allclose(layer(image[None])[0], image / 255, atol=1e-6)
    assert np.abs(keras.ops.convert_to_numpy(plain(image[None]))[0] - image / 255).max() > 0.05


def test_half_precision_only_at_the_end():
    image = picture(48, 48)[None]
    exact = keras.ops.convert_to_numpy(Preprocessing(32)(image))
    half = Preprocessing(32, dtype="mixed_bfloat16")(image)
    assert keras.backend.standardize_dtype(half.dtype) == "bfloat16"
    half = keras.ops.convert_to_numpy(keras.ops.cast(half, "float32"))
    np.testing.assert_allclose(half, exact, rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": 0}, "`size`. Expected an integer of at least 1"),
        ({"crop": 1.2}, "`crop`. Expected a number of at most 1 and above 0"),
        ({"interpolation": "nearest"}, 'Unknown interpolation "nearest"'),
        ({"mean": (0.5,)}, "`mean`. Expected 3 numbers, one per channel"),
        ({"std": (1, 0, 1)}, "`std`. Expected 3 numbers above 0"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Preprocessing(**({"size": 224} | arguments))
