import re

import pytest

from keras_resnext.models.config import ResNetConfig


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"blocks": ()}, "`blocks` needs positive integers"),
        ({"blocks": (3, 0, 1, 1)}, "blocks=(3, 0, 1, 1)"),
        ({"blocks": (3, 4)}, "one number a stage each"),
        ({"filters": (64, 128, 256, 2.5)}, "`filters` needs positive integers"),
        ({"cardinality": 0}, "`cardinality` needs positive integers"),
        ({"cardinality": True}, "`cardinality` needs positive integers"),
        ({"width_per_group": "4"}, "`width_per_group` needs positive integers"),
        ({"block": "bottelneck"}, "`block` must be one of 'basic', 'bottleneck'"),
        ({"stem": "vgg"}, "`stem` must be one of"),
        ({"shortcut": "E"}, "`shortcut` must be one of"),
        ({"shortcut": None}, "`shortcut` must be one of"),
        ({"stride_on": "7x7"}, "`stride_on` must be one of"),
        ({"stride_block": "middle"}, "`stride_block` must be one of"),
        ({"preactivation": "yes"}, "`preactivation` must be one of"),
        ({"norm_momentum": 1.5}, "0 <= norm_momentum < 1"),
        ({"norm_epsilon": -1e-5}, "0 <= norm_epsilon < 1"),
        ({"l2": -1}, "0 <= l2"),
        ({"l2": float("nan")}, "0 <= l2"),
        ({"block": "basic", "cardinality": 32}, "A basic block has no groups"),
        ({"block": "basic", "stride_on": "1x1"}, "A basic block has no 1x1"),
        ({"filters": (8, 16, 32, 64), "width_per_group": 4}, "at least 1"),
        ({"preactivation": True, "zero_gamma": True}, "`zero_gamma`"),
        ({"shortcut": "none", "zero_gamma": True}, "as nothing at all"),
        ({"downsample": "blur", "stride_on": "1x1"}, 'use stride_on="3x3"'),
        ({"drop_path": 0.1, "shortcut": "none"}, "`drop_path` drops a block down"),
    ],
    ids=str,
)
def test_what_describes_no_network_is_refused(wrong, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        ResNetConfig(**wrong)


def test_unknown_field_gets_the_nearest():
    with pytest.raises(ValueError, match='"cardinalty". Did you mean "cardinality"'):
        ResNetConfig().replace(cardinalty=4)


def test_lists_become_tuples_so_that_configurations_compare_and_hash():
    config = ResNetConfig(blocks=[2, 2, 2, 2])
    assert config == ResNetConfig(blocks=(2, 2, 2, 2))
    assert hash(config) == hash(ResNetConfig(blocks=(2, 2, 2, 2)))


def test_strides_move_but_the_total_stays():
    first, last = ResNetConfig(), ResNetConfig(stride_block="last")
    assert first.strides == (1, 2, 2, 2)
    assert last.strides == (2, 2, 2, 1)
    assert first.total_stride == last.total_stride == 32
    assert ResNetConfig(stem="cifar", blocks=(1, 1), filters=(16, 32)).total_stride == 2
