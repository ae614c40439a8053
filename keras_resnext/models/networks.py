"""The functions that describe the network of a configuration. Nothing here imports Keras."""

from collections.abc import Callable, Iterator

from keras_resnext.models import inception
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.models.primitives import Map, Primitives
from keras_resnext.models.resnet import resnet_features

FEATURES = {ResNetConfig: resnet_features, InceptionConfig: inception.inception_features}


def features(net: Primitives, x: Map) -> Map:
    """Describe the network of `net.config` from the images to its last feature map."""
    return FEATURES[type(net.config)](net, x)


def auxiliary_features(net: Primitives, end: Callable[[str], Map]) -> Iterator[tuple[str, Map]]:
    """Yield the name of each auxiliary classifier and the input of its last layer.

    `end` is a function from the name of a module to its output.
    """
    if isinstance(net.config, InceptionConfig) and net.config.auxiliary:
        for name in net.config.auxiliary_after:
            auxiliary = f"{name}_auxiliary"
            yield auxiliary, inception.auxiliary_head(net, end(name), auxiliary)
