import keras
import pytest

from keras_resnext.training.precision import precision


@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
def test_policy_is_set_and_restored_also_after_an_error(policy):
    with pytest.raises(RuntimeError), precision(policy):
        assert keras.layers.Dense(1).dtype_policy.name == policy
        raise RuntimeError
    assert keras.config.dtype_policy().name == "float32"
