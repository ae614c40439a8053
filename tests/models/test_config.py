import re

import pytest

from keras_resnext.models.config import ResNetConfig


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"blocks": ()}, "`blocks`. Expected integers of at least 1"),
        ({"blocks": (3, 0, 1, 1)}, "blocks=(3, 0, 1, 1)"),
        ({"blocks": (3, 4)}, "one number per stage each"),
        ({"filters": (64, 128, 256, 2.5)}, "`filters`. Expected integers of at least 1"),
        ({"cardinality": 0}, "`cardinality`. Expected an integer of at least 1"),
        ({"cardinality": True}, "`cardinality`. Expected an integer"),
        ({"width_per_group": "4"}, "`width_per_group`. Expected an integer"),
        ({"block": "bottelneck"}, 'Unknown block "bottelneck". Did you mean "bottleneck"?'),
        ({"stem": "vgg"}, 'Unknown stem "vgg". Valid: 7x7, deep'),
        ({"shortcut": "E"}, 'Unknown shortcut "E"'),
        ({"shortcut": None}, '`shortcut`. Expected one of "A", "B"'),
        ({"stride_on": "7x7"}, 'Unknown stride_on "7x7"'),
        ({"stride_block": "middle"}, 'Unknown stride_block "middle"'),
        ({"preactivation": "yes"}, "`preactivation`. Expected True or False"),
        ({"norm_momentum": 1.5}, "`norm_momentum`. Expected a number of at least 0 and below 1"),
        ({"norm_epsilon": -1e-5}, "`norm_epsilon`. Expected a number"),
        ({"l2": -1}, "`l2`. Expected a number of at least 0"),
        ({"l2": float("nan")}, "`l2`. Expected a number of at least 0"),
        ({"block": "basic", "cardinality": 32}, "A basic block has no groups"),
        ({"block": "basic", "stride_on": "1x1"}, "A basic block has no 1x1"),
        ({"filters": (8, 16, 32, 64), "width_per_group": 4}, "at least 1"),
        ({"preactivation": True, "zero_gamma": True}, "`zero_gamma`"),
        ({"shortcut": "none", "zero_gamma": True}, "as nothing at all"),
        ({"downsample": "blur", "stride_on": "1x1"}, 'use stride_on="3x3"'),
        ({"attention": "see"}, 'Unknown attention "see". Did you mean "se"?'),
        ({"downsample": "max"}, 'Unknown downsample "max"'),
        ({"stem_pool": "min"}, 'Unknown stem_pool "min"'),
        ({"form": "d"}, 'Unknown form "d"'),
        ({"big_little": (2,)}, "`big_little`. Expected 2 integers of at least 1, or None"),
        ({"drop_steps": -1}, "`drop_steps`. Expected an integer of at least 0"),
        ({"block": "separable", "attention": "sk"}, "replaces the 3x3 convolution"),
        ({"block": "multi_kernel", "cardinality": 3}, "`cardinality` must be even"),
        ({"shortcut": "A", "filters": (64, 32, 64, 64)}, "appends channels and takes none away"),
        ({"big_little": (3, 2)}, "leave no rest"),
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
