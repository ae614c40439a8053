import keras
import pytest

from keras_resnext import create_model


@pytest.mark.parametrize(
    "name, theirs",
    [("keras:MobileNetV2", "MobileNetV2"), ("keras:mobilenet", "MobileNet")],
)
def test_a_baseline_is_the_network_of_keras(name, theirs):
    model = create_model(name, input_shape=(32, 32, 3), classes=7)
    original = getattr(keras.applications, theirs)(weights=None, input_shape=(32, 32, 3), classes=7)
    assert model.output_shape == (None, 7)
    assert [w.shape for w in model.weights] == [w.shape for w in original.weights]


def test_defaults_and_arguments_are_kerass():
    model = create_model("keras:EfficientNetV2B0")
    assert model.input_shape == (None, 224, 224, 3)
    assert model.output_shape == (None, 1000)
    kinds = {type(layer).__name__ for layer in model.layers}
    assert "Rescaling" not in kinds  # ours take normalized images, and so does this one
    small = create_model(
        "keras:MobileNet", alpha=0.25, classes=2, classifier_activation=None, name="mine"
    )
    assert small.name == "mine" and small.count_params() < 300_000
    assert small.layers[-1].name != "softmax"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match='keras.applications "DenseNet202".*"DenseNet201"'):
        create_model("keras:DenseNet202")
    with pytest.raises(ValueError, match='argument of keras:VGG16 "cardinality"'):
        create_model("keras:VGG16", cardinality=2)
