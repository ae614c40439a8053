"""The files of keras.applications: how its layers are called, and the form its networks have."""

import re

import h5py

from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.weights import inception_names

# What the residual networks of keras.applications are, where ours are something else.
_V1 = {"use_bias": True, "stride_on": "1x1", "norm_epsilon": 1.001e-5}
_V2 = {"use_bias": True, "norm_epsilon": 1.001e-5}
_PARTS = {"shortcut": "0_conv", "shortcut_norm": "0_bn", "preact_norm": "preact_bn"}
_PARTS |= {f"conv{i}": f"{i}_conv" for i in (1, 2, 3)}
_PARTS |= {f"conv{i}_norm": f"{i}_bn" for i in (1, 2, 3)}
_OTHERS = {"stem_conv": "conv1_conv", "stem_conv_norm": "conv1_bn", "features_norm": "post_bn"}


def keras_form(config):
    """Return the configuration with the details that keras.applications' network has."""
    if isinstance(config, InceptionConfig):
        return config.replace(norm_scale=False, pool_padding="same")
    return config.replace(**(_V2 if config.preactivation else _V1))


def is_published(layer):
    """Whether a layer's name is one of keras.applications' and not one of ours."""
    return bool(re.fullmatch(r"conv1_conv|conv\d_block\d+_\d_conv|conv2d(_\d+)?", layer))


def keras_layers(config, ours, theirs):
    """Return a dictionary from the names of our layers to those of keras.applications.

    Args:
        config: the configuration of the network.
        ours, theirs: the names of the layers with weights.
    """
    if isinstance(config, InceptionConfig):
        return inception_names.keras_layers(config, theirs)
    return {name: keras_layer(name) for name in ours}


def keras_layer(name):
    """Return keras.applications' name of a layer of a residual network.

    Example:

    >>> keras_layer("stage2_block1_conv2_norm")
    'conv3_block1_2_bn'
    """
    match = re.fullmatch(r"stage(\d+)_(block\d+)_(\w+)", name)
    if not match:
        return _OTHERS.get(name, name)
    stage, block, part = match.groups()
    return f"conv{int(stage) + 1}_{block}_{_PARTS.get(part, part)}"


def read_layers(path):
    """Return the arrays of a keras.applications file, a list for each layer by its name.

    Args:
        path: of an `.h5` file in the layout that keras.applications publishes, or of a whole
            model in that layout; a `.weights.h5` of Keras 3 as well.

    Raises:
        ValueError: naming the file, if it is damaged or has another layout.
    """
    try:
        with h5py.File(path) as file:
            return _published(file) or _keras3(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f'"{path}" is damaged, or no file of weights: {error}') from error


def classes_of(layers):
    """The number of classes of the classifier among the layers; None without one.

    Example:

    >>> import numpy as np
    >>> classes_of({"predictions": [np.zeros((2048, 10)), np.zeros(10)]})
    10
    """
    arrays = layers.get("predictions")
    return int(arrays[0].shape[-1]) if arrays else None


def _published(file):
    group = file.get("model_weights", file)
    names = [_text(name) for name in group.attrs.get("layer_names", ())]
    weights = {name: group[name].attrs.get("weight_names", ()) for name in names}
    return {
        name: [group[name][_text(weight)][()] for weight in weights[name]]
        for name in names
        if len(weights[name])
    }


def _keras3(file):
    found = {}

    def visit(path, item):
        if path.endswith("/vars") and len(item) and "name" in item.attrs:
            arrays = [item[str(index)][()] for index in range(len(item))]
            found[_text(item.attrs["name"])] = arrays

    file.visititems(visit)
    return found


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)
