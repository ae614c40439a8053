import pytest

from keras_resnext.models import variants
from keras_resnext.weights.grammar import split_tag, timm_config, timm_form
from keras_resnext.weights.sources import timm_network

# timm's names for the rows of our table, written out.
NAMES = {
    "resnet18": "ResNet18",
    "resnet200": "ResNet200",
    "resnet50d": "ResNet50D",
    "resnext50_32x4d": "ResNeXt50",
    "resnext101_64x4d": "ResNeXt101_64x4d",
    "resnext50d_32x4d": "ResNeXt50D",
    "seresnet152d": "SEResNet152D",
    "seresnext26t_32x4d": "SEResNeXt26T",
    "seresnext101d_32x8d": "SEResNeXt101D_32x8d",
    "skresnet34": "SKResNet34",
    "skresnext50_32x4d": "SKResNeXt50",
    "ecaresnet50t": "ECAResNet50T",
    "ecaresnet269d": "ECAResNet269D",
    "ecaresnetlight": "ECAResNetLight",
    "resnetblur50": "ResNetBlur50",
    "resnetaa50": "ResNetAA50",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_mean_the_rows_of_the_table(name):
    row = variants.get(NAMES[name])
    assert timm_config(f"timm/{name}.a1_in1k") == row.config
    assert timm_network(row) == name


@pytest.mark.parametrize(
    "name, fields",
    [
        ("wide_resnet101_2", {"width_per_group": 128, "cardinality": 1, "blocks": (3, 4, 23, 3)}),
        ("resnet50s", {"stem": "deep", "stem_filters": 128, "shortcut": "B"}),
        ("resnet50c", {"stem": "deep", "stem_filters": 64, "shortcut": "B"}),
        ("resnet10t", {"block": "basic", "stem": "tiered", "shortcut": "D"}),
        ("resnet14t", {"block": "bottleneck", "blocks": (1, 1, 1, 1)}),
        ("skresnet50d", {"attention": "sk_split", "stem": "deep"}),
        ("ecaresnext26t_32x4d", {"attention": "eca", "cardinality": 32, "blocks": (2, 2, 2, 2)}),
        ("seresnextaa201d_32x8d", {"downsample": "average", "blocks": (3, 24, 36, 4)}),
        ("resnetblur101d", {"downsample": "blur", "stem_pool": "blur", "shortcut": "D"}),
        ("resnext50_16x6d", {"cardinality": 16, "width_per_group": 6}),
    ],
)
def test_names_that_no_table_has(name, fields):
    config = timm_config(name)
    assert {field: getattr(config, field) for field in fields} == fields


@pytest.mark.parametrize("name", ["InceptionV3", "InceptionV4", "InceptionResNetV2"])
def test_timms_details_are_of_the_network_whatever_else_is_changed(name):
    row = variants.get(name)
    fields = {"dropout": 0.3, "l2": 1e-4, "norm_momentum": 0.9, "norm_scale": True}
    expected = timm_config(timm_network(row)).replace(**fields)
    assert timm_form(row.config.replace(**fields)) == expected
    for other in ("InceptionV2", "InceptionResNetV2Paper", "ResNet50V2"):
        config = variants.get(other).config
        assert timm_form(config) == config


def test_a_depth_that_is_not_published_takes_the_blocks_that_are_given():
    with pytest.raises(ValueError, match="are not known: give `blocks`"):
        timm_config("seresnet77")
    assert timm_config("seresnet77", (3, 6, 13, 3)).block == "bottleneck"
    assert timm_config("resnet22", (3, 3, 2, 2)).block == "basic"


@pytest.mark.parametrize(
    "wrong",
    ["resnetv2_50", "resnetrs50", "legacy_seresnet50", "resnext50", "resnet50_32x4d", "vgg16"]
    + ["wide_resnet50", "resnet50_gn", "seresnet33ts", ""],
)
def test_other_families_are_refused(wrong):
    with pytest.raises(ValueError, match="Unknown timm network"):
        timm_config(wrong)


def test_the_nearest_name_is_given():
    with pytest.raises(ValueError, match='Did you mean "seresnext50_32x4d"'):
        timm_config("seresnexxt50_32x4d")


def test_tags():
    assert split_tag("timm/resnet50.a1_in1k") == ("resnet50", "a1_in1k")
    assert split_tag("resnet50") == ("resnet50", None)
