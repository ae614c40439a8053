"""Residual networks, from the image to the last feature map. Nothing here imports Keras."""

from typing import TYPE_CHECKING

from keras_resnext.models.big_little import big_little_pool, big_little_stages
from keras_resnext.models.blocks import Place, residual_block
from keras_resnext.models.primitives import Map, Primitives
from keras_resnext.models.stems import STEM_POOLS, stem

if TYPE_CHECKING:
    from keras_resnext.models.config import ResNetConfig

# Factors of the chance of DropBlock's seeds in the last stages (Lee et al., 2020, section 3.2).
DROP_BLOCK_SCALES = (0.25, 1.0)


def resnet_features(net: Primitives, x: Map) -> Map:
    """Describe a residual network from the image to its last feature map."""
    config = net.config
    x = stem(net, x)
    stages = _stages(config)
    if config.big_little is None:
        x = STEM_POOLS[config.pool].make(net, x)
    else:
        x = big_little_pool(net, x)
        x = big_little_stages(net, x, stages[:-1])
        stages = stages[-1:]
    for place in (place for stage in stages for place in stage):
        x = net.block(residual_block, x, place)
    return net.norm_relu(x, "features") if config.preactivation else x


def _stages(config: "ResNetConfig") -> list[list[Place]]:
    """Return the places of the blocks, one list per stage."""
    scales = (0.0,) * len(config.blocks)
    if config.drop_block:
        scales = (scales + DROP_BLOCK_SCALES)[-len(config.blocks) :]
    total, done, stages = sum(config.blocks), 0, []
    rows = zip(config.blocks, config.filters, config.strides, scales, strict=True)
    for stage, (count, planes, strides, scale) in enumerate(rows, start=1):
        strided = 0 if config.stride_block == "first" else count - 1
        stages.append(
            [
                Place(
                    name=f"stage{stage}_block{block + 1}",
                    planes=planes,
                    strides=strides if block == strided else 1,
                    drop_path=config.drop_path * (done + block + 1) / total,
                    drop_block=scale,
                )
                for block in range(count)
            ]
        )
        done += count
    return stages
