"""The weights and images of the golden answers: values that follow from timm's tensor names."""

import functools
import gzip
import json
import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


@functools.cache
def tensor_shapes():
    """The names and shapes of the tensors of timm's networks, by the network's name."""
    return json.loads(gzip.decompress((GOLDEN / "timm_tensors.json.gz").read_bytes()))


def synthetic_tensor(name, shape):
    """The values of timm's tensor `name`, by the rule of the golden answers."""
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


def synthetic_tensors(network):
    """The state dict of timm's network, by the rule."""
    shapes = tensor_shapes()[network]
    return {name: synthetic_tensor(name, tuple(shape)) for name, shape in shapes.items()}


def synthetic_images(count, size):
    random = np.random.RandomState(size)
    return random.normal(0.0, 1.0, (count, size, size, 3)).astype("float32")
