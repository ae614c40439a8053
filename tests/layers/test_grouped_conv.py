import gc
import importlib.util
import os
import subprocess
import sys
import weakref

import keras
import numpy as np
import pytest
from eager import predict
from reference import grouped_conv

from keras_resnext.layers import GroupedConv2D
from keras_resnext.layers.grouped_conv import FORMULATIONS
from keras_resnext.processor import is_x86

CASES = [
    # stride, padding, dilation, channels, filters, groups
    (1, "same", 1, 32, 32, 8),
    (2, "same", 1, 16, 32, 8),
    (1, "valid", 1, 16, 8, 4),
    (2, "valid", 1, 8, 8, 8),
    (1, "torch", 1, 24, 24, 6),
    (2, "torch", 1, 32, 32, 8),
    (1, "torch", 2, 16, 16, 4),
    (1, "same", 2, 16, 32, 2),
    (2, "torch", 1, 8, 16, 1),
]


HEIGHT, WIDTH = 7, 6


def _arrays(channels, filters, groups, kernel=3):
    random = np.random.RandomState(0)
    x = random.normal(size=(2, HEIGHT, WIDTH, channels))
    return x, random.normal(size=(kernel, kernel, channels // groups, filters))


def _layer(case, formulation="auto", **kwargs):
    stride, padding, dilation, channels, filters, groups = case
    layer = GroupedConv2D(
        filters,
        3,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        groups=groups,
        formulation=formulation,
        **kwargs,
    )
    layer.build((None, HEIGHT, WIDTH, channels))
    return layer


def _reference(case, x, kernel, dy=None):
    stride, padding, dilation, _, _, groups = case
    return grouped_conv(x, kernel, stride, padding, dilation, groups, dy)


@pytest.mark.parametrize("formulation", FORMULATIONS)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_value_and_gradients_agree_with_numpy(case, formulation, gradients):
    if formulation == "native" and keras.backend.backend() == "tensorflow" and not _onednn():
        pytest.skip("without oneDNN the native kernel has no gradient, which is why auto splits")
    x, kernel = _arrays(*case[3:])
    layer = _layer(case, formulation, use_bias=False)
    y = _reference(case, x, kernel)
    layer.set_weights([kernel.astype("float32")])
    outputs = layer(x.astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), y, atol=2e-5, rtol=1e-5)
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *y.shape[1:])

    dy = np.random.RandomState(1).normal(size=y.shape)

    def loss(x, kernel):
        return keras.ops.sum(layer.convolution_op(x, kernel) * weights)

    weights = keras.ops.convert_to_tensor(dy.astype("float32"))
    found = gradients(loss, [x.astype("float32"), kernel.astype("float32")])
    for gradient, expected in zip(found, _reference(case, x, kernel, dy), strict=True):
        np.testing.assert_allclose(gradient, expected, atol=2e-4, rtol=1e-4)


def _onednn():
    from keras_resnext.layers.backends.tensorflow import has_onednn

    return has_onednn()


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_pointwise_and_uneven_groups_agree_with_numpy(kernel_size, gradients):
    """1x1 convolutions and groups that no tile of 16 holds evenly have gradients of their own."""
    for channels, filters, groups in ((12, 20, 1), (20, 12, 1), (15, 30, 3), (20, 40, 4)):
        case = (1, "same", 1, channels, filters, groups)
        x, kernel = _arrays(channels, filters, groups, kernel=kernel_size)
        layer = GroupedConv2D(filters, kernel_size, padding="same", groups=groups)
        layer.build((None, HEIGHT, WIDTH, channels))
        dy = np.random.RandomState(1).normal(size=(2, HEIGHT, WIDTH, filters))

        weights = keras.ops.convert_to_tensor(dy.astype("float32"))

        def loss(x, kernel, layer=layer, weights=weights):
            return keras.ops.sum(layer.convolution_op(x, kernel) * weights)

        found = gradients(loss, [x.astype("float32"), kernel.astype("float32")])
        for gradient, expected in zip(found, _reference(case, x, kernel, dy), strict=True):
            np.testing.assert_allclose(gradient, expected, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("formulation", ["auto", "merged"])
def test_mixed_precision_computes_and_trains(policy, formulation, gradients):
    case = CASES[5]
    x, kernel = _arrays(*case[3:])
    layer = _layer(case, formulation, use_bias=False, dtype=policy)
    layer.set_weights([kernel.astype("float32")])
    outputs = layer(x.astype("float32"))
    assert keras.backend.standardize_dtype(outputs.dtype) == policy.removeprefix("mixed_")
    assert keras.backend.standardize_dtype(layer.kernel.dtype) == "float32"
    expected = _reference(case, x, kernel)
    outputs = keras.ops.convert_to_numpy(keras.ops.cast(outputs, "float32"))
    np.testing.assert_allclose(outputs, expected, atol=0.03 * np.abs(expected).max())

    def loss(kernel):
        return keras.ops.sum(keras.ops.cast(layer.convolution_op(layer_input, kernel), "float32"))

    layer_input = keras.ops.cast(keras.ops.convert_to_tensor(x), layer.compute_dtype)
    (gradient,) = gradients(loss, [kernel.astype("float32")])
    _, expected = _reference(case, x, kernel, np.ones(expected.shape))
    np.testing.assert_allclose(gradient, expected, atol=0.03 * np.abs(expected).max())


@pytest.mark.parametrize("padding, use_bias", [("same", True), ("valid", False)])
def test_interchangeable_with_keras_conv2d(padding, use_bias, tmp_path):
    """Weights, outputs, configuration and weight files go both ways."""
    arguments = {
        "filters": 32,
        "kernel_size": (3, 5),
        "strides": (2, 1),
        "padding": padding,
        "groups": 4,
        "activation": "relu",
        "use_bias": use_bias,
    }
    x = np.random.RandomState(0).normal(size=(2, 9, 10, 16)).astype("float32")

    def network(kind):
        return keras.Sequential([keras.Input((9, 10, 16)), kind(**arguments, name="conv")])

    ours, theirs = network(GroupedConv2D), network(keras.layers.Conv2D)
    theirs.save_weights(tmp_path / "theirs.weights.h5")
    ours.load_weights(tmp_path / "theirs.weights.h5")
    expected = predict(theirs, x)
    np.testing.assert_allclose(predict(ours, x), expected, atol=1e-5)
    ours.save_weights(tmp_path / "ours.weights.h5")
    again = network(keras.layers.Conv2D)
    again.load_weights(tmp_path / "ours.weights.h5")
    np.testing.assert_array_equal(predict(again, x), expected)

    config = ours.layers[0].get_config()
    assert config.pop("formulation") == "auto"
    assert config == theirs.layers[0].get_config()
    GroupedConv2D.from_config(theirs.layers[0].get_config())


@pytest.mark.parametrize("formulation", ["auto", "merged"])
def test_saved_model_file_round_trip(formulation, tmp_path):
    model = keras.Sequential(
        [keras.Input((8, 8, 16)), _unbuilt(formulation), keras.layers.GlobalAveragePooling2D()]
    )
    x = np.random.RandomState(0).normal(size=(2, 8, 8, 16)).astype("float32")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.layers[0].padding == "torch"
    assert loaded.layers[0].formulation == formulation
    np.testing.assert_array_equal(predict(loaded, x), predict(model, x))


def _unbuilt(formulation="auto"):
    return GroupedConv2D(
        32, 3, strides=2, padding="torch", groups=4, formulation=formulation, name="conv"
    )


@pytest.mark.parametrize(
    "policy, jit_compile",
    [("float32", False), ("mixed_float16", False), ("mixed_bfloat16", True)],
)
def test_fit_lowers_the_loss(policy, jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("torch.compile needs a compiler and minutes")
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 8)),
            GroupedConv2D(8, 3, strides=2, padding="torch", groups=2, dtype=policy),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    x = np.random.normal(size=(32, 4, 4, 8)).astype("float32")
    y = (x[:, :, :, 0].mean((1, 2)) > 0).astype("int32")
    model.compile(
        keras.optimizers.Adam(0.05),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_compile,
    )
    losses = model.fit(x, y, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all()
    assert losses[-1] < 0.8 * losses[0]


def test_channels_first_agrees_with_channels_last():
    if keras.backend.backend() == "tensorflow" and not _onednn():
        pytest.skip("TensorFlow has no such convolution on a CPU without oneDNN")
    case = CASES[5]
    x, kernel = _arrays(*case[3:])
    last = _layer(case, use_bias=False)
    first = GroupedConv2D(
        32, 3, strides=2, padding="torch", groups=8, use_bias=False, data_format="channels_first"
    )
    first.build((None, 32, HEIGHT, WIDTH))
    for layer in (first, last):
        layer.set_weights([kernel.astype("float32")])
    y = first(x.transpose(0, 3, 1, 2).astype("float32"))
    y = keras.ops.convert_to_numpy(y).transpose(0, 2, 3, 1)
    expected = keras.ops.convert_to_numpy(last(x.astype("float32")))
    np.testing.assert_allclose(y, expected, atol=1e-5)
    assert first.compute_output_shape((None, 32, HEIGHT, WIDTH)) == (None, 32, 4, 3)


def test_any_image_size_at_run_time():
    """A strided layer built for sizes not yet known pads each image by its own size."""
    inputs = keras.Input((None, None, 16))
    model = keras.Model(inputs, _unbuilt()(inputs))
    assert model.output_shape == (None, None, None, 32)
    for size in (8, 9):
        x = np.random.RandomState(0).normal(size=(1, size, size, 16))
        y = grouped_conv(x, model.layers[-1].get_weights()[0].astype("float64"), 2, "torch", 1, 4)
        np.testing.assert_allclose(model.predict(x.astype("float32"), verbose=0), y, atol=1e-5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"filters": 30, "groups": 4}, "groups=4.*filters=30"),
        ({"filters": 32, "groups": 5}, "groups=5.*filters=32"),
        ({"filters": 32, "groups": 4, "formulation": "fast"}, 'Unknown formulation "fast"'),
        (
            {"filters": 32, "groups": 4, "padding": "torhc"},
            'padding "torhc". Did you mean "torch"',
        ),
        ({"filters": 32, "kernel_size": 4, "padding": "torch"}, "kernel_size=\\(4, 4\\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupedConv2D(**{"kernel_size": 3, **arguments})


def test_arguments_come_in_the_order_of_keras():
    given = (64, 3, (2, 2), "same", "channels_last", (1, 1), 8, "relu", False)
    ours, theirs = (kind(*given).get_config() for kind in (GroupedConv2D, keras.layers.Conv2D))
    assert {name: ours[name] for name in theirs if name != "name"} == {
        name: value for name, value in theirs.items() if name != "name"
    }


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
@pytest.mark.parametrize("groups", [1, 3])
def test_whole_numbers_are_not_what_a_kernel_becomes(dtype, groups):
    layer = GroupedConv2D(6, 3, groups=groups)
    x = np.random.RandomState(0).randint(0, 256, (1, 5, 5, 3))
    ours, expected = (keras.ops.convert_to_numpy(layer(x.astype(d))) for d in (dtype, "float32"))
    np.testing.assert_array_equal(ours, expected)


@pytest.mark.parametrize("dilation_rate", [1, 2])
def test_float64_agrees_with_numpy_in_all_its_digits(dilation_rate, gradients):
    random = np.random.RandomState(0)
    x, kernel = random.normal(size=(2, 8, 8, 8)), random.normal(size=(3, 3, 2, 12))
    layer = GroupedConv2D(
        12,
        3,
        groups=4,
        dilation_rate=dilation_rate,
        use_bias=False,
        padding="torch",
        dtype="float64",
    )
    if keras.backend.backend() == "jax":
        pytest.skip("has no float64 unless JAX is told so")
    layer.build(x.shape)
    layer.kernel.assign(kernel)
    expected = grouped_conv(x, kernel, 1, "torch", dilation_rate, 4)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(x)), expected, atol=1e-12)

    def loss(x, kernel):
        return keras.ops.sum(layer.convolution_op(x, kernel) ** 2)

    found = gradients(loss, [x, kernel])
    direction = random.normal(size=kernel.shape)
    step = 1e-6
    there, back = (
        (grouped_conv(x, kernel + s * direction, 1, "torch", dilation_rate, 4) ** 2).sum()
        for s in (step, -step)
    )
    np.testing.assert_allclose((found[1] * direction).sum(), (there - back) / 2 / step, rtol=1e-7)


def test_input_that_groups_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="groups=4.*18 channels"):
        _unbuilt().build((None, 8, 8, 18))


@pytest.mark.only_tensorflow
def test_formulation_follows_the_compile_mode():
    """XLA on a CPU gets merged groups; oneDNN outside XLA the native kernel."""
    import tensorflow as tf

    seen = []

    class Spy(GroupedConv2D):
        def _formulation_for(self, inputs):
            seen.append(super()._formulation_for(inputs))
            return seen[-1]

    layer = Spy(32, 3, padding="same", groups=4)
    x = tf.ones((1, 8, 8, 32))
    plain = "native" if _onednn() else "merged"
    values = [
        layer(x),
        tf.function(layer)(x),
        tf.function(layer, jit_compile=True)(x),
        tf.function(lambda x: tf.function(layer)(x), jit_compile=True)(x),
    ]
    assert seen == [plain, plain, "merged", "merged"]
    for value in values[1:]:
        np.testing.assert_allclose(value, values[0], atol=1e-5)


@pytest.mark.only_tensorflow
def test_second_derivative():
    import tensorflow as tf

    x = tf.random.normal((2, 6, 6, 16))
    results = []
    for formulation in ("native", "split"):
        if formulation == "native" and not _onednn():
            pytest.skip("no native gradient")
        layer = GroupedConv2D(16, 3, padding="same", groups=4, formulation=formulation)
        layer.build(x.shape)
        layer.set_weights([np.full((3, 3, 4, 16), 0.1), np.zeros(16)])
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                value = tf.reduce_sum(tf.tanh(layer(x)))
            first = inner.gradient(value, layer.kernel.value)
            norm = tf.reduce_sum(first**2)
        results.append(outer.gradient(norm, x).numpy())
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3, atol=1e-4)


@pytest.mark.only_tensorflow
def test_exported_saved_model_agrees(tmp_path):
    import tensorflow as tf

    model = keras.Sequential([keras.Input((8, 8, 16)), _unbuilt()])
    x = np.random.RandomState(0).normal(size=(2, 8, 8, 16)).astype("float32")
    model.export(tmp_path / "saved", verbose=False)
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    np.testing.assert_allclose(loaded.serve(x), predict(model, x), atol=1e-6)


@pytest.mark.only_tensorflow
@pytest.mark.slow
def test_everything_holds_without_onednn():
    """The numbers again in a process whose TensorFlow runs without oneDNN."""
    options = [
        "-q",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        "-k",
        "not fit and not save and not keras",
    ]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, __file__],
        env={**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stdout[-3000:]
    assert " passed" in finished.stdout


@pytest.mark.only_tensorflow
@pytest.mark.parametrize("formulation", FORMULATIONS)
def test_bfloat16_is_emulated_where_the_processor_has_no_kernels(formulation, monkeypatch):
    """Without them TensorFlow is slow at it, and has no gradient of a grouped convolution."""
    import tensorflow as tf

    from keras_resnext.layers.backends import tensorflow as backend

    if formulation == "native" and not _onednn():
        pytest.skip("no native gradient")
    has_onednn = backend.has_onednn
    monkeypatch.setattr(
        backend, "has_onednn", lambda dtype="float32": dtype == "float32" and has_onednn()
    )
    x = tf.cast(tf.random.stateless_normal((2, 8, 8, 16), (0, 1)), "bfloat16")
    layer = GroupedConv2D(
        32, 3, padding="same", groups=4, formulation=formulation, dtype="mixed_bfloat16"
    )
    exact = GroupedConv2D(32, 3, padding="same", groups=4)
    layer.build(x.shape)
    exact.build(x.shape)
    exact.set_weights([layer.kernel.value.numpy().astype(tf.bfloat16.as_numpy_dtype), layer.bias])

    def value_and_gradients(layer, x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
            loss = tf.reduce_sum(tf.cast(y, "float32"))
        return [y, *tape.gradient(loss, [x, layer.kernel.value])]

    traced = tf.function(value_and_gradients).get_concrete_function(layer, x)
    convolutions = [op for op in traced.graph.get_operations() if op.type.startswith("Conv2D")]
    assert {op.get_attr("T") for op in convolutions} == {tf.float32}
    found = traced(x)
    expected = value_and_gradients(exact, tf.cast(x, "float32"))
    assert [a.dtype.name for a in found] == ["bfloat16", "bfloat16", "float32"]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(tf.cast(a, "float32"), b, rtol=0.01, atol=0.02)


@pytest.mark.only_tensorflow
def test_a_type_that_onednn_lacks_does_not_tell_that_it_is_off(monkeypatch, recwarn):
    from keras_resnext.layers.backends.tensorflow import has_onednn

    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert not has_onednn.__wrapped__("float64")
    assert not [w for w in recwarn if "oneDNN" in str(w.message)]


@pytest.mark.only_tensorflow
@pytest.mark.skipif(not is_x86(), reason="TensorFlow has oneDNN on x86 alone")
def test_onednn_follows_the_environment():
    """The package was imported before TensorFlow (see conftest.py), which turns it on."""
    assert _onednn() == (os.environ["TF_ENABLE_ONEDNN_OPTS"] == "1")


@pytest.mark.only_tensorflow
@pytest.mark.parametrize("setting", [None, "0"])
@pytest.mark.parametrize("tensorflow_is_there", [True, False])
def test_onednn_is_turned_on_before_tensorflow(monkeypatch, setting, tensorflow_is_there):
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    if setting:
        monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    if not tensorflow_is_there:
        monkeypatch.delitem(sys.modules, "tensorflow")
    spec = importlib.util.find_spec("keras_resnext")
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    expected = setting or (None if tensorflow_is_there or not is_x86() else "1")
    assert os.environ.get("TF_ENABLE_ONEDNN_OPTS") == expected


@pytest.mark.only_tensorflow
@pytest.mark.slow
def test_an_import_of_tensorflow_before_the_package_is_warned_of():
    program = """
import os, tensorflow, keras_resnext
from keras_resnext.layers.backends.tensorflow import has_onednn
print(os.environ.get("TF_ENABLE_ONEDNN_OPTS"), has_onednn())"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    finished = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    setting, has_onednn = finished.stdout.split()
    assert setting == "None"
    warned = "Import keras_resnext first" in finished.stderr
    assert warned == (has_onednn == "False" and is_x86())


@pytest.mark.only_tensorflow
def test_a_graph_that_is_done_with_is_freed():
    """And the weights that it has captured with it."""
    import tensorflow as tf

    layer = GroupedConv2D(8, 3, groups=4)
    layer.build((1, 8, 8, 8))
    traced = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec((1, 8, 8, 8)))
    graph = weakref.ref(traced.graph)
    assert "Conv2D" in {op.type for op in graph().get_operations()}
    del traced
    gc.collect()
    assert graph() is None
