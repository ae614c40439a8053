"""The builder of residual networks. It only builds."""

from keras_resnext.models.blocks import BLOCKS
from keras_resnext.models.primitives import norm_act
from keras_resnext.models.stems import STEMS


def resnet_features(x, config):
    """Build a residual network from the image to its last feature map.

    Args:
        x: symbolic tensor of images, `(batch, height, width, channels)`.
        config: `ResNetConfig`.

    Returns:
        Symbolic tensor `(batch, height / s, width / s, config.outputs[-1])`, where `s` is
        `config.total_stride`.
    """
    x = STEMS[config.stem](x, config)
    block = BLOCKS[config.block, config.preactivation]
    for name, planes, strides in _blocks(config):
        x = block(x, config, planes, strides, name)
    return norm_act(x, config, "features") if config.preactivation else x


def _blocks(config):
    """Yield the name, the planes and the stride of every block."""
    stages = zip(config.blocks, config.filters, config.strides, strict=True)
    for stage, (count, planes, stride) in enumerate(stages, start=1):
        strided = 1 if config.stride_block == "first" else count
        for block in range(1, count + 1):
            name = f"stage{stage}_block{block}"
            yield name, planes, stride if block == strided else 1
