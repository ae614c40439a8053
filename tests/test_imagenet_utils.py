"""Before and after the network, against keras.applications and NumPy."""

import warnings

import keras
import numpy as np
import pytest
from keras.src.applications import imagenet_utils as theirs

import keras_resnext
from keras_resnext import imagenet_utils
from keras_resnext.errors import DownloadError
from keras_resnext.layers import Preprocessing
from keras_resnext.models.description import warn_of_range


@pytest.fixture
def class_list(monkeypatch):
    """Keras's list of ImageNet's classes, as if it had been downloaded."""
    classes = {str(i): [f"n{i:08d}", f"thing_{i}"] for i in range(1000)}
    monkeypatch.setattr(theirs, "CLASS_INDEX", classes)
    imagenet_utils.imagenet_classes.cache_clear()
    yield
    imagenet_utils.imagenet_classes.cache_clear()


@pytest.fixture
def no_network(monkeypatch):
    def fail(*args, **kwargs):
        raise Exception("URL fetch failure: no route to host")

    monkeypatch.setattr(theirs, "CLASS_INDEX", None)
    monkeypatch.setattr(theirs.file_utils, "get_file", fail)
    imagenet_utils.imagenet_classes.cache_clear()
    yield
    imagenet_utils.imagenet_classes.cache_clear()


def test_imagenet_classes_are_decoded_as_by_keras(class_list):
    preds = np.random.RandomState(0).uniform(size=(3, 1000)).astype("float32")
    for top in (1, 5):
        expected = keras.applications.imagenet_utils.decode_predictions(preds, top)
        found = keras_resnext.decode_predictions(preds, top)
        assert [[row[:2] for row in rows] for rows in found] == [
            [row[:2] for row in rows] for rows in expected
        ]
        np.testing.assert_array_equal(
            [[row[2] for row in rows] for rows in found],
            [[row[2] for row in rows] for rows in expected],
        )


def test_names_of_ones_own_need_no_network(no_network):
    preds = keras.ops.convert_to_tensor([[0.2, 0.7, 0.1], [0.5, 0.0, 0.5]])
    found = keras_resnext.decode_predictions(preds, 2, ["a", "b", "c"])
    rounded = [[(i, name, round(score, 3)) for i, name, score in rows] for rows in found]
    assert rounded == [[(1, "b", 0.7), (0, "a", 0.2)], [(0, "a", 0.5), (2, "c", 0.5)]]
    model = keras_resnext.ResNeXt35(classes=3, blocks=(1, 1, 1))
    with pytest.raises(ValueError, match="does not know the names of its classes"):
        keras_resnext.decode_predictions(preds, class_names=model)
    keras_resnext.describe(model, class_names=["a", "b", "c"])
    assert keras_resnext.decode_predictions(preds, 2, model) == found
    array = np.array(["a", "b", "c"])  # as datasets have them
    assert keras_resnext.decode_predictions(preds, 2, array) == found
    keras_resnext.describe(model, class_names=array)
    assert keras_resnext.decode_predictions(preds, 2, model) == found


@pytest.mark.parametrize("shape", [(1000,), (2, 10), (1, 1, 1000)], ids=str)
def test_other_shapes_are_refused(class_list, shape):
    with pytest.raises(ValueError, match=r"\(batch, 1000\).*Received: "):
        keras_resnext.decode_predictions(np.zeros(shape))


def test_without_a_network_it_says_what_to_do(no_network):
    with pytest.raises(DownloadError, match="give `class_names`.*no route to host"):
        keras_resnext.decode_predictions(np.zeros((1, 1000)))


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first", None])
@pytest.mark.parametrize("kind", ["array", "uint8", "tensor"])
def test_preprocess_input_is_keras_torch_mode(data_format, kind):
    x = np.random.RandomState(0).randint(0, 256, (2, 3, 3, 3)).astype("float32")
    expected = theirs.preprocess_input(x.copy(), data_format, mode="torch")
    given = {"array": x.copy(), "uint8": x.astype("uint8")}.get(kind)
    given = keras.ops.convert_to_tensor(x) if given is None else given
    found = keras_resnext.preprocess_input(given, data_format)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, atol=1e-5)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(given), x)


@pytest.mark.parametrize(
    ("shape", "data_format", "says"),
    [
        ((2, 4, 4, 1), None, r"3 channels.*\(2, 4, 4, 1\)"),
        ((2, 4, 4, 3), "channels_first", "3 channels.*channels_first"),
        ((4, 3), None, "one or a batch"),
        ((2, 4, 4, 3), "channel_last", "Unknown data_format"),
    ],
)
def test_what_preprocess_input_does_not_take(shape, data_format, says):
    with pytest.raises(ValueError, match=says):
        keras_resnext.preprocess_input(np.full(shape, 99.0), data_format)


def test_preprocess_input_of_a_model_takes_its_own_numbers():
    model = keras_resnext.ResNeXt35(blocks=(1, 1, 1))
    layer = Preprocessing(32, mean=(0.5,) * 3, std=(0.25,) * 3, resize_fitting=False)
    keras_resnext.describe(model, layer)
    x = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype("uint8")
    expected = keras.ops.convert_to_numpy(layer(x))
    found = keras_resnext.preprocess_input(x, model=model)
    np.testing.assert_allclose(found, expected, atol=1e-5)


PIXELS = np.random.RandomState(0).uniform(0, 255, (1, 8, 8, 3)).astype("float32")
NOT_PIXELS = {"scaled": PIXELS / 255, "normalized": PIXELS / 127.5 - 1}
TAKERS = {"layer": Preprocessing(8), "function": keras_resnext.preprocess_input}


@pytest.mark.parametrize("kind", NOT_PIXELS)
@pytest.mark.parametrize("taker", TAKERS)
def test_images_that_are_no_pixels_any_more_are_warned_of(taker, kind):
    with pytest.warns(UserWarning, match="of values from 0 to 255.*normalized already"):
        TAKERS[taker](NOT_PIXELS[kind])


@pytest.mark.parametrize("taker", TAKERS)
def test_pixels_are_not_warned_of(taker):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for x in (PIXELS, PIXELS.astype("uint8"), np.zeros_like(PIXELS), PIXELS.astype("int32")):
            TAKERS[taker](x)


@pytest.mark.only_tensorflow
def test_tensors_are_looked_at_where_they_have_values():
    import tensorflow as tf

    layer = TAKERS["layer"]
    with pytest.warns(UserWarning, match="normalized already"):
        layer(tf.constant(NOT_PIXELS["scaled"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        tf.function(layer)(tf.constant(NOT_PIXELS["scaled"]))


def test_a_network_that_knows_its_images_is_not_given_pixels():
    model = keras_resnext.ResNeXt35(blocks=(1, 1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warn_of_range(model, PIXELS)  # nothing is known
        keras_resnext.describe(model, Preprocessing(32))
        warn_of_range(model, keras_resnext.preprocess_input(PIXELS))
    with pytest.warns(UserWarning, match="expects normalized images, of values up to 2.64"):
        warn_of_range(model, PIXELS)
