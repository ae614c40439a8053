"""Builds the network that a configuration describes, of Keras layers."""

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
    """Build a network from the image to its last feature map.

    Args:
        image: `keras.KerasTensor` of images, `(batch, height, width, channels)`.
        config: `ResNetConfig` or `InceptionConfig`.

    Raises:
        ValueError: If the network needs to know the size of the images, but it is left open.
    """
    if config.needs_size and None in image.shape[1:]:
        raise ValueError(
            "`auxiliary=True` needs an `input_shape` with height and width, which the dense "
            f"layers of these auxiliary classifiers depend on. Received: {tuple(image.shape[1:])}"
        )
    return networks.features(KerasLayers(config), image)


def with_auxiliary_classifiers(
    network: keras.Model, config: NetworkConfig, classifier: Callable[..., keras.layers.Layer]
) -> keras.Model:
    """Add the auxiliary classifiers to a network, if its configuration has them on.

    Args:
        network: functional `keras.Model` of `build_features` and a classifier.
        config: `ResNetConfig` or `InceptionConfig` that it was built from.
        classifier: function from a layer's name to the `keras.layers.Dense` that classifies.

    Returns:
        The network, or an `AuxiliaryModel` of the same layers and the auxiliary ones.
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

    Keras follows a model's graph by recursion, some four calls per layer (ResNet-1202). Of the
    many objects that a model is made of none is garbage yet, and looking through them again and
    again takes a quarter of the time.
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
