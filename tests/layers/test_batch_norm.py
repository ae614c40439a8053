import subprocess
import sys

import keras
import numpy as np
import pytest
from eager import predict

from keras_resnext.layers import BatchNormalization

TOLERANCE = {"float32": 1e-5, "mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}
PURE = {"float16": 5e-3, "bfloat16": 4e-2}


def _pair(shape=(4, 5, 6, 8), **arguments):
    """Our layer and Keras's with the same, not trivial, weights."""
    random = np.random.RandomState(0)
    pair = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        layer = kind(**arguments)
        layer.build(shape)
        pair.append(layer)
    weights = [
        random.uniform(0.5, 1.5, w.shape) if "var" in w.name else random.normal(size=w.shape)
        for w in pair[0].weights
    ]
    for layer in pair:
        layer.set_weights(weights)
    return pair


def _assert_agree(pair, x, training, tolerance=1e-5):
    outputs = [layer(x, training=training) for layer in pair]
    assert outputs[0].dtype == outputs[1].dtype
    ours, theirs = (keras.ops.convert_to_numpy(keras.ops.cast(y, "float32")) for y in outputs)
    np.testing.assert_allclose(ours, theirs, atol=tolerance * max(1, np.abs(theirs).max()))
    for a, b in zip(*(layer.get_weights() for layer in pair), strict=True):
        a, b = a.astype("float32"), b.astype("float32")  # which NumPy's bfloat16 is not
        np.testing.assert_allclose(a, b, atol=max(1e-5, 0.1 * tolerance))


def _images(*shape):
    return np.random.RandomState(1).normal(1.0, 2.0, shape).astype("float32")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", [*TOLERANCE, *PURE])
def test_agrees_with_keras(policy, training):
    pair = _pair(dtype=policy, momentum=0.9, epsilon=1e-5)
    for _ in range(2):
        _assert_agree(pair, _images(4, 5, 6, 8), training, (TOLERANCE | PURE)[policy])


@pytest.mark.parametrize(
    "arguments",
    [{"scale": False}, {"center": False}, {"scale": False, "center": False}, {"renorm": True}],
    ids=str,
)
def test_every_option_agrees_with_keras(arguments):
    for training in (True, False):
        _assert_agree(_pair(**arguments), _images(4, 5, 6, 8), training)


@pytest.mark.parametrize("shape, axis", [((6, 8), -1), ((6, 5, 8), -1), ((4, 8, 5, 6), 1)])
def test_other_shapes_agree_with_keras(shape, axis):
    for training in (True, False):
        _assert_agree(_pair(shape, axis=axis), _images(*shape), training)


def test_one_pixel_a_channel():
    """A batch of a single value has no unbiased variance; Keras's biased one is zero."""
    _assert_agree(_pair((1, 1, 1, 8)), _images(1, 1, 1, 8), True)


def test_mask_agrees_with_keras():
    x = _images(4, 5, 6, 8)
    mask = np.arange(4 * 5 * 6).reshape(4, 5, 6) % 3 > 0
    ours, theirs = (layer(x, training=True, mask=mask) for layer in _pair())
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(ours), keras.ops.convert_to_numpy(theirs), atol=1e-5
    )


@pytest.mark.parametrize("training", [True, False])
def test_gradients_agree_with_keras(training, gradients):
    x = _images(4, 5, 6, 8)
    weights = _images(4, 5, 6, 8)[::-1].copy()
    found = []
    for layer in _pair():
        layer.momentum = 1.0  # the moving statistics stay as they are

        def loss(x, layer=layer):
            y = layer(x, training=training)
            return keras.ops.sum(y * keras.ops.convert_to_tensor(weights))

        found.append(gradients(loss, [x])[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-4)


def test_frozen_layer_does_not_change_and_normalizes_by_its_statistics():
    pair = _pair()
    before = pair[0].get_weights()
    for layer in pair:
        layer.trainable = False
    _assert_agree(pair, _images(4, 5, 6, 8), True)
    for a, b in zip(before, pair[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
    "policy, jit_compile", [*((policy, False) for policy in TOLERANCE), ("mixed_float16", True)]
)
def test_fit_ends_where_keras_ends(policy, jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("torch.compile needs a compiler and minutes")
    x, y = _images(16, 3, 2, 4), np.arange(16) % 2
    ends = []
    for kind in (BatchNormalization, keras.layers.BatchNormalization):
        keras.utils.set_random_seed(0)
        model = keras.Sequential(
            [
                keras.Input((3, 2, 4)),
                kind(dtype=policy, momentum=0.5),
                keras.layers.GlobalMaxPooling2D(),
                keras.layers.Dense(2, dtype="float32"),
            ]
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit_compile)
        model.fit(x, y, epochs=2, batch_size=8, shuffle=False, verbose=0)
        ends.append(model.get_weights())
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=TOLERANCE[policy])


def test_files_go_both_ways(tmp_path):
    ours, theirs = (
        keras.Sequential([keras.Input((5, 6, 8)), kind(name="norm")])
        for kind in (BatchNormalization, keras.layers.BatchNormalization)
    )
    weights = [np.random.RandomState(2).uniform(0.5, 1.5, w.shape) for w in theirs.weights]
    theirs.set_weights(weights)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    for a, b in zip(ours.get_weights(), weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    ours.save(tmp_path / "ours.keras")
    loaded = keras.saving.load_model(tmp_path / "ours.keras")
    assert type(loaded.layers[0]) is BatchNormalization
    x = _images(4, 5, 6, 8)
    np.testing.assert_allclose(predict(loaded, x), predict(theirs, x), atol=1e-5)
    assert ours.layers[0].get_config() == theirs.layers[0].get_config()


@pytest.mark.only_tensorflow
@pytest.mark.slow
def test_synchronized_statistics_are_those_of_the_whole_batch():
    """Two replicas that see half a batch each normalize as one that sees it all."""
    program = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_resnext.layers import BatchNormalization
x = np.random.RandomState(0).normal(1.0, 2.0, (8, 3, 3, 4)).astype("float32")
one = BatchNormalization(momentum=0.0); one.build(x.shape); expected = one(x, training=True)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    two = BatchNormalization(momentum=0.0, synchronized=True); two.build(x.shape)
halves = strategy.experimental_distribute_values_from_function(
    lambda c: tf.constant(np.split(x, 2)[c.replica_id_in_sync_group]))
found = strategy.run(tf.function(lambda h: two(h, training=True)), args=(halves,))
found = np.concatenate([v.numpy() for v in found.values])
np.testing.assert_allclose(found, expected, atol=1e-5)
np.testing.assert_allclose(two.moving_mean.numpy(), one.moving_mean.numpy(), atol=1e-5)
print("agree")
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "agree" in finished.stdout, finished.stderr[-2000:]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("mean", [255.0, 5000.0])
def test_small_differences_of_large_numbers(mean, jit_compile):
    """Compiled by XLA too, whose own operation takes a difference of squares; NaN is not equal."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("is about what TensorFlow compiles")
    import tensorflow as tf

    x = np.full((8, 8, 8, 2), mean, "float32")
    x[..., 1] += _images(8, 8, 8)
    layer = BatchNormalization(momentum=0.0)
    layer.build(x.shape)
    function = tf.function(lambda x: layer(x, training=True), jit_compile=jit_compile)
    y = function(x).numpy()
    variance = x.astype("float64").var((0, 1, 2))
    expected = (x - x.astype("float64").mean((0, 1, 2))) / np.sqrt(variance + layer.epsilon)
    np.testing.assert_allclose(y, expected, atol=0.05)
    np.testing.assert_allclose(layer.moving_variance, variance, rtol=0.01, atol=0.01)
