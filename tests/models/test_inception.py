"""The Inception networks against the papers' counts and keras.applications."""

import pathlib

import keras
import numpy as np
import pytest
from networks import Record
from tiny_inception import TINY_RESNET, TINY_V1

from keras_resnext.applications import create_model
from keras_resnext.layers import ScaledAdd
from keras_resnext.models import inception_tables as tables
from keras_resnext.models import variants
from keras_resnext.models.builders import build_features
from keras_resnext.models.counting import count
from keras_resnext.models.inception_blocks import pooling
from keras_resnext.models.inception_config import InceptionConfig, parse
from keras_resnext.models.keras_layers import KerasLayers
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.inception_names import convolutions, keras_layers, timm_layers

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
ROWS = [n for n, row in variants.VARIANTS.items() if isinstance(row.config, InceptionConfig)]


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


# ---------------------------------------------------------------------------- published counts


@pytest.mark.parametrize(
    "name, overrides, trainable, gmacs",
    [
        ("InceptionV1", {}, 13_378_280, 1.591),
        ("InceptionV1BN", {}, 13_004_888, None),
        ("InceptionV3", {"norm_scale": True}, 27_161_264, None),
    ],
    ids=str,
)
def test_published_counts_with_auxiliary_classifiers(name, overrides, trainable, gmacs):
    """The rows themselves are counted with all the others in test_counting."""
    row = variants.get(name)
    counted = count(row.config.replace(auxiliary=True, **overrides), row.input_size, 1000)
    assert counted.trainable == trainable
    assert gmacs in (None, round(counted.macs / 1e9, 3))


def _biased(inputs, *layers):
    """Parameters of convolutions with biases, one after another: (kernel's area, filters)."""
    return _chain(inputs, 1, layers)


def _normalized(inputs, *layers):
    """The same without biases but with a gamma and a beta each."""
    return _chain(inputs, 2, layers)


def _chain(inputs, per_filter, layers):
    total = 0
    for area, filters in layers:
        total += (area * inputs + per_filter) * filters
        inputs = filters
    return total


def test_naive_v1_by_arithmetic():
    """The widths of the v1 paper's table: #1x1, #3x3, #5x5."""
    widths = [(64, 128, 32), (128, 192, 96), (192, 208, 48), (160, 224, 64), (128, 256, 64)]
    widths += [(112, 288, 64), (256, 320, 128), (256, 320, 128), (384, 384, 128)]
    total = _biased(3, (49, 64), (1, 64), (9, 192))
    channels = 192
    for row in widths:
        total += sum(_biased(channels, (a, w)) for a, w in zip((1, 9, 25), row, strict=True))
        channels += sum(row)
    assert channels == 4944
    total += channels * 1000 + 1000
    row = variants.get("InceptionV1Naive")
    assert row.trainable == row.total == total


def test_printed_inception_resnet_v2_by_arithmetic():
    """The v4 paper's figures 3, 16, 7, 17, 18 and 19, of 5, 10 and 5 blocks."""
    total = _normalized(3, (9, 32), (9, 32), (9, 64)) + _normalized(64, (9, 96))
    total += _normalized(160, (1, 64), (9, 96)) + _normalized(
        160, (1, 64), (7, 64), (7, 64), (9, 96)
    )
    total += _normalized(192, (9, 192))
    channels = 384
    block = _normalized(384, (1, 32)) + _normalized(384, (1, 32), (9, 32))
    block += _normalized(384, (1, 32), (9, 48), (9, 64)) + _biased(128, (1, 384))
    total += 5 * block
    total += _normalized(384, (9, 384)) + _normalized(384, (1, 256), (9, 256), (9, 384))
    channels += 2 * 384
    block = _normalized(channels, (1, 192)) + _normalized(channels, (1, 128), (7, 160), (7, 192))
    total += 10 * (block + _biased(384, (1, channels)))
    total += _normalized(channels, (1, 256), (9, 384)) + _normalized(channels, (1, 256), (9, 288))
    total += _normalized(channels, (1, 256), (9, 288), (9, 320))
    channels += 384 + 288 + 320
    block = _normalized(channels, (1, 192)) + _normalized(channels, (1, 192), (3, 224), (3, 256))
    total += 5 * (block + _biased(448, (1, channels)))
    total += channels * 1000 + 1000
    assert channels == 2144
    assert variants.get("InceptionResNetV2Paper").trainable == total


# -------------------------------------------------------------------------- keras.applications


@pytest.mark.slow
@pytest.mark.parametrize("name", ["InceptionV3", "InceptionResNetV2"])
def test_predictions_are_those_of_keras_applications(name):
    headless = {"weights": None, "include_top": False, "pooling": "avg"}
    theirs = getattr(keras.applications, name)(input_shape=(None, None, 3), **headless)
    ours = create_model(name, input_shape=(None, None, 3), **headless)
    _randomize(theirs)
    for source, target in _pairs(theirs, ours, variants.get(name).config):
        target.set_weights(source.get_weights())
    for size in (75, 139, 150):
        x = np.random.RandomState(size).normal(size=(2, size, size, 3)).astype("float32")
        expected, found = _numpy(theirs(x, training=False)), _numpy(ours(x, training=False))
        assert expected.std() > 0.05
        np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


def _randomize(model):
    """Weights under which the signal neither dies nor explodes."""
    random = np.random.RandomState(1)
    for weight in model.weights:
        if weight.path.endswith("kernel"):
            spread = np.sqrt(2 / np.prod(weight.shape[:-1]))
            weight.assign(random.normal(0, spread, weight.shape))
        elif weight.path.endswith("variance"):
            weight.assign(random.uniform(0.5, 1.5, weight.shape))
        else:
            weight.assign(random.normal(0, 0.1, weight.shape))


def _pairs(theirs, ours, config):
    """Their layers with weights and ours."""
    names = keras_layers(config, [layer.name for layer in theirs.layers])
    sources = [layer for layer in theirs.layers if layer.weights]
    by_name = {layer.name: layer for layer in sources}
    targets = [layer for layer in ours.layers if layer.weights]
    assert len(sources) == len(targets)
    return [(by_name[names[layer.name]], layer) for layer in targets]


# timm's forms of our networks: trainable and all parameters, and GMAC
TIMM = {
    "inception_v3": (23_834_568, 23_869_000, 5.713),
    "inception_v4": (42_679_816, 42_742_984, 12.254),
    "inception_resnet_v2": (55_843_464, 55_904_008, 13.156),
}


@pytest.mark.parametrize("name", TIMM)
def test_counts_are_timms(name):
    counted = count(timm_config(name), 299, 1000)
    assert (counted.trainable, counted.parameters, round(counted.macs / 1e9, 3)) == TIMM[name]


def test_the_way_average_poolings_meet_the_border_is_an_option():
    """With the border counted, a corner of ones has a mean of 4/9."""
    image = keras.Input((9, 9, 3))
    expected = {"same": 1.0, "counted": 4 / 9}
    for padding, corner in expected.items():
        config = tables.V3.replace(pool_padding=padding)
        features = keras.Model(image, _pooled(image, config))
        found = _numpy(features(np.ones((1, 9, 9, 3), "float32")))
        assert found[0, 4, 4, 0] == pytest.approx(1)
        assert found[0, 0, 0, 0] == pytest.approx(corner)


def _pooled(image, config):
    ((step,),) = parse("avg3x3")
    return pooling(KerasLayers(config), image, step, "pool")


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("path, window", [("max3x3/2c", 3), ("max2x2/2c", 2)])
def test_ceil_mode_lets_the_last_window_reach_over_the_end(size, path, window):
    """Windows start at every second pixel, as long as one of their pixels is in the image."""
    x = np.random.RandomState(0).uniform(0, 1, (1, size, size, 1)).astype("float32")
    starts = range(0, 2 * -(-(size - window) // 2) + 1, 2)
    expected = [[x[0, i : i + window, j : j + window].max() for j in starts] for i in starts]
    image = keras.Input((size, size, 1))
    ((step,),) = parse(path)
    model = keras.Model(image, pooling(KerasLayers(tables.V1), image, step, "pool"))
    np.testing.assert_array_equal(_numpy(model(x))[0, :, :, 0], expected)


# --------------------------------------------------------------------- what the networks are


@pytest.mark.parametrize("name", ROWS)
def test_every_row_keeps_a_pixel_from_its_smallest_image_on(name):
    config = variants.get(name).config.replace(auxiliary=False)
    for size in {config.smallest_input - 1, config.smallest_input} - {0}:
        least = min(min(shape) for shape in Record(config, size).shapes.values())
        assert (least > 0) == (size == config.smallest_input)


def test_smaller_images_are_refused():
    assert TINY_RESNET.smallest_input == 75
    with pytest.raises(ValueError, match="at least 75 pixels"):
        create_model(TINY_RESNET, input_shape=(75, 74, 3))
    with pytest.raises(ValueError):  # what would happen without the check
        build_features(keras.Input((74, 74, 3)), TINY_RESNET)


@pytest.mark.parametrize("config", [TINY_RESNET, TINY_V1], ids=["resnet", "v1"])
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_every_weight_learns(config, policy):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    model = create_model(config, input_shape=(75, 75, 3), classes=3)
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64)
    model.compile(optimizer, "sparse_categorical_crossentropy", run_eagerly=True)
    x = np.random.RandomState(0).normal(size=(4, 75, 75, 3)).astype("float32")
    before = [_numpy(weight) for weight in model.trainable_weights]
    losses = [model.train_on_batch(x, np.arange(4) % 3) for _ in range(2)]
    assert np.isfinite(losses).all()
    for weight, old in zip(model.trainable_weights, before, strict=True):
        new = _numpy(weight)
        assert np.isfinite(new).all() and (new != old).any(), weight.path


def test_residual_branches_are_scaled_and_only_the_last_is_linear():
    model = create_model(TINY_RESNET, input_shape=(75, 75, 3), residual_scales=(0.5, 0.25, 0.1))
    _randomize(model)
    ends = {"stage2_block2": 0.5, "stage3_block2": 0.25, "stage4_block2": 0.1, "stage4_block3": 1}
    x = np.random.RandomState(0).normal(size=(2, 75, 75, 3)).astype("float32")
    for name, scale in ends.items():
        stage, block = name.rsplit("_block", 1)
        layers = (f"{stage}_block{int(block) - 1}_out", f"{name}_expansion", f"{name}_out")
        outputs = [model.get_layer(layer).output for layer in layers]
        shortcut, branch, found = map(_numpy, keras.Model(model.input, outputs)(x))
        expected = shortcut + scale * branch
        if name != "stage4_block3":
            assert (expected < 0).any()
            expected = np.maximum(expected, 0)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        assert model.get_layer(f"{name}_expansion").use_bias
    printed = create_model(TINY_RESNET.replace(linear_last=False), input_shape=(75, 75, 3))
    scales = [layer.scale for layer in printed.layers if isinstance(layer, ScaledAdd)]
    assert scales == [0.17, 0.1, 0.2, 0.2]
    assert isinstance(printed.get_layer("stage4_block3_out"), keras.layers.ReLU)


@pytest.mark.parametrize("config", [TINY_RESNET, TINY_V1.replace(auxiliary=True)])
def test_l2_is_on_every_kernel(config):
    model = create_model(config, input_shape=(80, 80, 3), l2=1e-2)
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel")]
    assert len(model.losses) == len(kernels) > 10
    expected = 1e-2 * sum((_numpy(k) ** 2).sum() for k in kernels)
    np.testing.assert_allclose(sum(map(float, model.losses)), expected, rtol=1e-5)


def test_options_reach_the_layers():
    model = create_model(
        TINY_V1, input_shape=(64, 64, 3), norm=True, use_bias=False, norm_scale=False, dropout=0.3
    )
    norms = [layer for layer in model.layers if hasattr(layer, "moving_mean")]
    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    assert len(norms) == len(convolutions) == 3 + 4 * 6
    assert {(n.epsilon, n.momentum, n.scale) for n in norms} == {(1e-3, 0.99, False)}
    assert not any(layer.use_bias for layer in convolutions)
    assert model.get_layer("dropout").rate == 0.3
    plain = create_model(TINY_V1, input_shape=(64, 64, 3))
    assert not any(hasattr(layer, "moving_mean") for layer in plain.layers)


def test_channels_first_builds_the_same_network():
    for config, last in ((TINY_RESNET, 16), (TINY_V1.replace(auxiliary=True), 16)):
        keras.config.set_image_data_format("channels_first")
        model = create_model(config, input_shape=(3, 80, 80))
        assert model.get_layer("avg_pool").input.shape[:2] == (None, last)
        keras.config.set_image_data_format("channels_last")
        assert model.count_params() == create_model(config, input_shape=(80, 80, 3)).count_params()


def _thin(config):
    """The same network with two filters in each convolution."""
    stages = [[(module.kind, (2,) * len(module.filters)) for module in s] for s in config.stages]
    return config.replace(stem_filters=(2,) * len(config.stem_filters), stages=stages)


def test_names_of_weights_are_a_file_format():
    shape = (75, 75, 3)
    models = {
        "InceptionV1": create_model(_thin(tables.V1), input_shape=shape),
        "InceptionV3": create_model(_thin(timm_config("inception_v3")), input_shape=shape),
        "tiny_inception_resnet": create_model(TINY_RESNET, input_shape=shape, norm_scale=True),
    }
    for name, model in models.items():
        golden = (GOLDEN / f"weights_{name}.txt").read_text().split()
        assert sorted(weight.path for weight in model.weights) == sorted(golden)


def test_names_are_those_of_the_built_network():
    model = create_model(TINY_RESNET, input_shape=(75, 75, 3))
    stem, modules = convolutions(TINY_RESNET)
    expected = {*stem, *(n for names in modules.values() for n in names), "features_conv"}
    expected |= {f"{name}_norm" for name in expected} | {"predictions"}
    expected |= {f"stage{s}_block{b}_expansion" for s, b in ((2, 2), (3, 2), (4, 2), (4, 3))}
    assert {layer.name for layer in model.layers if layer.weights} == expected
    assert all(model.get_layer(f"{name}_out") for name in TINY_RESNET.modules)


@pytest.mark.parametrize("name", ["InceptionV3", "InceptionV4", "InceptionResNetV2"])
def test_no_two_layers_have_one_name_in_timm(name):
    layers = timm_layers(variants.get(name).config)
    assert len(set(layers.values())) == len(layers)


@pytest.mark.parametrize("name", ["InceptionV1", "InceptionResNetV1", "InceptionResNetV2Paper"])
def test_what_timm_does_not_have_is_refused(name):
    with pytest.raises(ValueError, match="timm has no Inception network"):
        timm_layers(variants.get(name).config)
