"""DropBlock and stochastic depth: what they drop, when, and what they keep."""

import keras
import numpy as np
import pytest

from keras_resnext.layers import DropBlock2D, DropPath, set_schedule_steps

LAYERS = {"DropBlock2D": DropBlock2D, "DropPath": DropPath}


def _numpy(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def _blocks(seeds, size):
    """Grow every seed to a block, pixel by pixel."""
    dropped = np.zeros_like(seeds)
    for n, i, j, c in np.argwhere(seeds):
        before, after = size // 2, (size - 1) // 2
        dropped[n, i - before : i + after + 1, j - before : j + after + 1, c] = 1
    return dropped


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_drop_block_is_the_seeds_grown_and_the_rest_scaled(size, monkeypatch):
    """The noise is given; a NumPy version does the rest."""
    shape = (2, 9, 11, 4)
    noise = np.random.RandomState(0).uniform(size=shape).astype("float32")
    monkeypatch.setattr(
        keras.random, "uniform", lambda s, dtype, seed: keras.ops.convert_to_tensor(noise)
    )
    height, width = shape[1:3]
    chance = 0.5 * 0.2 * height * width / (size**2 * (height - size + 1) * (width - size + 1))
    seeds = noise < chance
    before, after = size // 2, (size - 1) // 2
    inside = np.zeros(shape, bool)
    inside[:, before : height - after, before : width - after] = True
    dropped = _blocks((seeds & inside).astype(float), size)
    x = np.random.RandomState(1).normal(size=shape).astype("float32")
    expected = x * (1 - dropped) * dropped.size / (1 - dropped).sum()
    y = DropBlock2D(0.2, block_size=size, scale=0.5)(x, training=True)
    assert 0 < dropped.mean() < 1
    np.testing.assert_allclose(_numpy(y), expected, rtol=1e-5)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
@pytest.mark.parametrize("size, block", [(14, 7), (7, 7), (5, 7), (9, 3)])
def test_drop_block_drops_the_expected_share(rate, size, block):
    """Blocks overlap: each of the b * b seeds that reach a pixel drops it by itself."""
    layer = DropBlock2D(rate, block_size=block, seed=1)
    y = _numpy(layer(np.ones((256, size, size, 64), "float32"), training=True))
    b = min(block, size)
    chance = rate * size**2 / (b**2 * (size - b + 1) ** 2)
    reach = np.minimum.reduce(
        [
            np.arange(size) + 1,
            np.arange(size)[::-1] + 1,
            np.full(size, b),
            np.full(size, size - b + 1),
        ]
    )
    expected = np.mean(1 - (1 - chance) ** np.outer(reach, reach))
    deviation = np.sqrt(expected / (256 * 64))  # were each map one draw, as the smallest are
    assert np.mean(y == 0) == pytest.approx(expected, abs=4 * deviation)
    assert y.mean() == pytest.approx(1.0, abs=1e-4)


def test_drop_path_drops_whole_images_at_its_rate():
    y = _numpy(DropPath(0.3, seed=1)(np.ones((4000, 2, 2, 3), "float32"), training=True))
    values = y.reshape(4000, -1)
    assert (values == values[:, :1]).all()
    assert np.mean(values[:, 0] == 0) == pytest.approx(0.3, abs=0.03)
    np.testing.assert_allclose(np.unique(values), [0, 1 / 0.7], rtol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_identity_in_inference_and_at_rate_zero(name):
    x = np.random.RandomState(0).normal(size=(2, 8, 8, 3)).astype("float32")
    layer = LAYERS[name](0.5)
    np.testing.assert_array_equal(_numpy(layer(x)), x)
    np.testing.assert_array_equal(_numpy(layer(x, training=False)), x)
    np.testing.assert_array_equal(_numpy(LAYERS[name](0.0)(x, training=True)), x)
    assert float(layer.step) == 0


@pytest.mark.parametrize("name", LAYERS)
def test_rate_follows_the_schedule_across_a_file(name, tmp_path):
    """Ten steps to the whole rate: seven before the file, the rest after it."""
    inputs = keras.Input((8, 8, 3))
    layer = LAYERS[name](0.4, schedule_steps=10, name="drop")
    model = keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(layer(inputs)))
    model.compile("sgd", "mse")
    x, y = np.ones((7, 8, 8, 3), "float32"), np.ones((7, 3), "float32")
    model.fit(x, y, batch_size=1, verbose=0)
    assert float(layer.current_rate()) == pytest.approx(0.4 * 0.7)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    drop = loaded.get_layer("drop")
    assert float(drop.current_rate()) == pytest.approx(0.4 * 0.7)
    loaded.fit(x, y, batch_size=1, verbose=0)
    assert float(drop.current_rate()) == pytest.approx(0.4)
    assert float(drop.step) == 14


def test_a_schedule_begins_with_nothing_dropped():
    x = np.ones((50, 8, 8, 3), "float32")
    for make in LAYERS.values():
        layer = make(0.5, schedule_steps=2, seed=0)
        shares = [np.mean(_numpy(layer(x, training=True)) == 0) for _ in range(3)]
        assert shares[0] == 0 < shares[1] < shares[2]


def test_schedule_of_a_whole_model():
    model = keras.Sequential([DropPath(0.2), keras.Sequential([DropBlock2D(0.1)])])
    set_schedule_steps(model, 100)
    assert model.layers[0].schedule_steps == model.layers[1].layers[0].schedule_steps == 100
    with pytest.raises(ValueError, match="schedule_steps=-1"):
        set_schedule_steps(model, -1)


def test_half_precision_and_open_sizes():
    keras.config.set_dtype_policy("mixed_float16")
    inputs = keras.Input((None, None, 4))
    model = keras.Model(inputs, DropBlock2D(0.3, block_size=3)(inputs))
    y = _numpy(model(np.ones((8, 6, 5, 4), "float16"), training=True))
    assert y.dtype == "float16" and np.isfinite(y).all() and (y == 0).any()


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"rate": 1.0}, "`rate`. Expected a number of at least 0 and below 1"),
        ({"rate": "a"}, "rate='a'"),
        ({"rate": 0.1, "block_size": 0}, "block_size=0"),
        ({"rate": 0.1, "scale": 0.0}, "scale=0.0"),
        ({"rate": 0.1, "schedule_steps": 1.5}, "schedule_steps=1.5"),
    ],
)
def test_wrong_arguments_are_named(wrong, said):
    with pytest.raises(ValueError, match=said):
        DropBlock2D(**wrong)
