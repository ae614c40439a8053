"""timm's tensor names for the weights of our networks, and the values that a rule gives them."""

import re
import zlib

import numpy as np

_WEIGHTS = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "bias": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}


def timm_name(variable):
    """`stage2_block1_conv2_norm/gamma` is `layer2.0.bn2.weight`."""
    layer, weight = variable.path.split("/")[-2:]
    weight = _WEIGHTS[weight]
    if layer == "predictions":
        return f"fc.{weight}"
    if layer.startswith("stem"):
        return f"{'bn1' if layer.endswith('_norm') else 'conv1'}.{weight}"
    stage, block, part, norm = re.fullmatch(
        r"stage(\d)_block(\d+)_(conv\d|shortcut)(_norm)?", layer
    ).groups()
    if part == "shortcut":
        inner = f"downsample.{1 if norm else 0}"
    else:
        inner = part.replace("conv", "bn") if norm else part
    return f"layer{stage}.{int(block) - 1}.{inner}.{weight}"


def synthetic_tensor(name, shape):
    """The values of timm's tensor `name`, by the rule of the golden logits."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith("running_var"):
        values = random.uniform(0.5, 1.5, shape)
    elif name.endswith(("running_mean", "bias")):
        values = random.normal(0.0, 0.1, shape)
    elif len(shape) == 1:
        values = random.uniform(0.2, 0.8, shape)
    else:
        values = random.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
    return values.astype("float32")


def synthetic_images(count, size):
    random = np.random.RandomState(size)
    return random.normal(0.0, 1.0, (count, size, size, 3)).astype("float32")


def set_synthetic_weights(model, timm_name=timm_name):
    """Give every weight the value of its timm tensor, with its axes in our order."""
    for variable in model.weights:
        shape = tuple(variable.shape)
        torch_shape = {4: shape[3:1:-1] + shape[:2], 2: shape[::-1], 1: shape}[len(shape)]
        values = synthetic_tensor(timm_name(variable), torch_shape)
        order = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}[len(shape)]
        variable.assign(values.transpose(order))
