"""keras.applications' networks with the same weights give the same predictions."""

import keras
import numpy as np
import pytest
from eager import predict
from marked import rows

from keras_resnext import create_model

EPSILON = 1.001e-5
# Ours, theirs, and the words of their layer names for the words of ours.
NETWORKS = {
    "ResNet50": (
        {"use_bias": True, "stride_on": "1x1", "norm_epsilon": EPSILON},
        {
            "stem_conv": "conv1_conv",
            "stem_conv_norm": "conv1_bn",
            "shortcut": "0_conv",
            "shortcut_norm": "0_bn",
            **{f"conv{i}": f"{i}_conv" for i in (1, 2, 3)},
            **{f"conv{i}_norm": f"{i}_bn" for i in (1, 2, 3)},
        },
    ),
    "ResNet50V2": (
        {"use_bias": True, "norm_epsilon": EPSILON},
        {
            "stem_conv": "conv1_conv",
            "features_norm": "post_bn",
            "preact_norm": "preact_bn",
            "shortcut": "0_conv",
            **{f"conv{i}": f"{i}_conv" for i in (1, 2, 3)},
            **{f"conv{i}_norm": f"{i}_bn" for i in (1, 2)},
        },
    ),
}


def _their_name(ours, words):
    if ours in words or not ours.startswith("stage"):
        return words.get(ours, ours)
    stage, block, part = ours.split("_", 2)
    return f"conv{int(stage[5:]) + 1}_{block}_{words[part]}"


def _randomized(model):
    """Statistics and scales of a trained kind; kernels stay as they were drawn."""
    random = np.random.RandomState(0)
    for weight in (w for w in model.weights if len(w.shape) == 1):
        positive = weight.path.endswith(("gamma", "variance"))
        weight.assign(random.uniform(0.2, 0.8, weight.shape) - (0 if positive else 0.5))
    return model


@pytest.mark.parametrize("name", rows(NETWORKS, slow=["ResNet50V2"]))
def test_predictions_agree(name):
    overrides, words = NETWORKS[name]
    function = getattr(keras.applications, name)
    theirs = _randomized(function(weights=None, input_shape=(64, 64, 3)))
    ours = create_model(name, input_shape=(None, None, 3), **overrides)
    copied = 0
    for layer in (layer for layer in ours.layers if layer.weights):
        source = theirs.get_layer(_their_name(layer.name, words)).weights
        assert len(source) == len(layer.weights), layer.name
        layer.set_weights([w.numpy() for w in source])
        copied += len(source)
    assert copied == len(theirs.weights)
    for size in (64, 97):
        x = np.random.RandomState(size).normal(size=(2, size, size, 3)).astype("float32")
        sized = function(weights=None, input_shape=(size, size, 3))
        sized.set_weights(theirs.get_weights())
        expected = predict(sized, x)
        assert expected.max() > 2e-3  # the softmax tells classes apart
        np.testing.assert_allclose(predict(ours, x), expected, atol=1e-5)
