"""Descriptions of Inception networks: what is refused, and what follows from the tables."""

import re

import pytest

from keras_resnext.models import inception_tables as tables
from keras_resnext.models import variants
from keras_resnext.models.inception_config import (
    MODULES,
    STEMS,
    InceptionConfig,
    Module,
    module_paths,
    parse,
)

ROW = (8, 8, 8, 8, 8, 8)
SMALL = InceptionConfig(
    stem="v1",
    stem_filters=(8, 8, 8),
    stages=((("v1", ROW),), (("v1", ROW), ("v1", ROW))),
    pools=("max3x3/2c",),
    auxiliary_head="v1",
    auxiliary_after=("stage3_block1",),
)
ROWS = [name for name, row in variants.VARIANTS.items() if isinstance(row.config, InceptionConfig)]


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"stem": "v5"}, 'Unknown stem "v5". Did you mean "v'),
        ({"stem": "v3"}, "`stem_filters`. Expected 5 integers of at least 1"),
        ({"stem_filters": (8, 8)}, "`stem_filters`. Expected 3 integers of at least 1"),
        ({"stem_filters": (8, 8, 0)}, "`stem_filters`. Expected 3 integers of at least 1"),
        ({"stem_filters": 8}, "`stem_filters`. Expected 3 integers"),
        ({"stages": ()}, "`stages` needs at least one module per stage"),
        ({"stages": ((),)}, "`stages` needs at least one module per stage"),
        ({"stages": ("v1",)}, "`stages`. Expected a tuple of stages"),
        ({"stages": ((5,),)}, "`stages` needs modules, pairs"),
        ({"stages": ((("v1_naiv", ROW),),)}, '"v1_naiv". Did you mean "v1_naive"'),
        ({"stages": ((("v1", (8, 8)),),)}, "`stages` needs 6 integers of at least 1 in 'v1'"),
        ({"stages": ((("v1", (8, 8, 8, 8, 8, True)),),)}, "`stages` needs 6 integers"),
        ({"pools": ()}, "`stages` after the first need a reduction"),
        ({"stages": ((("a_reduction", (8, 8, 8, 8)),),), "pools": ()}, "a reduction can stand"),
        ({"pools": ("max3x3/2c", "max3x3/2c")}, "`pools` needs one pooling for every stage"),
        ({"pools": ("max3x3",)}, "`pools`. Expected max poolings of stride 2"),
        ({"pools": ("3x3/2",)}, "`pools`. Expected max poolings of stride 2"),
        ({"pools": ("maximum",)}, "`pools`. Expected max poolings of stride 2"),
        ({"pools": (3,)}, "`pools`. Expected max poolings of stride 2"),
        ({"final_filters": 0}, "`final_filters`. Expected an integer of at least 1, or None"),
        ({"norm": "yes"}, "`norm`. Expected True or False"),
        ({"norm_scale": None}, "`norm_scale`. Expected True or False"),
        ({"pool_padding": "valid"}, 'Unknown pool_padding "valid"'),
        ({"residual_scales": (0.1, 0.2)}, "`residual_scales` needs one number per stage"),
        ({"linear_last": True}, "`linear_last` is about a network whose last module is residual"),
        ({"auxiliary": 1}, "`auxiliary`. Expected True or False"),
        ({"auxiliary": True, "auxiliary_after": ()}, "`auxiliary` needs `auxiliary_head`"),
        ({"auxiliary_head": "v2"}, 'Unknown auxiliary_head "v2"'),
        (
            {"auxiliary_after": ("stage3_block3",)},
            'Unknown auxiliary_after "stage3_block3"',
        ),
        ({"auxiliary_weight": -1}, "`auxiliary_weight`. Expected a number of at least 0"),
        ({"auxiliary_weight": float("nan")}, "`auxiliary_weight`. Expected a number"),
        ({"l2": -1}, "`l2`. Expected a number of at least 0"),
        ({"norm_scales": True}, 'Unknown configuration field "norm_scales". Did you mean'),
    ],
    ids=str,
)
def test_what_describes_no_network_is_refused(wrong, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        SMALL.replace(**wrong)


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"residual_scales": ()}, "3 here"),
        ({"residual_scales": (0.1, 0.1)}, "3 here"),
        (
            {"residual_scales": (0.1, 0.1, 0)},
            "`residual_scales`. Expected a tuple of numbers",
        ),
        (
            {"residual_scales": (0.1, 0.1, "1")},
            "`residual_scales`. Expected a tuple of numbers",
        ),
        ({"residual_scales": 0.1}, "`residual_scales`. Expected a tuple"),
        ({"auxiliary": True}, "published without"),
    ],
    ids=str,
)
def test_what_describes_no_residual_network_is_refused(wrong, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        tables.RESNET_V2.replace(**wrong)


def test_lists_become_tuples_so_that_configurations_compare_and_hash():
    stages = [[[module.kind, list(module.filters)] for module in s] for s in SMALL.stages]
    listed = SMALL.replace(stages=stages, pools=["max3x3/2c"], stem_filters=[8, 8, 8])
    assert listed == SMALL and hash(listed) == hash(SMALL)
    assert isinstance(listed.stages[0][0], Module)


@pytest.mark.parametrize(
    "path", ["3", "3x", "x3", "3x3/1", "3x3/2s", "min3x3", "0x3", "3x3|", "3x3-1x1"]
)
def test_no_path(path):
    with pytest.raises(ValueError, match="is not a layer such as"):
        parse(path)


def test_paths_are_read_as_they_are_written():
    first, second, fork = parse("max3x3/2c 1x7v 1x3|3x1")
    assert [step[:4] for step in first] == [("max", (3, 3), 2, "ceil")]
    assert [step[:4] for step in second] == [("conv", (1, 7), 1, "valid")]
    assert [step.kernel for step in fork] == [(1, 3), (3, 1)]


@pytest.mark.parametrize("kind", MODULES)
def test_every_kind_is_sound(kind):
    """Forks stand at ends, and all the paths leave the same size."""
    paths = [parse(path) for path in MODULES[kind]]
    assert all(len(position) == 1 for path in paths for position in path[:-1])
    for size in (7, 8, 35, 36):
        assert len({_after(path, size) for path in paths}) == 1


def _after(path, size):
    """Height and width of a path's output, by the arithmetic of convolutions."""
    sizes = [size, size]
    for step, *_ in path:
        for axis, kernel in enumerate(step.kernel):
            padding = {"same": kernel - 1, "ceil": 1, "valid": 0}[step.padding]
            sizes[axis] = (sizes[axis] + padding - kernel) // step.stride + 1
    return tuple(sizes)


@pytest.mark.parametrize("name", ROWS)
def test_published_sizes_of_the_stages(name):
    """Rows after the stem have 35, 17 and 8 pixels at 299, or 28, 14 and 7 at 224."""
    config = variants.get(name).config
    size, found = config.native_size, []
    for paths in STEMS[config.stem].modules:
        (size,) = {_after(parse(path), size)[0] for path in paths}
    for stage, modules in enumerate(config.stages):
        if stage and config.pools:
            size = _after(parse(config.pools[stage - 1]), size)[0]
        for module in modules:
            (size,) = {_after(parse(path), size)[0] for path in MODULES[module.kind]}
        found.append(size)
    assert found == {224: [28, 14, 7], 299: [35, 17, 8]}[config.native_size]
    assert variants.get(name).input_size == config.native_size


@pytest.mark.parametrize(
    "name, depth, smallest",
    [
        ("InceptionV1", 22, 31),
        ("InceptionV1BN", 22, 15),
        ("InceptionV3", 48, 75),
        ("InceptionV4", 76, 75),
        ("InceptionResNetV2", 176, 75),
    ],
)
def test_depth_and_smallest_input(name, depth, smallest):
    """22 is the v1 paper's count, 15 torchvision's least size, 75 that of keras.applications."""
    config = variants.get(name).config
    assert (config.depth, config.smallest_input) == (depth, smallest)


def test_auxiliary_classifiers_need_larger_images():
    v1, v3 = tables.V1.replace(auxiliary=True), tables.V3.replace(auxiliary=True)
    assert v3.smallest_input == 299  # 5x5 pixels are left for the last 5x5 convolution
    assert 31 < v1.smallest_input <= 16 * 5
    assert v1.replace(auxiliary_after=("stage4_block1",)).smallest_input > v1.smallest_input


def test_names_of_a_fork():
    paths = module_paths(Module("c", (1, 2, 3, 4, 5, 6, 7, 8, 9)))
    names = {step.name: step.filters for path in paths for position in path for step in position}
    assert names["branch2_conv2a"] == 3 and names["branch2_conv2b"] == 4
    assert names["branch3_conv3b"] == 8 and names["branch4_conv1"] == 9
    assert names["branch4_pool1"] is None
