"""The attentions against plain NumPy, value and gradient."""

import keras
import numpy as np
import pytest

from keras_resnext.layers import EfficientChannelAttention, SelectiveKernel, SqueezeExcite
from keras_resnext.layers.attention import reduced_channels

SHAPE = (2, 5, 4, 32)


def _images(seed=0, shape=SHAPE):
    return np.random.RandomState(seed).normal(size=shape).astype("float32")


def _randomized(layer, shape):
    layer.build(shape)
    random = np.random.RandomState(1)
    for weight in layer.weights:
        positive = 1.5 if "variance" in weight.path else 0.0
        weight.assign(random.normal(scale=0.3, size=weight.shape) + positive)
    return layer


def _weights(layer):
    return {"/".join(w.path.split("/")[-2:]): np.asarray(w.numpy()) for w in layer.weights}


def _sigmoid(x):
    return 1 / (1 + np.exp(-x))


def _squeeze_excite(x, w):
    hidden = x.mean((1, 2)) @ w["reduce/kernel"] + w.get("reduce/bias", 0)
    gates = _sigmoid(np.maximum(hidden, 0) @ w["expand/kernel"] + w.get("expand/bias", 0))
    return x * gates[:, None, None]


def _eca(x, w):
    kernel = w["conv/kernel"].ravel()
    reach = len(kernel) // 2
    means = np.pad(x.mean((1, 2)), ((0, 0), (reach, reach)))
    windows = np.lib.stride_tricks.sliding_window_view(means, len(kernel), axis=1)
    return x * _sigmoid(windows @ kernel)[:, None, None]


def _selective(x, w):
    """x is a stack of branches."""
    hidden = x.sum(0).mean((1, 2)) @ w["reduce/kernel"]
    hidden = (hidden - w["norm/moving_mean"]) / np.sqrt(w["norm/moving_variance"] + 1e-5)
    hidden = np.maximum(hidden * w["norm/gamma"] + w["norm/beta"], 0)
    scores = (hidden @ w["select/kernel"]).reshape(len(hidden), len(x), -1)
    weights = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    return np.einsum("pnhwc,npc->nhwc", x, weights)


GATES = {
    "se": (lambda: SqueezeExcite(8), _squeeze_excite),
    "se, no bias": (lambda: SqueezeExcite(4, use_bias=False), _squeeze_excite),
    "eca": (EfficientChannelAttention, _eca),
    "eca of 5": (lambda: EfficientChannelAttention(5), _eca),
}


@pytest.mark.parametrize("name", GATES)
def test_gates_are_the_formula(name):
    make, formula = GATES[name]
    layer = _randomized(make(), SHAPE)
    x = _images()
    expected = formula(x.astype("float64"), _weights(layer))
    np.testing.assert_allclose(
        np.asarray(keras.ops.convert_to_numpy(layer(x))), expected, atol=1e-5
    )


@pytest.mark.parametrize("paths", [2, 3])
def test_selective_kernel_is_the_formula(paths):
    layer = _randomized(SelectiveKernel(8), [SHAPE] * paths)
    branches = [_images(seed) for seed in range(paths)]
    expected = _selective(np.stack(branches).astype("float64"), _weights(layer))
    np.testing.assert_allclose(
        np.asarray(keras.ops.convert_to_numpy(layer(branches))), expected, atol=1e-5
    )


def test_gradients_are_those_of_finite_differences(gradients):
    layer = _randomized(SqueezeExcite(8), SHAPE)
    x, direction = _images(), _images(3)
    found = gradients(lambda x: keras.ops.sum(keras.ops.multiply(layer(x), direction)), [x])[0]
    weights, step = _weights(layer), 1e-5
    for place in ((0, 0, 0, 0), (1, 4, 3, 31), (0, 2, 1, 7)):
        shift = np.zeros(SHAPE)
        shift[place] = step
        up, down = (
            np.sum(_squeeze_excite(x.astype("float64") + s, weights) * direction)
            for s in (shift, -shift)
        )
        np.testing.assert_allclose(found[place], (up - down) / (2 * step), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("channels, size", [(16, 3), (256, 5), (512, 5), (1024, 5), (2048, 7)])
def test_eca_kernel_sizes_of_the_paper(channels, size):
    layer = EfficientChannelAttention()
    layer.build((None, 7, 7, channels))
    assert layer.weights[0].shape == (size, 1, 1)


@pytest.mark.parametrize(
    "channels, ratio, divisor, expected",
    # timm: SE of 64 to 2048 channels, SK of 18 layers, SK of ResNeXt
    [(64, 1 / 16, 8, 8), (256, 1 / 16, 8, 16), (2048, 1 / 16, 8, 128), (64, 1 / 8, 16, 16)]
    + [(512, 1 / 8, 16, 64), (128, 1 / 16, 32, 32), (1024, 1 / 16, 32, 64)],
)
def test_reduced_channels(channels, ratio, divisor, expected):
    assert reduced_channels(channels, ratio, divisor) == expected


def test_reduced_channels_keeps_a_share():
    assert reduced_channels(20, 1.0, 16) == 16
    assert reduced_channels(20, 1.0, 16, keep=0.9) == 32


def test_half_precision_sums_in_single():
    """The mean of many large values: their sum is above float16's largest number."""
    keras.config.set_dtype_policy("mixed_float16")
    layer = _randomized(SqueezeExcite(8), (1, 64, 64, 32))
    y = keras.ops.convert_to_numpy(layer(np.full((1, 64, 64, 32), 100.0, "float16")))
    assert y.dtype == "float16" and np.isfinite(y).all()


def test_penalties_and_configurations_survive():
    for make in (SqueezeExcite, EfficientChannelAttention, SelectiveKernel):
        layer = make(kernel_regularizer=keras.regularizers.L2(0.5))
        copy = make.from_config(layer.get_config())
        copy.build([SHAPE, SHAPE] if make is SelectiveKernel else SHAPE)
        kernels = [w for w in copy.trainable_weights if w.path.endswith("kernel")]
        expected = sum(0.5 * float(keras.ops.sum(w.value**2)) for w in kernels)
        assert kernels and float(sum(copy.losses)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("make", [SqueezeExcite, SelectiveKernel])
@pytest.mark.parametrize("reduced", [0, -1, 1.5, True])
def test_wrong_reductions_are_named(make, reduced):
    with pytest.raises(ValueError, match="`reduced`. Expected an integer of at least 1"):
        make(reduced)


def test_wrong_eca_and_lonely_branches_are_named():
    with pytest.raises(ValueError, match="`kernel_size`. Expected an odd integer"):
        EfficientChannelAttention(4)
    with pytest.raises(ValueError, match="Expected two or more tensors"):
        SelectiveKernel()([_images()])
