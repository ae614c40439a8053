"""Every field of a configuration arrives in all the layers that it is of."""

import keras
import numpy as np
import pytest

from keras_resnext import ResNetConfig, create_model
from keras_resnext.layers import BatchNormalization, DropBlock2D, DropPath, SqueezeExcite

TINY = ResNetConfig(
    blocks=(2, 1),
    filters=(16, 32),
    stem="cifar",
    stem_filters=16,
    cardinality=4,
    width_per_group=32,
)
BASIC = {"block": "basic", "cardinality": 1, "width_per_group": 64}
# Whatever makes layers of its own.
KINDS = {
    "plain": {},
    "basic": BASIC,
    "preactivation": {"preactivation": True},
    "se": {"attention": "se"},
    "eca": {"attention": "eca"},
    "sk": {"attention": "sk"},
    "sk_split": {"attention": "sk_split"},
    "sk_assembled": {"attention": "sk_assembled"},
    "separable": {"block": "separable", "cardinality": 1},
    "multi_kernel": {"block": "multi_kernel"},
    "multi_dilation": {"block": "multi_dilation"},
    "tiered stem": {"stem": "tiered"},
    "D": {"shortcut": "D"},
    "big-little": {"big_little": (2, 2), "stem": "7x7"},
    "a": {"form": "a"},
    "b": {"form": "b"},
}


def _build(size=32, **fields):
    return create_model(TINY, input_shape=(size, size, 3), classes=3, **fields)


def _layers(model, kind):
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


@pytest.mark.parametrize("kind", KINDS)
def test_norms_have_its_momentum_and_epsilon(kind):
    model = _build(norm_momentum=0.7, norm_epsilon=3e-4, **KINDS[kind])
    norms = _layers(model, keras.layers.BatchNormalization)
    assert {(norm.momentum, norm.epsilon) for norm in norms} == {(0.7, 3e-4)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kernel_is_penalized(kind):
    model = _build(l2=1e-2, **KINDS[kind])
    kernels = [w for w in model.trainable_weights if w.path.endswith("kernel")]
    assert len(model.losses) == len(kernels)
    expected = 1e-2 * sum((keras.ops.convert_to_numpy(k.value) ** 2).sum() for k in kernels)
    np.testing.assert_allclose(sum(float(loss) for loss in model.losses), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", ["plain", "basic", "se", "sk", "D", "separable"])
def test_zero_gamma_is_of_the_last_norm_of_each_block(kind):
    model = _build(zero_gamma=True, **KINDS[kind])
    zeros = {
        norm.name
        for norm in _layers(model, BatchNormalization)
        if not keras.ops.convert_to_numpy(norm.gamma).any()
    }
    last = "conv2" if kind == "basic" else "conv3"
    blocks = ("stage1_block1", "stage1_block2", "stage2_block1")
    assert zeros == {f"{block}_{last}_norm" for block in blocks}


def test_kernels_begin_with_the_variance_of_he():
    """2 over the inputs of a neuron: of a grouped convolution, those of its group."""
    model = _build(width_per_group=128)
    for name in ("stage1_block1_conv1", "stage2_block1_conv2", "stage2_block1_conv3"):
        kernel = keras.ops.convert_to_numpy(model.get_layer(name).kernel)
        assert kernel.var() == pytest.approx(2 / np.prod(kernel.shape[:3]), rel=0.1)


def test_drop_path_rises_linearly_to_the_last_block():
    model = _build(drop_path=0.3, drop_steps=7)
    drops = {layer.name: layer for layer in _layers(model, DropPath)}
    rates = {name.removesuffix("_drop_path"): layer.rate for name, layer in drops.items()}
    assert rates == pytest.approx(
        {"stage1_block1": 0.1, "stage1_block2": 0.2, "stage2_block1": 0.3}
    )
    assert {layer.schedule_steps for layer in drops.values()} == {7}


@pytest.mark.parametrize("kind", ["plain", "sk_assembled"])
def test_drop_block_is_of_the_last_two_stages(kind):
    """With a quarter of the seeds in the one before the last (Lee et al., 2020, section 3.2)."""
    stages = {"blocks": (1, 1, 1), "filters": (16, 32, 64)}
    model = _build(drop_block=0.1, drop_block_size=3, drop_steps=7, **stages, **KINDS[kind])
    drops = _layers(model, DropBlock2D)
    scales = {(layer.name.split("_")[0], layer.scale) for layer in drops}
    assert scales == {("stage2", 0.25), ("stage3", 1.0)}
    assert {(x.rate, x.block_size, x.schedule_steps) for x in drops} == {(0.1, 3, 7)}


def test_the_reduction_of_attention():
    (first, *_) = _layers(_build(attention="se", attention_ratio=1 / 2), SqueezeExcite)
    assert first.reduced == 32
    (first, *_) = _layers(_build(attention="se"), SqueezeExcite)
    assert first.reduced == 8  # a 16th of 64 would be 4, and 8 is the least


@pytest.mark.parametrize(("shortcut", "size"), [("D", 2), ("D3", 3)])
def test_what_a_strided_shortcut_averages(shortcut, size):
    """2x2 pixels, or 3x3 with a border of zeros that count."""
    model = _build(shortcut=shortcut)
    block = keras.Model(
        model.get_layer("stage1_block2_out").output,
        model.get_layer("stage2_block1_shortcut_pool").output,
    )
    x = np.random.default_rng(0).normal(size=(1, 32, 32, 64)).astype("float32")
    border = size - 2
    padded = np.pad(x, [(0, 0), (border, 0), (border, 0), (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), (1, 2))
    expected = windows[:, ::2, ::2].mean((-2, -1))
    np.testing.assert_allclose(block.predict_on_batch(x), expected, atol=1e-6)
