"""Auxiliary losses: what `fit` minimizes, and that nobody else notices the classifiers."""

import subprocess
import sys

import keras
import numpy as np
import pytest
from tiny_inception import TINY_V1, TINY_V3

from keras_resnext.applications import create_model
from keras_resnext.models.auxiliary import AuxiliaryModel

LOSSES = {
    "name": ("sparse_categorical_crossentropy", False),
    "smoothed": (keras.losses.CategoricalCrossentropy(label_smoothing=0.1), True),
    "function": (lambda y, p: keras.losses.categorical_crossentropy(y, p), True),
}


def _linear(weight=0.3):
    """Three softmax regressions: whatever trains can be computed by hand."""
    keras.utils.set_random_seed(0)
    x = keras.Input((5,))
    outputs = [keras.layers.Dense(3, "softmax", name=f"head{n}")(x) for n in range(3)]
    return AuxiliaryModel(x, outputs, auxiliary_weight=weight)


def _data(one_hot=True):
    random = np.random.RandomState(0)
    labels = random.randint(0, 3, 8)
    x = random.normal(size=(8, 5)).astype("float32")
    return x, np.eye(3, dtype="float32")[labels] if one_hot else labels


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def _softmax(model, head, x):
    kernel, bias = map(_numpy, model.get_layer(head).weights)
    exponents = np.exp(x @ kernel + bias)
    return exponents / exponents.sum(1, keepdims=True)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_step_and_loss_by_hand(loss, weighted):
    """The gradient of softmax regression is x^T (p - y) / n, times each head's weight."""
    function, one_hot = LOSSES[loss]
    x, y = _data(one_hot)
    sample_weight = np.linspace(0, 2, 8).astype("float32") if weighted else np.ones(8, "float32")
    target = y if one_hot else np.eye(3)[y]
    if loss == "smoothed":
        target = 0.9 * target + 0.1 / 3
    model = _linear()
    model.compile(keras.optimizers.SGD(1.0), function)
    expected_loss, kernels = 0.0, {}
    for head, weight in (("head0", 1), ("head1", 0.3), ("head2", 0.3)):
        p = _softmax(model, head, x)
        expected_loss -= weight * (sample_weight * (target * np.log(p)).sum(1)).mean()
        step = x.T @ (sample_weight[:, None] * (p - target)) / 8
        kernels[head] = _numpy(model.get_layer(head).kernel) - weight * step
    given = sample_weight if weighted else None
    found = model.train_on_batch(x, y, sample_weight=given)
    np.testing.assert_allclose(found, expected_loss, rtol=1e-5)
    for head, kernel in kernels.items():
        np.testing.assert_allclose(_numpy(model.get_layer(head).kernel), kernel, atol=1e-5)


def test_all_else_sees_the_first_output_alone():
    x, y = _data()
    model = _linear()
    model.compile("sgd", "categorical_crossentropy", metrics=["accuracy"])
    expected = _softmax(model, "head0", x)
    assert model.output_shape == (None, 3)
    assert model.compute_output_shape((2, 5)) == (2, 3)
    for found in (
        model(x),
        model(x, training=True),
        model(x, training=False),
        model.predict(x, verbose=0),
    ):
        np.testing.assert_allclose(_numpy(found), expected, atol=1e-6)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose(loss, -np.log((expected * y).sum(1)).mean(), rtol=1e-5)
    assert accuracy == pytest.approx((expected.argmax(1) == y.argmax(1)).mean())
    history = model.fit(x, y, validation_data=(x, y), epochs=2, batch_size=4, verbose=0).history
    assert set(history) == {"loss", "accuracy", "val_loss", "val_accuracy"}
    assert history["loss"][1] < history["loss"][0]
    assert history["val_loss"][0] < history["loss"][0]  # without the others
    after = _softmax(model, "head0", x)
    np.testing.assert_allclose(_numpy(model(x)), after, atol=1e-6)


def test_as_a_part_of_another_model_it_has_one_output():
    x, y = _data()
    part = _linear()
    for model in (
        keras.Sequential([keras.Input((5,)), keras.layers.Rescaling(1.0), part]),
        keras.Model(image := keras.Input((5,)), part(image)),
    ):
        model.compile(keras.optimizers.SGD(0.1), "categorical_crossentropy")
        before = _numpy(part.get_layer("head0").kernel), _numpy(part.get_layer("head1").kernel)
        assert np.isfinite(model.train_on_batch(x, y))
        assert (_numpy(part.get_layer("head0").kernel) != before[0]).any()
        np.testing.assert_array_equal(_numpy(part.get_layer("head1").kernel), before[1])
        assert model.predict(x, verbose=0).shape == (8, 3)


def test_without_weight_the_others_stay():
    x, y = _data()
    model = _linear(weight=0.0)
    model.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy")
    before = _numpy(model.get_layer("head1").kernel)
    model.train_on_batch(x, y)
    np.testing.assert_array_equal(_numpy(model.get_layer("head1").kernel), before)


def _images(size, count=4):
    return np.random.RandomState(0).normal(size=(count, size, size, 3)).astype("float32")


@pytest.mark.parametrize(
    "policy",
    ["float32", "mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)],
)
def test_v1_trains_in_every_weight(policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = create_model(TINY_V1, input_shape=(80, 80, 3), classes=2, auxiliary=True)
    assert isinstance(model, AuxiliaryModel)
    for output in model.outputs:
        assert keras.backend.standardize_dtype(output.dtype) == "float32"
    x = _images(80, 8)
    y = np.arange(8) % 2
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64)
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    before = [_numpy(weight) for weight in model.trainable_weights]
    for _ in range(2):
        assert np.isfinite(model.train_on_batch(x, y))
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = _numpy(weight)
        assert np.isfinite(new).all() and (new != old).any(), weight.path
    assert model.predict(x, verbose=0).shape == (8, 2)


def test_v3_loss_is_the_sum_of_its_heads_losses():
    """In training mode, with the batch's statistics, and the L2 of all kernels once."""
    keras.utils.set_random_seed(0)
    model = create_model(
        TINY_V3, input_shape=(299, 299, 3), classes=3, auxiliary=True, auxiliary_weight=0.4, l2=1e-3
    )
    x, y = _images(299, 3), np.arange(3)
    both = keras.Model(model.input, model.outputs)
    main, auxiliary = (_numpy(output) for output in both(x, training=True))
    expected = -np.log(main[range(3), y]).mean() - 0.4 * np.log(auxiliary[range(3), y]).mean()
    expected += sum(float(loss) for loss in model.losses)
    model.compile("sgd", "sparse_categorical_crossentropy", run_eagerly=True)
    np.testing.assert_allclose(model.train_on_batch(x, y), expected, rtol=1e-4)


def test_logits_of_all_heads_for_a_loss_from_logits():
    model = create_model(
        TINY_V1, input_shape=(80, 80, 3), classes=2, auxiliary=True, classifier_activation=None
    )
    heads = [layer for layer in model.layers if layer.name.endswith("predictions")]
    assert {layer.name for layer in heads} == {
        "stage3_block1_auxiliary_predictions",
        "stage3_block2_auxiliary_predictions",
        "predictions",
    }
    assert model.output is model.get_layer("predictions").output
    assert all(layer.activation is keras.activations.linear for layer in heads)


def test_only_the_whole_network_has_them():
    plain = create_model(TINY_V1, input_shape=(80, 80, 3), include_top=False)
    headless = create_model(TINY_V1, input_shape=(80, 80, 3), include_top=False, auxiliary=True)
    assert headless.count_params() == plain.count_params()
    assert not isinstance(headless, AuxiliaryModel)
    assert not isinstance(create_model(TINY_V1, input_shape=(80, 80, 3)), AuxiliaryModel)


def test_dense_heads_need_a_size():
    with pytest.raises(ValueError, match="`auxiliary=True` needs an `input_shape` with height"):
        create_model(TINY_V1, input_shape=(None, 80, 3), auxiliary=True)
    with pytest.raises(ValueError, match="at least 79 pixels"):
        create_model(TINY_V1, input_shape=(78, 78, 3), auxiliary=True)


@pytest.mark.slow
def test_is_saved_and_trained_on(tmp_path):
    model = create_model(
        TINY_V1, input_shape=(80, 80, 3), classes=2, auxiliary=True, auxiliary_weight=0.5
    )
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    x, y = _images(80), np.arange(4) % 2
    model.fit(x, y, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded) is AuxiliaryModel and loaded.auxiliary_weight == 0.5
    assert [w.path for w in loaded.weights] == [w.path for w in model.weights]
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    # The network has no batch norm and its top no dropout: the heads are all the difference.
    evaluated = [attempt.evaluate(x, y, verbose=0) for attempt in (model, loaded)]
    assert evaluated[0] == pytest.approx(evaluated[1])
    assert loaded.train_on_batch(x, y) > evaluated[1]
    options = {"classes": 2, "auxiliary": True, "weights": tmp_path / "model.keras"}
    again = create_model(TINY_V1, input_shape=(80, 80, 3), **options)
    np.testing.assert_array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    clone = keras.models.clone_model(model)
    assert clone.count_params() == model.count_params()
    trained = keras.Model(model.input, model.output)
    np.testing.assert_array_equal(trained.predict(x, verbose=0), model.predict(x, verbose=0))
    plain = create_model(TINY_V1, input_shape=(80, 80, 3), classes=2)
    assert [w.path for w in trained.weights] == [w.path for w in plain.weights]


@pytest.mark.slow
def test_opens_in_a_fresh_process(tmp_path):
    _linear(0.7).save(tmp_path / "model.keras")
    program = (
        "import keras, keras_resnext;"
        f"print(keras.saving.load_model({str(tmp_path / 'model.keras')!r}).auxiliary_weight)"
    )
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.split()[-1] == "0.7"


@pytest.mark.slow
@pytest.mark.only_tensorflow
def test_two_replicas_train_as_one():
    """Replicas run in threads that take turns; the model's own state must not mix them up."""
    finished = subprocess.run([sys.executable, "-c", REPLICAS], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    one, two = (line.split() for line in finished.stdout.splitlines()[-2:])
    np.testing.assert_allclose([float(n) for n in two], [float(n) for n in one], rtol=1e-4)


REPLICAS = """
import contextlib
import keras, numpy as np, tensorflow as tf
from keras_resnext.models.auxiliary import AuxiliaryModel
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
random = np.random.RandomState(0)
x = random.normal(size=(16, 5)).astype("float32")
y = random.randint(0, 3, 16)
for scope in (contextlib.nullcontext(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope()):
    keras.utils.set_random_seed(0)
    with scope:
        image = keras.Input((5,))
        hidden = keras.layers.Dense(4, "relu")(image)
        outputs = [keras.layers.Dense(3, "softmax")(hidden) for _ in range(3)]
        model = AuxiliaryModel(image, outputs)
        model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
    print(*history["loss"], *history["accuracy"])
"""
