"""The same weights give the logits that timm's networks gave, on every backend."""

import pathlib

import numpy as np
import pytest
from synthetic import set_synthetic_weights, synthetic_images

from keras_resnext.applications import create_model
from keras_resnext.models import variants

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
NETWORKS = {
    "ecaresnet50d": "ECAResNet50D",
    "ecaresnet50t": "ECAResNet50T",
    "resnet18": "ResNet18",
    "resnet34": "ResNet34",
    "resnet50": "ResNet50",
    "resnet101": "ResNet101",
    "resnet50d": "ResNet50D",
    "resnetaa50": "ResNetAA50",
    "resnetblur50": "ResNetBlur50",
    "resnext50_32x4d": "ResNeXt50",
    "resnext50d_32x4d": "ResNeXt50D",
    "resnext101_32x4d": "ResNeXt101",
    "seresnet50": "SEResNet50",
    "seresnext50_32x4d": "SEResNeXt50",
    "skresnet18": "SKResNet18",
    "skresnext50_32x4d": "SKResNeXt50",
}


@pytest.mark.parametrize("timm", NETWORKS)
def test_logits_are_timms(timm):
    model = create_model(NETWORKS[timm], input_shape=(None, None, 3), classifier_activation=None)
    set_synthetic_weights(model, variants.get(NETWORKS[timm]).config)
    golden = np.load(GOLDEN / f"timm_{timm}.npz")
    assert len(golden.files) == 2
    for key in golden.files:
        size = int(key.removeprefix("logits_"))
        logits = model.predict(synthetic_images(2, size), verbose=0)
        np.testing.assert_allclose(logits, golden[key], atol=1e-4)


def test_every_golden_answer_is_compared():
    assert {f"timm_{name}.npz" for name in NETWORKS} == {p.name for p in GOLDEN.glob("timm_*.npz")}
