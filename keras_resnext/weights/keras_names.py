"""The files of keras.applications: the names of its layers, and the details of its networks."""

import os
import re
from collections.abc import Iterable, Mapping

import h5py
import numpy as np

from keras_resnext.models.config import NetworkConfig
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.weights import inception_names

# Fields in which the residual networks of keras.applications differ from our defaults.
_V1 = {"use_bias": True, "stride_on": "1x1", "norm_epsilon": 1.001e-5}
_V2 = {"use_bias": True, "norm_epsilon": 1.001e-5}
_PARTS = {"shortcut": "0_conv", "shortcut_norm": "0_bn", "preact_norm": "preact_bn"}
_PARTS |= {f"conv{i}": f"{i}_conv" for i in (1, 2, 3)}
_PARTS |= {f"conv{i}_norm": f"{i}_bn" for i in (1, 2, 3)}
_OTHERS = {"stem_conv": "conv1_conv", "stem_conv_norm": "conv1_bn", "features_norm": "post_bn"}


def keras_config(config: NetworkConfig) -> NetworkConfig:
    """Return the configuration with the details of keras.applications' network."""
    if isinstance(config, InceptionConfig):
        return config.replace(norm_scale=False, pool_padding="same")
    return config.replace(**(_V2 if config.preactivation else _V1))


def is_published(layer: str) -> bool:
    """Return whether a layer's name is one of keras.applications' and not one of ours."""
    return bool(re.fullmatch(r"conv1_conv|conv\d_block\d+_\d_conv|conv2d(_\d+)?", layer))


def keras_layers(
    config: NetworkConfig, ours: Iterable[str], theirs: Iterable[str]
) -> dict[str, str]:
    """Return keras.applications' names of our layers with weights."""
    if isinstance(config, InceptionConfig):
        return inception_names.keras_layers(config, theirs)
    return {name: keras_layer(name) for name in ours}


def keras_layer(name: str) -> str:
    """Return a layer's name there: `conv3_block1_2_bn` for `stage2_block1_conv2_norm`."""
    match = re.fullmatch(r"stage(\d+)_(block\d+)_(\w+)", name)
    if not match:
        return _OTHERS.get(name, name)
    stage, block, part = match.groups()
    return f"conv{int(stage) + 1}_{block}_{_PARTS.get(part, part)}"


def read_layers(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """Return the arrays of each layer in a file of keras.applications or of Keras 3's weights."""
    try:
        with h5py.File(path) as file:
            return _published(file) or _keras3(file)
    except (OSError, KeyError, RuntimeError) as error:
        raise ValueError(f'"{path}" is damaged, or no file of weights: {error}') from error


def classes_of(layers: Mapping[str, list[np.ndarray]]) -> int | None:
    """Return the number of classes of the classifier; None without one."""
    arrays = layers.get("predictions")
    return int(arrays[0].shape[-1]) if arrays else None


def _published(file: h5py.File) -> dict[str, list[np.ndarray]]:
    group = file.get("model_weights", file)
    names = [_text(name) for name in group.attrs.get("layer_names", ())]
    weights = {name: group[name].attrs.get("weight_names", ()) for name in names}
    return {
        name: [group[name][_text(weight)][()] for weight in weights[name]]
        for name in names
        if len(weights[name])
    }


def _keras3(file: h5py.File) -> dict[str, list[np.ndarray]]:
    layers = {}

    def visit(path: str, item: h5py.Group) -> None:
        if path.endswith("/vars") and len(item) and "name" in item.attrs:
            arrays = [item[str(index)][()] for index in range(len(item))]
            layers[_text(item.attrs["name"])] = arrays

    file.visititems(visit)
    return layers


def _text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
