import keras
import numpy as np
import pytest

from keras_resnext.layers import BlurPool2D, UpsampleAdd


def _blurred(x, strides):
    """The nine products, in float64."""
    height, width = x.shape[1:3]
    padded = np.pad(x.astype("float64"), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    y = sum(
        kernel[i, j] * padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)
    )
    return y[:, ::strides, ::strides]


@pytest.mark.parametrize("size", [(8, 8), (7, 5), (2, 3), (1, 4), (1, 1)])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_blur_is_nine_products(size, strides):
    x = np.random.RandomState(0).normal(size=(2, *size, 3)).astype("float32")
    layer = BlurPool2D(strides)
    y = keras.ops.convert_to_numpy(layer(x))
    np.testing.assert_allclose(y, _blurred(x, strides), atol=1e-6)
    assert layer.compute_output_shape(x.shape) == y.shape


def test_gradient_is_the_blur_turned_round(gradients):
    """The map is linear: its gradient is its transpose, column by column."""
    size, layer = (1, 5, 4, 1), BlurPool2D()
    columns = [_blurred(e.reshape(size), 2).ravel() for e in np.eye(20)]
    direction = np.random.RandomState(0).normal(size=(1, 3, 2, 1)).astype("float32")
    x = np.zeros(size, "float32")
    found = gradients(lambda x: keras.ops.sum(keras.ops.multiply(layer(x), direction)), [x])[0]
    np.testing.assert_allclose(found.ravel(), np.array(columns) @ direction.ravel(), atol=1e-6)


def test_open_sizes():
    inputs = keras.Input((None, None, 2))
    model = keras.Model(inputs, BlurPool2D()(inputs))
    assert model.output_shape == (None, None, None, 2)
    x = np.random.RandomState(0).normal(size=(1, 7, 6, 2)).astype("float32")
    np.testing.assert_allclose(model.predict(x, verbose=0), _blurred(x, 2), atol=1e-6)


@pytest.mark.parametrize("strides", [0, 1.5, True])
def test_wrong_strides_are_named(strides):
    with pytest.raises(ValueError, match="`strides`. Expected an integer of at least 1"):
        BlurPool2D(strides)


@pytest.mark.parametrize("size", [(4, 6), (3, 5), (1, 1)])
def test_upsample_add_repeats_each_pixel(size):
    random = np.random.RandomState(0)
    half = [-(-s // 2) for s in size]
    small = random.normal(size=(2, *half, 3)).astype("float32")
    large = random.normal(size=(2, *size, 3)).astype("float32")
    repeated = np.kron(small, np.ones((1, 2, 2, 1), "float32"))[:, : size[0], : size[1]]
    y = keras.ops.convert_to_numpy(UpsampleAdd()([small, large]))
    np.testing.assert_allclose(y, repeated + large, atol=1e-6)
