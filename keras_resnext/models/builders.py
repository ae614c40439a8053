"""Which function builds the network that a configuration describes."""

from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.resnet import resnet_features

BUILDERS = {ResNetConfig: resnet_features}


def build_features(image, config):
    """Build the network of `config` from the image to its last feature map.

    Args:
        image: symbolic tensor of images, `(batch, height, width, channels)`.
        config: a configuration of one of the families in `BUILDERS`.

    Returns:
        Symbolic tensor, the last 4D feature map.
    """
    return BUILDERS[type(config)](image, config)
