"""What a network says of its use goes wherever Keras takes the network."""

import keras
import numpy as np
import pytest

import keras_resnext
from keras_resnext.layers import Preprocessing
from keras_resnext.models.description import description
from keras_resnext.weights.fold import with_dtype_policy

NAMES = ("cat", "dog")


@pytest.fixture
def model():
    network = keras_resnext.ResNeXt35(classes=2, blocks=(1, 1, 1))
    layer = Preprocessing(32, 0.9, "bicubic", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), False)
    return keras_resnext.describe(network, layer, NAMES)


def saved(model, path):
    model.save(path)
    return keras.saving.load_model(path)


def behind_its_preprocessing(model):
    image = keras.Input((None, None, 3), dtype="uint8")
    return keras.Model(image, model(keras_resnext.preprocessing(model)(image)))


WAYS = {
    "saved": saved,
    "saved twice": lambda model, path: saved(saved(model, path), path.with_name("again.keras")),
    "as JSON": lambda model, path: keras.models.model_from_json(model.to_json()),
    "folded": lambda model, path: keras_resnext.fold_batch_norm(model),
    "folded and saved": lambda model, path: saved(keras_resnext.fold_batch_norm(model), path),
    "recast": lambda model, path: with_dtype_policy(model, "mixed_bfloat16"),
    "another output": lambda model, path: keras.Model(model.inputs, 2 * model.output),
    "inside another": lambda model, path: saved(behind_its_preprocessing(model), path),
}


@pytest.mark.parametrize("way", WAYS)
def test_it_survives(model, way, tmp_path):
    found = WAYS[way](model, tmp_path / "model.keras")
    layer, expected = keras_resnext.preprocessing(found), keras_resnext.preprocessing(model)
    for name in Preprocessing.FIELDS:
        assert getattr(layer, name) == getattr(expected, name), name
    assert layer.interpolation == "bicubic" and layer.mean == (0.1, 0.2, 0.3)
    assert description(found).class_names == NAMES


def test_names_of_a_classifier_that_was_taken_off_are_not_given(model):
    features = keras.Model(model.inputs, model.get_layer("avg_pool").output)
    assert description(features).class_names is None
    assert description(features).preprocessing == description(model).preprocessing


def test_what_is_not_given_stays(model):
    keras_resnext.describe(model, class_names=["a", "b"])
    assert keras_resnext.preprocessing(model).crop == 0.9
    keras_resnext.describe(model, Preprocessing(40))
    assert keras_resnext.preprocessing(model).size == 40
    assert description(model).class_names == ("a", "b")


def test_what_cannot_be_is_refused(model):
    with pytest.raises(ValueError, match="one name per output of ResNeXt35, which has 2.*1000"):
        keras_resnext.describe(model, class_names="imagenet")
    other = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="no place for a description"):
        keras_resnext.describe(other, class_names=NAMES)
    with pytest.raises(ValueError, match="does not know how its images are prepared"):
        keras_resnext.preprocessing(other)


def test_the_input_is_keras_own_but_for_the_description(model):
    """Its arguments, its place in a model, and what a model of it gives."""
    plain = keras.layers.InputLayer((32, 32, 3), name="image").get_config()
    config = model.layers[0].get_config()
    assert {name: config[name] for name in plain} == plain
    x = np.random.RandomState(0).normal(size=(2, 32, 32, 3)).astype("float32")
    tensor = keras.Input((32, 32, 3))
    outputs = model.predict(x, verbose=0)
    np.testing.assert_allclose(
        keras.Model(tensor, model(tensor)).predict(x, verbose=0), outputs, atol=1e-6
    )
