"""The three equivalent forms of the ResNeXt block."""

import functools

import keras
import numpy as np
import pytest
from eager import predict

from keras_resnext import ResNetConfig, create_model, move_weights

CONFIG = ResNetConfig(
    blocks=(2, 1),
    filters=(16, 32),
    stem="cifar",
    stem_filters=8,
    cardinality=3,
    width_per_group=16,
)
VARIATIONS = {
    "plain": {},
    "d": {"stem": "deep", "shortcut": "D"},
    "pre-activation": {"preactivation": True},
    "assembled": {
        "big_little": (2, 2),
        "shortcut": "D3",
        "downsample": "blur",
        "attention": "se",
        "stem": "7x7",
        "drop_block": 0.1,
    },
    "one group": {"cardinality": 1},
}


def _images():
    return np.random.RandomState(0).normal(size=(2, 32, 32, 3)).astype("float32")


@functools.cache
def _build(form, variation):
    """A network, built once: every test gives it weights of its own."""
    return create_model(
        CONFIG, input_shape=(32, 32, 3), classes=5, form=form, **VARIATIONS[variation]
    )


def _randomize(model):
    random = np.random.RandomState(1)
    for weight in (w for w in model.weights if not w.path.endswith("step")):
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.2
        weight.assign(random.uniform(low, low + 0.4 + (low > 0), weight.shape))


@pytest.mark.parametrize("variation", VARIATIONS)
def test_forms_agree_in_value_and_gradient(variation, gradients):
    grouped = _build("c", variation)
    _randomize(grouped)
    direction = np.random.RandomState(2).normal(size=(2, 5)).astype("float32")

    def value_and_gradient(model):
        def loss(x):
            return keras.ops.sum(keras.ops.multiply(model(x), direction))

        return predict(model, _images()), gradients(loss, [_images()])[0]

    value, gradient = value_and_gradient(grouped)
    for form in "ab":
        moved = move_weights(grouped, _build(form, variation))
        found, found_gradient = value_and_gradient(moved)
        np.testing.assert_allclose(found, value, atol=1e-5)
        np.testing.assert_allclose(found_gradient, gradient, atol=1e-5)


@pytest.mark.parametrize("first, second", ["ab", "ba", "ca", "cb"])
def test_there_and_back_changes_no_bit(first, second):
    model = _build(first, "assembled")
    _randomize(model)
    before = [weight.numpy() for weight in model.weights]
    there = move_weights(model, _build(second, "assembled"))
    for weight in model.weights:
        weight.assign(weight * 0)
    move_weights(there, model)
    for expected, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), expected)


def test_forms_have_their_shapes():
    """Nine branches of three convolutions, or of two, or none."""
    names = {form: [layer.name for layer in _build(form, "plain").layers] for form in "abc"}
    count = {form: sum("_path" in n and n[-1].isdigit() for n in names[form]) for form in "abc"}
    assert count == {"a": 3 * 3 * 3, "b": 3 * 3 * 2, "c": 0}


def test_parameters_agree():
    counts = {_build(form, "plain").count_params() for form in "abc"}
    assert len(counts) == 1


def test_what_does_not_fit_is_named_and_nothing_changes():
    source, target = _build("c", "plain"), _build("a", "d")
    before = [w.numpy() for w in target.weights]
    with pytest.raises(ValueError, match="stem_conv1/kernel"):
        move_weights(source, target)
    for kept, weight in zip(before, target.weights, strict=True):
        np.testing.assert_array_equal(kept, weight.numpy())
