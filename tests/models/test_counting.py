"""The cost of a network by arithmetic, against published numbers and against built networks."""

import pytest

from keras_resnext.applications import create_model
from keras_resnext.models import variants
from keras_resnext.models.complexity import complexity
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import count

RESIDUAL = [name for name, v in variants.VARIANTS.items() if isinstance(v.config, ResNetConfig)]
SMALL = ResNetConfig(
    blocks=(2, 1, 2), filters=(16, 32, 64), stem_filters=16, cardinality=4, width_per_group=32
)
# What no row of the table has, at an image size that is nowhere even.
BUILT = {
    "plain": {},
    "basic": {"block": "basic", "cardinality": 1, "width_per_group": 64, "attention": "sk_split"},
    "separable": {"block": "separable", "cardinality": 1, "use_bias": True},
    "multi_kernel": {"block": "multi_kernel", "downsample": "average", "stem_pool": "average"},
    "multi_dilation": {"block": "multi_dilation", "shortcut": "C", "attention": "eca"},
    "preactivation": {"preactivation": True, "stride_block": "last", "use_bias": True},
    "stride on the 1x1": {"stride_on": "1x1", "stem": "tiered", "attention": "se"},
    "selective": {"attention": "sk_split", "attention_ratio": 0.5, "downsample": "blur"},
    "big little": {"blocks": (3, 4, 2), "big_little": (2, 2), "shortcut": "D3"},
    "forms": {"form": "a", "stem": "cifar", "shortcut": "D"},
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_published_numbers(name):
    row = variants.get(name)
    counted = count(row.config, row.input_size, row.classes)
    assert (counted.parameters, counted.trainable) == (row.total, row.trainable)
    assert counted.macs / 1e9 == pytest.approx(row.gmacs, abs=6e-4)


@pytest.mark.parametrize("name", BUILT)
def test_is_what_the_built_network_has(name):
    config = SMALL.replace(**BUILT[name])
    model = create_model(config, input_shape=(75, 75, 3), classes=7)
    assert count(config, 75, 7) == complexity(model)
