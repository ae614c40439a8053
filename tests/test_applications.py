import inspect
import pathlib
import subprocess
import sys

import keras
import numpy as np
import pytest
from eager import predict

import keras_resnext
from keras_resnext import ResNetConfig, create_model
from keras_resnext.layers import BatchNormalization, GroupedConv2D
from keras_resnext.models import variants
from keras_resnext.training.build import compile_recipe
from keras_resnext.training.recipe import Recipe

GOLDEN = pathlib.Path(__file__).parent / "golden"
TINY = ResNetConfig(
    blocks=(2, 1),
    filters=(16, 32),
    stem="cifar",
    stem_filters=8,
    cardinality=4,
    width_per_group=16,
)
OPTIONS = [
    {},
    {"shortcut": "A"},
    {"shortcut": "C"},
    {"shortcut": "none"},
    {"stride_on": "1x1"},
    {"stride_block": "last"},
    {"preactivation": True},
    {"preactivation": True, "stride_block": "last", "shortcut": "A"},
    {"block": "basic", "cardinality": 1, "width_per_group": 64},
    {"block": "basic", "cardinality": 1, "width_per_group": 64, "preactivation": True},
    {"use_bias": True, "zero_gamma": True, "l2": 1e-4},
    {"stem": "7x7"},
]


def _images(count=2, size=16):
    return np.random.RandomState(0).normal(size=(count, size, size, 3)).astype("float32")


def _on_tensorflow():
    return keras.backend.backend() == "tensorflow"


def _randomize(model):
    random = np.random.RandomState(1)
    for weight in model.weights:
        low = 0.5 if "variance" in weight.path or "gamma" in weight.path else -0.2
        weight.assign(random.uniform(low, low + 0.4 + (low > 0), weight.shape))


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_row_has_a_documented_function_with_the_contract(name):
    function = getattr(keras_resnext, name)
    ours = inspect.signature(function).parameters
    theirs = inspect.signature(keras.applications.ResNet50).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert ours["weights"].default is None
    assert ours["classes"].default == variants.get(name).classes
    same = ("include_top", "input_shape", "pooling", "classifier_activation")
    assert all(ours[p].default == theirs[p].default for p in same)
    assert function.__name__ == name
    assert name in function.__doc__ and "Args:" in function.__doc__
    assert f'"{name}"' in (GOLDEN.parents[1] / "keras_resnext/models/variants.py").read_text()


def test_functions_build_what_they_say():
    model = keras_resnext.ResNeXt35(
        classes=np.int64(7), cardinality=4, width_per_group=32, name="mine"
    )
    assert (model.name, model.output_shape) == ("mine", (None, 7))
    assert model.get_layer("stage1_block1_conv2").groups == 4
    headless = keras_resnext.ResNet20(include_top=False, pooling="avg")
    assert headless.output_shape == (None, 64)
    assert keras_resnext.ResNet20(include_top=False).output_shape == (None, 8, 8, 64)
    largest = keras_resnext.ResNet20(include_top=False, pooling="max", input_shape=(None, None, 1))
    assert largest.input_shape == (None, None, None, 1)
    assert largest.output_shape == (None, 64)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_trains_in_every_weight_and_survives_saving(options, tmp_path):
    keras.utils.set_random_seed(0)
    model = create_model(TINY, input_shape=(16, 16, 3), classes=3, **options)
    _randomize(model)
    before = [w.numpy() if hasattr(w, "numpy") else np.array(w) for w in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy()
    # Eager, because a trace takes longer than a step; torch and JAX do as they always do.
    model.compile(keras.optimizers.SGD(0.1), loss, run_eagerly=_on_tensorflow())
    loss = model.train_on_batch(_images(8), np.arange(8) % 3)
    assert np.isfinite(loss)
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = keras.ops.convert_to_numpy(weight.value)
        assert np.isfinite(new).all(), weight.path
        # A bias before a batch norm is taken out by it: its gradient is zero but for rounding.
        assert not np.array_equal(new, old) or weight.path.endswith("bias"), weight.path
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(predict(loaded, _images()), predict(model, _images()))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_mixed_precision_trains_and_answers_in_float32(policy, jit_compile):
    if keras.backend.backend() == "torch" and jit_compile:
        pytest.skip("torch.compile needs a compiler and minutes")
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = create_model(TINY, input_shape=(16, 16, 3), classes=2)
    assert keras.backend.standardize_dtype(model.output.dtype) == "float32"
    assert model.get_layer("stage1_block1_conv2").compute_dtype == policy.removeprefix("mixed_")
    x = _images(16)
    y = (x.mean((1, 2, 3)) > 0).astype("int32")
    model.compile(
        keras.optimizers.SGD(0.05, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(),
        jit_compile=jit_compile,
    )
    losses = model.fit(x, y, epochs=6, batch_size=16, verbose=0).history["loss"]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


@pytest.mark.parametrize(
    "theirs, ours, options",
    [
        ("ResNet50", "ResNet50", {"stride_on": "1x1"}),
        ("ResNet50V2", "ResNet50V2", {}),
    ],
)
@pytest.mark.slow
def test_agrees_with_keras_applications(theirs, ours, options):
    """Keras's network with random weights and no biases, copied kind by kind in its order."""
    headless = {"input_shape": (None, None, 3), "include_top": False, "pooling": "avg"}
    theirs = getattr(keras.applications, theirs)(weights=None, **headless)
    _randomize(theirs)
    for layer in theirs.layers:
        if isinstance(layer, keras.layers.Conv2D) and layer.use_bias:
            layer.bias.assign(np.zeros(layer.bias.shape))
    epsilon = next(layer.epsilon for layer in theirs.layers if hasattr(layer, "moving_variance"))
    ours = create_model(ours, norm_epsilon=epsilon, **headless, **options)
    _copy(theirs, ours)
    for size in (64, 75):
        x = _images(2, size)
        expected = predict(theirs, x)
        found = predict(ours, x)
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def _copy(theirs, ours):
    """Kernels of one shape come in one order, but a projection before or after its branch."""
    for kinds in (
        (keras.layers.Conv2D, GroupedConv2D),
        (keras.layers.BatchNormalization, BatchNormalization),
    ):
        sources = [layer for layer in theirs.layers if isinstance(layer, kinds[0])]
        targets = [layer for layer in ours.layers if isinstance(layer, kinds[1])]
        for key in (_is_projection, lambda layer: not _is_projection(layer)):
            pairs = zip(filter(key, sources), filter(key, targets), strict=True)
            for source, target in pairs:
                weights = source.get_weights()
                if kinds[0] is keras.layers.Conv2D:
                    weights = weights[:1]
                target.set_weights(weights)


def _is_projection(layer):
    return "_shortcut" in layer.name or "_0_" in layer.name


def test_shortcut_a_subsamples_and_appends_zeros():
    x = _images(1, 8)
    for layout in ("channels_last", "channels_first"):
        keras.config.set_image_data_format(layout)
        from keras_resnext.models.blocks import Place
        from keras_resnext.models.keras_layers import KerasLayers
        from keras_resnext.models.shortcuts import zero_padded

        config = TINY.replace(shortcut="A")
        place = Place("block", planes=16, strides=2)
        shape = (8, 8, 3) if layout == "channels_last" else (3, 8, 8)
        inputs = keras.Input(shape)
        model = keras.Model(inputs, zero_padded(KerasLayers(config), inputs, inputs, place))
        expected = np.concatenate([x[:, ::2, ::2], np.zeros((1, 4, 4, 61))], axis=-1)
        if layout == "channels_last":
            found = model.predict(x, verbose=0)
        elif keras.backend.backend() == "tensorflow":
            continue  # TensorFlow pools channels first on a GPU only; the shape is checked
        else:
            found = model.predict(x.transpose(0, 3, 1, 2), verbose=0).transpose(0, 2, 3, 1)
        np.testing.assert_array_equal(found, expected)


def test_channels_first_builds_the_same_network():
    keras.config.set_image_data_format("channels_first")
    model = create_model(TINY, input_shape=(3, 16, 16))
    assert model.get_layer("stage2_block1_out").output.shape == (None, 128, 8, 8)
    keras.config.set_image_data_format("channels_last")
    assert model.count_params() == create_model(TINY, input_shape=(16, 16, 3)).count_params()


def test_input_tensor():
    image = keras.Input((20, 20, 3), name="photo")
    model = create_model(TINY, input_tensor=image * 2.0, classes=4)
    assert model.input.name == "photo"
    plain = create_model(TINY, input_shape=(20, 20, 3), classes=4)
    plain.set_weights(model.get_weights())
    x = _images(2, 20)
    np.testing.assert_allclose(predict(model, x), predict(plain, 2 * x), atol=1e-5)


def test_weights_from_a_file(tmp_path):
    model = create_model(TINY, input_shape=(16, 16, 3), classes=3)
    _randomize(model)
    for path in (tmp_path / "w.weights.h5", tmp_path / "m.keras"):
        model.save_weights(path) if path.suffix == ".h5" else model.save(path)
        loaded = create_model(TINY, input_shape=(16, 16, 3), classes=3, weights=str(path))
        for a, b in zip(loaded.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
        with pytest.raises(ValueError, match="do not fit this resnet.*`classes`"):
            create_model(TINY, input_shape=(16, 16, 3), classes=4, weights=path)
    bad = tmp_path / "bad.weights.h5"
    bad.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="bad.weights.h5"):
        create_model(TINY, input_shape=(16, 16, 3), weights=bad)


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"model": "ResNeXt51"}, 'Unknown model "ResNeXt51". Did you mean "ResNeXt50"'),
        ({"weights": "imagenet"}, "No checkpoint of"),
        ({"weights": "/no/such.weights.h5"}, "/no/such.weights.h5"),
        ({"classes": 0}, "classes=0"),
        ({"classes": 10.0}, "classes=10.0"),
        ({"classes": True}, "classes=True"),
        ({"classifier_activation": "softmaxx"}, "softmaxx"),
        ({"input_shape": 32}, "Expected \\(height, width, channels\\).*32"),
        ({"input_shape": ("32", 32, 3)}, "Expected \\(height, width, channels\\)"),
        ({"input_shape": (32, 32, 0)}, "Expected \\(height, width, channels\\)"),
        ({"pooling": "mean"}, 'Unknown pooling "mean"'),
        ({"input_shape": (3, 32, 32, 3)}, "input_shape=\\(3, 32, 32, 3\\)"),
        ({"input_shape": (32, 32, None)}, "input_shape=\\(32, 32, None\\)"),
        ({"model": "ResNet50", "input_shape": (224, 31, 3)}, "at least 32 pixels"),
        ({"input_shape": (3, 3, 3)}, "at least 4 pixels"),
        ({"cardinalty": 4}, 'Did you mean "cardinality"'),
        ({"width_per_group": 0}, "width_per_group"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_before_any_work(arguments, says, monkeypatch):
    def no_work(*args):
        raise AssertionError("built before the arguments were checked")

    monkeypatch.setattr("keras_resnext.applications.build_features", no_work)
    with pytest.raises(ValueError, match=says):
        create_model(**{"model": "ResNeXt35", **arguments})


@pytest.mark.parametrize("name", ["ResNeXt35", "ResNet18", "ResNet50V2"])
def test_names_of_weights_are_a_file_format(name):
    paths = [weight.path for weight in create_model(name).weights]
    assert paths == (GOLDEN / f"weights_{name}.txt").read_text().split()


@pytest.mark.parametrize(
    "imports",
    [
        "import keras_resnext; keras_resnext.create_model; import keras",
        pytest.param("import keras; import keras_resnext", marks=pytest.mark.slow),
    ],
)
def test_model_file_opens_in_a_fresh_process_after_import(imports, tmp_path):
    """Importing the package is enough, before Keras or after it, also for what was trained."""
    from keras_resnext.training import losses, optimizers, schedules

    model = create_model(TINY, input_shape=(16, 16, 3), classifier_activation=None)
    loss = losses.find_loss(model, Recipe(loss="binary_cross_entropy"))
    model.compile(optimizers.LAMB(schedules.StepDecay(0.1, [2])), loss)
    model.save(tmp_path / "one.keras")
    compile_recipe(model, "sgd", steps=10)
    model.save(tmp_path / "two.keras")
    program = f"""{imports}
for name in ("one", "two"):
    model = keras.saving.load_model({str(tmp_path)!r} + "/" + name + ".keras")
    print(model.count_params(), type(model.optimizer).__name__)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    parameters = str(model.count_params())
    assert finished.stdout.split() == [parameters, "LAMB", parameters, "StagewiseSGD"]


def test_deepest_network_leaves_the_recursion_limit_as_it_was():
    before = sys.getrecursionlimit()
    create_model(TINY, blocks=(60, 1), input_shape=(8, 8, 3))  # some 700 calls deep
    assert sys.getrecursionlimit() == before


def test_zero_gamma_starts_blocks_as_their_shortcuts():
    model = create_model(TINY, input_shape=(16, 16, 3), zero_gamma=True)
    block = keras.Model(
        model.get_layer("stage1_block1_out").output, model.get_layer("stage1_block2_out").output
    )
    x = np.abs(np.random.RandomState(0).normal(size=(1, 16, 16, 64))).astype("float32")
    np.testing.assert_array_equal(predict(block, x), x)
