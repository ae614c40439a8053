"""timm's names for the tensors of a network, by the grammar of our layer names.

No residual network is listed: a name follows from the layer's name and the configuration, for
any depth, width, stem, shortcut and attention.
"""

import re

import numpy as np

from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.weights.inception_names import timm_layers

_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
# The parts of an attention: ours to timm's, for squeeze-excite and ECA and inside a selective
# kernel.
_ATTENTION = {"reduce": "fc1", "expand": "fc2", "conv": "conv"}
_SELECTIVE = {"reduce": "fc_reduce", "norm": "bn", "select": "fc_select"}
_STEM = re.compile(r"stem_conv(\d?)(_norm)?")
_LAYER = re.compile(
    r"stage(\d+)_block(\d+)_(conv\d|shortcut|attention)(?:_(path\d|attention))?(_norm)?"
)


def timm_name(path, config):
    """Return timm's name of a weight.

    Args:
        path: str, the path of one of our variables, such as `stage2_block1_conv2_norm/gamma`.
        config: the configuration of its network.

    Returns:
        str, or None for what timm has no tensor for (the step of DropBlock, auxiliary
        classifiers).

    Raises:
        ValueError: if timm has no such network.

    Example:

    >>> from keras_resnext import ResNetConfig
    >>> timm_name("stage2_block1_conv2_norm/gamma", ResNetConfig())
    'layer2.0.bn2.weight'
    """
    layer, *inner, weight = path.split("/")
    if weight not in _WEIGHTS:
        return None
    weight = _WEIGHTS[weight]
    if isinstance(config, InceptionConfig):
        theirs = timm_layers(config).get(layer)
        return theirs and f"{theirs}.{weight}"
    return _residual(layer, inner, weight, config)


def _residual(layer, inner, weight, config):
    if layer == "predictions":
        return f"fc.{weight}"
    if stem := _STEM.fullmatch(layer):
        return f"{_stem(*stem.groups())}.{weight}"
    match = _LAYER.fullmatch(layer)
    selective = config.attention in ("sk", "sk_split")
    if not match or (match[4] and not selective):
        raise ValueError(f'timm has no network with a layer "{layer}".')
    stage, block, part, rest, norm = match.groups()
    if part == "attention":
        name = f"se.{_ATTENTION[inner[0]]}"
    elif part == "shortcut":
        first = 1 if config.shortcut == "D" else 0
        name = f"downsample.{first + bool(norm)}"
    elif rest == "attention":
        name = f"{part}.attn.{_SELECTIVE[inner[0]]}"
    elif rest:
        index = int(rest.removeprefix("path")) - 1
        name = f"{part}.paths.{index}.{'bn' if norm else 'conv'}"
    elif selective:
        name = f"{part}.{'bn' if norm else 'conv'}"
    else:
        name = part.replace("conv", "bn") if norm else part
    return f"layer{stage}.{int(block) - 1}.{name}.{weight}"


def _stem(number, norm):
    """`conv1` and `bn1`; of three convolutions, `conv1.{0,1,3,4,6}` and `bn1`."""
    if not number:
        return "bn1" if norm else "conv1"
    if norm and number == "3":
        return "bn1"
    return f"conv1.{3 * (int(number) - 1) + bool(norm)}"


def from_torch(tensor, shape):
    """Return PyTorch's tensor with our order of axes.

    Args:
        tensor: NumPy array: a convolution `(out, in, height, width)` or `(out, in, length)`, a
            dense layer `(out, in)` or a vector.
        shape: tuple, the shape of our weight; a convolution of 1x1 may be a dense layer here.

    Raises:
        ValueError: if it does not have that shape.

    Example:

    >>> import numpy as np
    >>> from_torch(np.zeros((16, 256, 1, 1)), (256, 16)).shape
    (256, 16)
    """
    if tensor.ndim == 4 and len(shape) == 2 and tensor.shape[2:] == (1, 1):
        tensor = tensor[:, :, 0, 0]
    order = {4: (2, 3, 1, 0), 3: (2, 1, 0), 2: (1, 0), 1: (0,), 0: ()}[tensor.ndim]
    ours = tensor.transpose(order)
    if ours.shape != tuple(shape):
        raise ValueError(f"Expected the shape {tuple(shape)}. Received: {ours.shape}")
    return ours


def to_torch(values, name):
    """Return our weight with PyTorch's order of axes, for the tensor called `name`.

    Args:
        values: NumPy array.
        name: str, timm's name; a dense layer of an attention is a 1x1 convolution there.

    Example:

    >>> import numpy as np
    >>> to_torch(np.zeros((256, 16)), "layer1.0.se.fc1.weight").shape
    (16, 256, 1, 1)
    """
    order = {4: (3, 2, 0, 1), 3: (2, 1, 0), 2: (1, 0), 1: (0,)}[values.ndim]
    tensor = np.ascontiguousarray(values.transpose(order))
    if values.ndim == 2 and (".se." in name or ".attn." in name):
        tensor = tensor[:, :, None, None]
    return tensor
