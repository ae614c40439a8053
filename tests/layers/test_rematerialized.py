"""Computing twice changes nothing but what is kept."""

import keras
import numpy as np
import pytest

from keras_resnext import layers
from keras_resnext.layers.rematerialized import Rematerialized


class Counting(keras.layers.Layer):
    """Gives its input, and counts how often it is called."""

    calls = 0

    def call(self, inputs):
        self.calls += 1
        return inputs


def network(wrap):
    """With all that a second computation could spoil: statistics, random numbers, a step count."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    counting = Counting()
    x = counting(inputs)
    x = layers.GroupedConv2D(8, 3, padding="same", groups=2, name="conv")(x)
    x = layers.BatchNormalization(momentum=0.5, name="norm")(x)
    x = keras.layers.ReLU()(x)
    side = keras.layers.Dropout(0.3, seed=1)(x)
    x = layers.DropPath(0.4, schedule_steps=4, seed=2, name="drop")(x)
    part = keras.Model([inputs], [x, side])
    x, side = wrap(part)([inputs])
    pooled = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([x, side]))
    outputs = keras.layers.Dense(3, name="top", dtype="float32")(pooled)
    return keras.Model(inputs, outputs), counting


def trained(wrap, policy, **options):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model, counting = network(wrap)
    finally:
        keras.config.set_dtype_policy(before)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse", **options)
    model.optimizer.build(model.trainable_variables)  # or Keras traces the step twice
    random = np.random.RandomState(0)
    x, y = random.normal(size=(6, 8, 8, 4)), random.normal(size=(6, 3))
    model.fit(np.tile(x, (4, 1, 1, 1)), np.tile(y, (4, 1)), batch_size=6, verbose=0, shuffle=False)
    weights = {v.path.split("/", 1)[-1]: keras.ops.convert_to_numpy(v) for v in model.variables}
    return model, weights, counting, x


@pytest.mark.parametrize(
    "policy, jit_compile",
    [
        ("float32", False),
        pytest.param("float32", True, marks=pytest.mark.slow),
        ("mixed_float16", False),
        pytest.param("mixed_float16", True, marks=pytest.mark.slow),
    ],
)
def test_training_is_the_same(policy, jit_compile):
    if jit_compile and keras.backend.backend() == "torch":
        pytest.skip("PyTorch's compiler is not what is tested")
    _, expected, _, _ = trained(lambda part: part, policy, jit_compile=jit_compile)
    model, weights, _, _ = trained(Rematerialized, policy, jit_compile=jit_compile)
    ours = list(weights.values())
    for value, (path, other) in zip(ours, expected.items(), strict=True):
        tolerance = 1e-5 if policy == "float32" else 2e-3
        np.testing.assert_allclose(value, other, rtol=tolerance, atol=tolerance, err_msg=path)
    (step,) = [v for v in model.variables if v.path.endswith("drop/step")]
    assert float(step.value) == 4


def test_it_is_computed_twice_in_training_alone():
    model, _, counting, x = trained(Rematerialized, "float32", run_eagerly=True, jit_compile=False)
    if keras.backend.backend() == "jax":  # which counts traces
        return
    before = counting.calls
    model.train_on_batch(x, np.zeros((6, 3)))
    assert counting.calls - before == 2
    expected, _, _, _ = trained(lambda part: part, "float32", run_eagerly=True, jit_compile=False)
    expected.set_weights(model.get_weights())
    np.testing.assert_array_equal(model.predict(x, verbose=0), expected.predict(x, verbose=0))
    before = counting.calls
    model(x)
    assert counting.calls - before == 1


def test_frozen_weights_stay():
    model, _, _, x = trained(Rematerialized, "float32", jit_compile=False)
    conv = next(layer for layer in model._flatten_layers() if layer.name == "conv")
    conv.trainable = False
    model.compile("sgd", "mse", jit_compile=False)
    before = [keras.ops.convert_to_numpy(w).copy() for w in conv.weights]
    top = keras.ops.convert_to_numpy(model.get_layer("top").kernel).copy()
    model.train_on_batch(x, np.ones((6, 3)))
    for weight, old in zip(conv.weights, before, strict=True):
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), old)
    assert (keras.ops.convert_to_numpy(model.get_layer("top").kernel) != top).any()
