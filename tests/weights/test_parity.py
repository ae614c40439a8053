"""timm's networks with the same weights, loaded by name: the same answers, on every backend."""

import keras
import numpy as np
import pytest
import safetensors.numpy
from eager import predict
from synthetic import GOLDEN, synthetic_images, synthetic_tensors, tensor_shapes

from keras_resnext import from_timm
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import to_timm

NETWORKS = sorted(tensor_shapes())
# One of each kind; the others take the same ways, and as long.
QUICK = ("resnet18", "resnetblur50", "seresnext50_32x4d", "skresnext50_32x4d", "ecaresnet50t")
QUICK += ("inception_v3",)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NETWORKS]
)
def test_logits_and_features_are_timms(name, tmp_path):
    tensors = synthetic_tensors(name)
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(tensors, path)
    model = from_timm(name, path, input_shape=(None, None, 3), classifier_activation=None)
    both = keras.Model(model.inputs, [model.get_layer("avg_pool").output, model.output])
    golden = np.load(GOLDEN / f"timm_{name}.npz")
    sizes = {key.rsplit("_", 1)[1] for key in golden.files}
    assert len(sizes) == 2 and len(golden.files) == 4
    for size in sizes:
        features, logits = predict(both, synthetic_images(2, int(size)))
        np.testing.assert_allclose(logits, golden[f"logits_{size}"], atol=1e-4)
        np.testing.assert_allclose(features, golden[f"features_mean_{size}"], atol=1e-4)
    back = to_timm(model, timm_config(name))
    assert set(back) == set(tensors)
    for key, values in tensors.items():
        np.testing.assert_array_equal(back[key], values)


def test_every_golden_answer_is_compared():
    assert sorted(p.stem.removeprefix("timm_") for p in GOLDEN.glob("timm_*.npz")) == NETWORKS
