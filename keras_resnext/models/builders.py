"""Which function builds the network that a configuration describes."""

import contextlib
import gc
import sys

from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception import inception_features, with_auxiliary_classifiers
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.models.resnet import resnet_features

BUILDERS = {
    ResNetConfig: resnet_features,
    InceptionConfig: inception_features,
}
# What completes the network of a family once it has its classifier
FINISHERS = {InceptionConfig: with_auxiliary_classifiers}


def build_features(image, config):
    """Build the network of `config` from the image to its last feature map.

    Args:
        image: symbolic tensor of images, `(batch, height, width, channels)`.
        config: a configuration of one of the families in `BUILDERS`.

    Returns:
        Symbolic tensor, the last 4D feature map.
    """
    return BUILDERS[type(config)](image, config)


def finish(network, config, classifier):
    """Add to a network with its classifier what its family needs besides.

    Args:
        network: functional `keras.Model` of `build_features` and a classifier.
        config: the configuration that it was built from.
        classifier: function from a layer's name to a `keras.layers.Dense` that classifies.

    Returns:
        `keras.Model` of the same name, input and output.
    """
    finisher = FINISHERS.get(type(config))
    return finisher(network, config, classifier) if finisher else network


@contextlib.contextmanager
def undisturbed(depth):
    """Build with room for recursion and without the garbage collector.

    Keras follows a model's graph by recursion, some four calls a layer (ResNet-1202). Of the many
    objects that a model is made of none is garbage yet, and looking through them again and
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
