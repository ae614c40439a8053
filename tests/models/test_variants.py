import dataclasses
import fnmatch

import keras
import pytest

import keras_resnext
from keras_resnext.applications import create_model
from keras_resnext.models import variants
from keras_resnext.models.complexity import complexity
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import count

pytestmark = pytest.mark.usefixtures("kernels_of_zeros")


def _rows():
    """Every row; most of the deep, which take seconds to build, among the slow tests.

    test_counting.py has the numbers of those too, by arithmetic and fast.
    """
    for name, row in variants.VARIANTS.items():
        deep = row.config.depth >= 50 and isinstance(row.config, ResNetConfig)
        fast = not deep or name in ("ResNet50", "ResNeXt50")
        yield pytest.param(name, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("name", list(_rows()))
def test_every_row_builds_the_published_network(name):
    """Parameters to the last one, multiply-adds to three decimals of 10**9."""
    row, function = variants.VARIANTS[name], getattr(keras_resnext, name)
    assert f">>> model = keras_resnext.{name}(weights=None)" in function.__doc__
    model = function(weights=None)
    counted = complexity(model)
    assert counted.trainable == row.trainable
    assert counted.parameters == row.total == model.count_params()
    assert round(counted.macs / 1e9, 3) == row.gmacs
    assert model.name == name
    assert model.output_shape == (None, row.classes)
    keras.backend.clear_session()


@pytest.mark.parametrize(
    "name, depth", [("ResNet18", 18), ("ResNet152", 152), ("ResNet1202", 1202)]
)
def test_the_number_in_a_name_is_the_depth(name, depth):
    assert variants.get(name).config.depth == depth


_D = {"stem": "deep", "shortcut": "D"}
_BIG_LITTLE = {"big_little": (2, 4), "shortcut": "D3"}
# Table 1 of the assembled paper as its authors' code builds it: trainable parameters, and
# 10**9 multiply-adds at 224 and at 256 pixels.
ASSEMBLED = {
    "R50": ({}, 25_557_032, 4.09, 5.34),
    "R50-D": (_D, 25_576_264, 4.33, 5.65),
    "+ SE": (_D | {"attention": "se", "attention_bias": False}, 28_091_208, 4.33, 5.66),
    "+ SK": (_D | {"attention": "sk_assembled"}, 38_791_048, 6.18, 8.07),
    "R50 + Big-Little": (_BIG_LITTLE, 28_403_624, 3.27, 4.27),
    "+ Big-Little + SK": (_BIG_LITTLE | {"attention": "sk_assembled"}, 41_846_440, 4.17, 5.44),
    "AssembleResNet50": ({}, 41_846_440, 5.73, 7.48),
    "AssembleResNet152": ({}, 117_004_200, 15.68, 20.47),
}


def by_arithmetic(row, overrides):
    config = variants.get(row).config.replace(**overrides)
    return lambda size: count(config, size, 1000)


def built(row, overrides):
    model = create_model(row, input_shape=(None, None, 3), **overrides)
    return lambda size: complexity(model, (size, size, 3))


@pytest.mark.parametrize("how", [by_arithmetic, pytest.param(built, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ASSEMBLED)
def test_assembled_networks_have_the_papers_counts(name, how):
    overrides, trainable, *gmacs = ASSEMBLED[name]
    counted_at = how(name if name in variants.VARIANTS else "ResNet50", overrides)
    for size, expected in zip((224, 256), gmacs, strict=True):
        counted = counted_at(size)
        assert counted.trainable == trainable
        # The paper's table has two decimals, and rounds 5.655 up.
        assert counted.macs / 1e9 == pytest.approx(expected, abs=0.0051)
    keras.backend.clear_session()


# Heights and widths of the feature maps by the paper's figures, at 224 and at 256 pixels.
RESOLUTIONS = {
    "stem_conv": (112, 128),
    "stem_merge": (56, 64),
    "stage1_big_block2_add": (28, 32),
    "stage1_little": (56, 64),
    "stage1_merge_out": (28, 32),
    "stage2_big_block3_add": (14, 16),
    "stage2_little": (28, 32),
    "stage2_merge_out": (14, 16),
    "stage3_big_block5_add": (7, 8),
    "stage3_little": (14, 16),
    "stage3_merge_out": (14, 16),
    "stage4_block3_out": (7, 8),
}


def test_assemble_50_has_the_papers_resolutions_and_branches():
    model = create_model("AssembleResNet50", input_shape=(None, None, 3))
    maps = keras.Model(model.inputs, [model.get_layer(name).output for name in RESOLUTIONS])
    for place, size in enumerate((224, 256)):
        shapes = maps.compute_output_shape((1, size, size, 3))
        for (name, sizes), shape in zip(RESOLUTIONS.items(), shapes, strict=True):
            assert shape[1:3] == (sizes[place],) * 2, name
    assert [shape[-1] for shape in shapes if shape[-1] > 64][::3] == [256, 512, 1024, 2048]
    names = {layer.name for layer in model.layers}
    for stage, width in (("stage1", 32), ("stage2", 64), ("stage3", 128)):  # one little block each
        assert model.get_layer(f"{stage}_little_block1_conv1").filters == width
        assert f"{stage}_little_block2_conv1" not in names


@pytest.mark.slow
def test_assemble_152_has_the_papers_branches():
    names = {layer.name for layer in create_model("AssembleResNet152").layers}
    for stage, (big, little) in enumerate([(4, 1), (11, 5), (29, 14)], start=1):
        for branch, last in (("big", big), ("little", little)):
            assert f"stage{stage}_{branch}_block{last}_add" in names
            assert f"stage{stage}_{branch}_block{last + 1}_add" not in names


def test_options_that_change_no_count_still_change_the_network():
    """Cost of the strided 1x1 and of the V2 order, which the parameter counts cannot tell."""
    published = {"ResNet50": 3.858, "ResNet101": 7.570, "ResNet152": 11.282, "ResNet200": 14.776}
    for name, gmacs in published.items():
        if name in ("ResNet50", "ResNet101"):
            counted = complexity(create_model(name, stride_on="1x1"))
            assert round(counted.macs / 1e9, 3) == gmacs
            assert counted.parameters == variants.get(name).total


def test_a_hundred_classes_add_5850():
    ten, hundred = (create_model("ResNet20", classes=n).count_params() for n in (10, 100))
    assert hundred - ten == 5850


def test_preserved_complexity():
    """The paper's table 2, and the rows that stand for it."""
    for cardinality, width in ((1, 64), (2, 40), (4, 24), (8, 14), (32, 4)):
        assert keras_resnext.width_for_cardinality(cardinality) == width
        config = variants.get(f"ResNeXt50_{cardinality}x{width}d").config
        assert (config.cardinality, config.width_per_group) == (cardinality, width)


def test_preserved_complexity_at_other_costs():
    """The width is the best of all: no other is nearer to the cost, by trying them."""

    def cost(groups, width, planes):
        return groups * (8 * planes * width + 9 * width**2)

    for planes, base in ((64, 64), (64, 128), (16, 16), (256, 64)):
        for groups in (1, 2, 3, 8, 16, 32, 64):
            found = keras_resnext.width_for_cardinality(groups, planes, base)
            errors = {
                width: abs(cost(groups, width, planes) - cost(1, base, planes))
                for width in range(1, 2 * base + 2)
            }
            assert errors[found] == min(errors.values())


def test_list_models_by_pattern_in_the_order_of_the_table():
    names = list(variants.VARIANTS)
    assert variants.list_models() == names
    for pattern in ("ResNeXt*", "*101*", "plain?8"):
        expected = [n for n in names if fnmatch.fnmatch(n.lower(), pattern.lower())]
        assert variants.list_models(pattern) == expected != []
    assert variants.list_models("vgg*") == []


def test_aliases_and_case():
    assert variants.get("resnext101_32X4D") is variants.VARIANTS["ResNeXt101"]
    for alias, name in variants.ALIASES.items():
        assert name in variants.VARIANTS and alias not in variants.VARIANTS


@pytest.mark.parametrize("wrong, near", [("ResNeXt51", "ResNeXt50"), ("resnet-50", "ResNet50")])
def test_unknown_name_gets_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f'Unknown model "{wrong}". Did you mean "{near}"'):
        variants.get(wrong)


def test_rows_are_complete():
    for row in variants.VARIANTS.values():
        assert row.paper and row.trainable and row.gmacs
        with pytest.raises(dataclasses.FrozenInstanceError):
            row.config.blocks = (1,)
