"""Grad-CAM by its definition, with the gradient taken by TensorFlow."""

import keras
import numpy as np
import pytest

from keras_resnext import create_model, fold_batch_norm
from keras_resnext.evaluation.explain import grad_cam


def images(size=64):
    return np.random.RandomState(1).normal(0, 1, (2, size, size, 3)).astype("float32")


pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.mark.only_tensorflow
@pytest.mark.parametrize("name", ["ResNeXt35", "ResNet18V2", "SKResNet18"])
def test_it_is_the_gradients(name, randomize):
    import tensorflow as tf

    small = {"blocks": (1, 1, 1, 1), "filters": (16, 16, 32, 32), "stem_filters": 16}
    small = {"blocks": (1, 1, 1)} if name == "ResNeXt35" else small
    keras.utils.set_random_seed(1)  # others may give maps without anything that speaks for a class
    model = create_model(name, classes=5, input_shape=(64, 64, 3), dropout=0.2, **small)
    randomize(model)
    model.layers[-1].activation = keras.activations.linear
    x, classes = images(), np.array([3, 0])

    last = model.get_layer("avg_pool").input
    both = keras.Model(model.inputs, [last, model.output])
    head = keras.Model(last, model.output)
    feature_map = both(x)[0]
    with tf.GradientTape() as tape:
        tape.watch(feature_map)
        score = tf.reduce_sum(tf.gather(head(feature_map), classes, batch_dims=1))
    weights = tf.reduce_mean(tape.gradient(score, feature_map), (1, 2), keepdims=True)
    expected = tf.nn.relu(tf.reduce_sum(weights * feature_map, -1)).numpy()
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-12)
    assert expected.max() == 1

    model.layers[-1].activation = keras.activations.softmax  # the maps are of logits all the same
    for network in (model, fold_batch_norm(model)):
        maps, outputs = grad_cam(network, x, classes)
        assert maps.max() == 1 and outputs.shape == (2, 5)
        np.testing.assert_allclose(maps, expected, atol=1e-3)
    best, outputs = grad_cam(model, x)
    np.testing.assert_array_equal(best, grad_cam(model, x, outputs.argmax(-1))[0])


def test_nothing_spoke_for_it():
    model = create_model("ResNeXt35", classes=2, blocks=(1, 1, 1))
    kernel, bias = model.layers[-1].get_weights()
    model.layers[-1].set_weights([-np.abs(kernel), bias])
    maps, _ = grad_cam(model, images(size=32))
    assert not maps.any()


@pytest.mark.parametrize(
    "options, ends", [({"include_top": False}, "ReLU"), ({"pooling": "max"}, "GlobalMaxPooling2D")]
)
def test_other_ends_are_refused(options, ends):
    model = create_model("ResNeXt35", blocks=(1, 1, 1), **({"include_top": False} | options))
    with pytest.raises(ValueError, match=f"which ends in .*{ends}"):
        grad_cam(model, images(size=32))
