import dataclasses
import fnmatch

import keras
import pytest

import keras_resnext
from keras_resnext.models import variants
from keras_resnext.models.applications import create_model
from keras_resnext.models.complexity import complexity


def _rows():
    slow = {"ResNet1202": pytest.mark.slow}
    return [pytest.param(name, marks=slow.get(name, ())) for name in variants.VARIANTS]


@pytest.mark.parametrize("name", _rows())
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
