"""What a layer was made with is what its configuration makes again, for every layer there is."""

import inspect

import keras
import pytest

from keras_resnext import layers

FIRST = {"data_format": "channels_first"}
# Each argument of a layer's own, with a value that is not its default.
GIVEN = {
    "BatchNormalization": {"momentum": 0.5, "epsilon": 0.1, "scale": False},
    "BlurPool2D": {"strides": 3, **FIRST},
    "DropBlock2D": {
        "rate": 0.1,
        "block_size": 3,
        "scale": 0.25,
        "schedule_steps": 9,
        "seed": 5,
        **FIRST,
    },
    "DropPath": {"rate": 0.1, "schedule_steps": 9, "seed": 5},
    "EfficientChannelAttention": {"kernel_size": 7, "kernel_regularizer": "L1", **FIRST},
    "GroupedConv2D": {
        "filters": 8,
        "kernel_size": (3, 5),
        "padding": "torch",
        "groups": 2,
        "formulation": "split",
        **FIRST,
    },
    "ImageInput": {
        "batch_shape": (None, 8, 8, 3),
        "preprocessing": {"size": 8},
        "class_names": ["one", "other"],
    },
    "Preprocessing": {
        "size": 8,
        "crop": 0.5,
        "interpolation": "bicubic",
        "mean": (0.1, 0.2, 0.3),
        "std": (0.4, 0.5, 0.6),
        "resize_fitting": False,
        **FIRST,
    },
    "ScaledAdd": {"scale": 0.25},
    "SelectiveKernel": {
        "reduced": 3,
        "momentum": 0.5,
        "epsilon": 0.1,
        "kernel_regularizer": "L1",
        **FIRST,
    },
    "SqueezeExcite": {"reduced": 3, "use_bias": False, "kernel_regularizer": "L1", **FIRST},
    "UpsampleAdd": FIRST,
}
CLASSES = {name: getattr(layers, name) for name in layers.__all__ if name[0].isupper()}


def _own_arguments(kind):
    """Those that Keras's layer, if it is made of one, has not."""
    base = kind.__bases__[0]
    theirs = inspect.signature(base).parameters if base.__module__.startswith("keras.") else ()
    ours = inspect.signature(kind).parameters.values()
    return {p.name for p in ours if p.kind != p.VAR_KEYWORD and p.name not in theirs}


@pytest.mark.parametrize("name", CLASSES)
def test_a_layer_is_made_again_from_its_configuration(name):
    given, kind = GIVEN[name], CLASSES[name]
    assert _own_arguments(kind) <= set(given)
    config = kind(**given).get_config()
    assert "data_format" not in config or "data_format" in given
    again = kind.from_config(config)
    assert again.get_config() == config
    for argument, value in given.items():
        if argument == "kernel_regularizer":
            assert isinstance(again.kernel_regularizer, keras.regularizers.L1)
        else:
            assert config[argument] == value


def test_an_image_input_keeps_what_it_says_of_images():
    layer = layers.ImageInput(**GIVEN["ImageInput"])
    assert layers.ImageInput.from_config(layer.get_config()).description == layer.description
