"""timm's names for the tensors of a network.

The rows of `BLOCKS`, `ATTENTIONS`, `SHORTCUTS` and `STEMS` hold timm's names of their layers,
from which the names follow for any depth and width.
"""

import re
from collections.abc import Mapping

import numpy as np

from keras_resnext.models.attention import ATTENTIONS
from keras_resnext.models.blocks import BLOCKS
from keras_resnext.models.config import NetworkConfig, ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.models.shortcuts import SHORTCUTS
from keras_resnext.models.stems import STEMS
from keras_resnext.weights.inception_names import timm_layers

_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# Tables whose rows name layers, by field; a later row replaces names of an earlier one.
TABLES = {"stem": STEMS, "block": BLOCKS, "shortcut": SHORTCUTS, "attention": ATTENTIONS}


def timm_name(path: str, config: NetworkConfig) -> str | None:
    """Return timm's name of a weight: `layer2.0.bn2.weight` for `stage2_block1_conv2_norm/gamma`.

    None if timm has no tensor for it (the step of DropBlock, auxiliary classifiers).
    """
    layer, weight = path.rsplit("/", 1)
    if weight not in _WEIGHTS:
        return None
    if isinstance(config, InceptionConfig):
        theirs = timm_layers(config).get(layer)
    else:
        theirs = _residual(layer, config)
    return theirs and f"{theirs}.{_WEIGHTS[weight]}"


def _residual(layer: str, config: ResNetConfig) -> str:
    names = _rows(config)
    if layer in names:
        return names[layer]
    match = re.fullmatch(r"stage(\d+)_block(\d+)_(.+)", layer)
    if not match or match[3] not in names:
        raise ValueError(f'timm has no network with a layer "{layer}".')
    return f"layer{match[1]}.{int(match[2]) - 1}.{names[match[3]]}"


def _rows(config: ResNetConfig) -> Mapping[str, str]:
    """Return timm's names of layers; those inside a block do not name the block."""
    names = {"predictions": "fc"}
    for field, table in TABLES.items():
        value = getattr(config, field)
        if table[value].timm is None:
            raise ValueError(f'timm has no network with {field}="{value}".')
        names |= table[value].timm
    return names


def from_torch(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return PyTorch's tensor with our axes; a 1x1 convolution may be a dense layer here."""
    if tensor.ndim == 4 and len(shape) == 2 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    order = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0), 1: (0,), 0: ()}[tensor.ndim]
    ours = tensor.transpose(order)
    if ours.shape != tuple(shape):
        raise ValueError(f"Expected the shape {tuple(shape)}. Received: {ours.shape}")
    return ours


def to_torch(values: np.ndarray, name: str) -> np.ndarray:
    """Return our weight with PyTorch's order of axes, for the tensor that timm calls `name`.

    A dense layer of an attention is a 1x1 convolution there.
    """
    order = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0), 1: (0,)}[values.ndim]
    tensor = np.ascontiguousarray(values.transpose(order))
    if values.ndim == 2 and (".se." in name or ".attn." in name):
        tensor = tensor[:, :, None, None]
    return tensor
