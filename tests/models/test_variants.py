"""The named networks: what is published of them; test_counting.py compares their costs."""

import dataclasses
import fnmatch
import inspect

import pytest
from networks import Record

import keras_resnext
from keras_resnext.models import variants
from keras_resnext.models.counting import count
from keras_resnext.weights.keras_names import keras_config


def check_built(name):
    """Raise an error unless the function of a row builds its network."""
    row = variants.VARIANTS[name]
    model = getattr(keras_resnext, name)(weights=None)
    assert model.name == name
    assert model.output_shape == (None, row.classes)
    assert model.count_params() == row.total


@pytest.mark.usefixtures("kernels_of_zeros")
def test_a_row_is_built_by_its_function():
    check_built("ResNeXt50")


@pytest.mark.slow
@pytest.mark.usefixtures("kernels_of_zeros")
def test_the_deepest_row_is_built():
    """Keras follows a graph by recursion."""
    check_built("ResNet1202")


@pytest.mark.parametrize("name", variants.VARIANTS)
def test_every_row_has_its_function(name):
    row, function = variants.VARIANTS[name], getattr(keras_resnext, name)
    assert f">>> model = keras_resnext.{name}(weights=None)" in function.__doc__
    assert inspect.signature(function).parameters["classes"].default == row.classes


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


@pytest.mark.parametrize("name", ASSEMBLED)
def test_assembled_networks_have_the_papers_counts(name):
    overrides, trainable, *gmacs = ASSEMBLED[name]
    row = variants.get(name if name in variants.VARIANTS else "ResNet50")
    for size, expected in zip((224, 256), gmacs, strict=True):
        counted = count(row.config.replace(**overrides), size, 1000)
        assert counted.trainable == trainable
        # The paper's table has two decimals, and rounds 5.655 up.
        assert counted.macs / 1e9 == pytest.approx(expected, abs=0.0051)


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
    config = variants.get("AssembleResNet50").config
    for place, size in enumerate((224, 256)):
        shapes = Record(config, size).shapes
        for name, sizes in RESOLUTIONS.items():
            assert shapes[name][:2] == (sizes[place],) * 2, name
    ends = ("stage1_merge_out", "stage2_merge_out", "stage3_merge_out", "stage4_block3_out")
    assert [shapes[name][2] for name in ends] == [256, 512, 1024, 2048]
    for stage, width in (("stage1", 32), ("stage2", 64), ("stage3", 128)):  # one little block each
        assert shapes[f"{stage}_little_block1_conv1"][2] == width
        assert f"{stage}_little_block2_conv1" not in shapes


def test_assemble_152_has_the_papers_branches():
    shapes = Record(variants.get("AssembleResNet152").config, 224).shapes
    for stage, (big, little) in enumerate([(4, 1), (11, 5), (29, 14)], start=1):
        for branch, last in (("big", big), ("little", little)):
            assert f"stage{stage}_{branch}_block{last}_add" in shapes
            assert f"stage{stage}_{branch}_block{last + 1}_add" not in shapes


def test_options_that_change_no_parameters_still_change_the_network():
    """Cost of the strided 1x1, which the parameter counts cannot tell."""
    published = {"ResNet50": 3.858, "ResNet101": 7.570, "ResNet152": 11.282, "ResNet200": 14.776}
    for name, gmacs in published.items():
        row = variants.get(name)
        counted = count(row.config.replace(stride_on="1x1"), 224, 1000)
        assert round(counted.macs / 1e9, 3) == gmacs
        assert counted.parameters == row.total


@pytest.mark.parametrize(
    "name, parameters",
    [
        ("ResNet50", 25_636_712),
        ("ResNet101", 44_707_176),
        ("ResNet152", 60_419_944),
        ("ResNet50V2", 25_613_800),
        ("ResNet101V2", 44_675_560),
        ("ResNet152V2", 60_380_648),
    ],
)
def test_biases_are_those_of_keras_applications(name, parameters):
    config = keras_config(variants.get(name).config)
    assert config.use_bias and count(config, 224, 1000).parameters == parameters


def test_a_hundred_classes_add_5850():
    config = variants.get("ResNet20").config
    assert count(config, 32, 100).parameters - count(config, 32, 10).parameters == 5850


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
