import keras
import numpy as np
import pytest
from eager import predict
from tiny_inception import TINY_V3

from keras_resnext import ResNetConfig, create_model, feature_extractor
from keras_resnext.models import variants

SIZE = 64
NARROW = {"stem_filters": 8, "filters": (8, 16, 24, 32)}  # the names are those of the wide ones


def _narrow(name):
    config = variants.get(name).config
    groups = {"width_per_group": 64} if config.cardinality > 1 else {}
    return config.replace(blocks=(2, 2, 2, 1), **NARROW, **groups)


@pytest.mark.parametrize(
    "name",
    ["ResNet18", "ResNeXt50", "ResNet50V2", "SKResNet18", "ResNetBlur50", "BLResNet50"],
)
@pytest.mark.parametrize("shape", [(SIZE, SIZE, 3), (None, None, 3)])
def test_levels_are_powers_of_two_and_widths_the_stages(name, shape):
    config = _narrow(name)
    model = create_model(config, include_top=False, input_shape=shape)
    features = feature_extractor(model)
    maps = predict(features, np.zeros((1, SIZE, SIZE, 3)))
    assert list(maps) == ["C2", "C3", "C4", "C5"]
    for level, values in maps.items():
        assert values.shape[1:3] == (SIZE // 2 ** int(level[1]),) * 2
    widths = [values.shape[-1] for values in maps.values()]
    if config.preactivation:  # what the strided block reads: the sum before it
        assert widths == list(config.outputs)
    elif config.big_little:  # stage 1 halves, and stage 3 keeps what stage 2 left
        assert widths == [config.stem_filters, config.outputs[0], *config.outputs[2:]]
    else:
        assert widths == list(config.outputs)


def test_the_last_level_is_what_the_network_ends_in():
    for name in ("ResNet18", "ResNet50V2"):
        model = create_model(_narrow(name), include_top=False, input_shape=(64, 64, 3))
        x = np.random.RandomState(0).normal(size=(1, 64, 64, 3)).astype("float32")
        maps = predict(feature_extractor(model), x)
        np.testing.assert_allclose(maps["C5"], predict(model, x), atol=1e-6)
        assert all(values.min() >= 0 for values in maps.values())  # after a ReLU


def test_every_row_has_its_stages():
    """By one network of each kind of stem, stage and block; the names are the same in all."""
    kinds = {}
    for row in variants.VARIANTS.values():
        if row.input_size == 32:
            kinds[row.config.block, row.config.shortcut] = row
    for row in kinds.values():
        model = create_model(row.name, blocks=(1, 1, 1), width_per_group=64)
        assert list(feature_extractor(model).output) == ["C0", "C1", "C2"]


@pytest.mark.parametrize(
    "config, size",
    [
        (TINY_V3, 75),
        (TINY_V3, 128),
        (ResNetConfig(blocks=(1, 1, 1, 1), filters=(4, 4, 8, 8)), 40),
        (ResNetConfig(blocks=(1, 1, 1, 1), filters=(4, 4, 8, 8)), 33),
        (ResNetConfig(blocks=(1, 1, 1, 1), filters=(4, 4, 8, 8), preactivation=True), 40),
        (ResNetConfig(blocks=(2, 2, 2, 1), filters=(8, 8, 8, 8), big_little=(2, 2)), 40),
    ],
)
def test_levels_are_those_of_the_stages_at_every_size(config, size):
    """Also where maps of 5 and 3 pixels round to the same ratio, or lose their borders."""
    model = create_model(config, include_top=False, input_shape=(size, size, 3))
    open_model = create_model(config, include_top=False, input_shape=(None, None, 3))
    found = {
        level: tensor._keras_history.operation.name
        for level, tensor in feature_extractor(model).output.items()
    }
    assert list(found)[-3:] == ["C3", "C4", "C5"]
    expected = feature_extractor(open_model).output
    assert found == {k: x._keras_history.operation.name for k, x in expected.items()}


def test_a_loaded_model_and_chosen_levels(tmp_path):
    model = create_model(_narrow("ResNet18"), input_shape=(64, 64, 3), name="ResNet18")
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert list(feature_extractor(loaded, ["C3", "C5"]).output) == ["C3", "C5"]
    with pytest.raises(ValueError, match='No level "C6" in ResNet18. It has C1, C2, C3, C4, C5'):
        feature_extractor(loaded, ["C6"])


def test_another_model_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)], name="mine")
    with pytest.raises(ValueError, match='a model called "mine"'):
        feature_extractor(model)
