"""Builds the network of a configuration from Keras layers."""

import contextlib
import gc
import sys
from collections.abc import Callable, Iterator

import keras

from keras_resnext.models import networks
from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.config import NetworkConfig
from keras_resnext.models.keras_layers import KerasLayers


def build_features(image: keras.KerasTensor, config: NetworkConfig) -> keras.KerasTensor:
    """Build a network from the image to its last feature map."""
    if config.needs_size and None in image.shape[1:]:
        raise ValueError(
            "`auxiliary=True` needs an `input_shape` with height and width, which the dense "
            f"layers of these auxiliary classifiers depend on. Received: {tuple(image.shape[1:])}"
        )
    return networks.features(KerasLayers(config), image)


def with_auxiliary_classifiers(
    network: keras.Model, config: NetworkConfig, classifier: Callable[..., keras.layers.Layer]
) -> keras.Model:
    """Add the auxiliary classifiers to a network if its configuration turns them on.

    `classifier` is a function from a layer's name to the dense layer that classifies.
    """

    def end(name: str) -> keras.KerasTensor:
        return network.get_layer(f"{name}_out").output

    vectors = networks.auxiliary_features(KerasLayers(config), end)
    outputs = [classifier(name=f"{name}_predictions")(x) for name, x in vectors]
    if not outputs:
        return network
    return AuxiliaryModel(
        network.input,
        [network.output, *outputs],
        name=network.name,
        auxiliary_weight=config.auxiliary_weight,
    )


@contextlib.contextmanager
def undisturbed(depth: int) -> Iterator[None]:
    """Build with room for recursion and without the garbage collector.

    Keras recurses along a model's graph, about four calls per layer (ResNet-1202). While a model
    is built nothing becomes garbage, and looking for it takes a quarter of the time.
    """
    limit, collects = sys.getrecursionlimit(), gc.isenabled()
    sys.setrecursionlimit(max(limit, 1000 + 6 * depth))
    gc.disable()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
        if collects:
            gc.enable()
