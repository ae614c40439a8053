import keras
import numpy as np
import pytest

from keras_resnext.layers import ScaledAdd


def _pair():
    random = np.random.RandomState(0)
    return [random.normal(size=(2, 3, 4)).astype("float32") for _ in range(2)]


@pytest.mark.parametrize("scale", [0.17, 1.0, 2])
def test_adds_the_scaled_second(scale):
    x, y = _pair()
    found = keras.ops.convert_to_numpy(ScaledAdd(scale)([x, y]))
    np.testing.assert_allclose(found, x + scale * y, rtol=1e-6)


def test_half_precision_stays_half():
    x, y = _pair()
    layer = ScaledAdd(0.1, dtype="mixed_float16")
    found = layer([x, y])
    assert keras.backend.standardize_dtype(found.dtype) == "float16"
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), x + 0.1 * y, atol=5e-3)


def test_is_saved_with_its_scale():
    copy = ScaledAdd.from_config(ScaledAdd(0.25, name="sum").get_config())
    assert (copy.scale, copy.name) == (0.25, "sum")
    assert copy.compute_output_shape([(2, 3), (2, 3)]) == (2, 3)
