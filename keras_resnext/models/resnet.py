"""The builder of residual networks. It only builds."""

from keras_resnext.models.big_little import big_little_stages
from keras_resnext.models.blocks import Place, residual_block
from keras_resnext.models.primitives import norm_act
from keras_resnext.models.stems import STEM_POOLS, big_little_pool, stem

# The scale of DropBlock's seeds in the last stages (Lee et al., 2020, section 3.2).
DROP_BLOCK_SCALES = (0.25, 1.0)


def resnet_features(x, config):
    """Build a residual network from the image to its last feature map.

    Args:
        x: symbolic tensor of images, `(batch, height, width, channels)`.
        config: `ResNetConfig`.

    Returns:
        Symbolic tensor `(batch, height / s, width / s, config.outputs[-1])`, where `s` is
        `config.total_stride`.
    """
    x = stem(x, config)
    stages = _stages(config)
    if config.big_little is None:
        x = STEM_POOLS[config.pool](x)
    else:
        x = big_little_pool(x, config)
        x = big_little_stages(x, config, stages[:-1])
        stages = stages[-1:]
    for place in (place for stage in stages for place in stage):
        x = residual_block(x, config, place)
    return norm_act(x, config, "features") if config.preactivation else x


def _stages(config):
    """The places of the blocks, a list for each stage."""
    scales = (0.0,) * len(config.blocks) + DROP_BLOCK_SCALES
    scales = scales[-len(config.blocks) :]
    total = sum(config.blocks)
    stages, done = [], 0
    for s, (count, planes) in enumerate(zip(config.blocks, config.filters, strict=True)):
        strided = 0 if config.stride_block == "first" else count - 1
        stages.append(
            [
                Place(
                    name=f"stage{s + 1}_block{b + 1}",
                    planes=planes,
                    strides=config.strides[s] if b == strided else 1,
                    drop_path=config.drop_path * (done + b + 1) / total,
                    drop_block=scales[s],
                )
                for b in range(count)
            ]
        )
        done += count
    return stages
