"""Big-Little stages: a deep branch at half the resolution beside a light one at the whole."""

import dataclasses

from keras import layers

from keras_resnext.layers import UpsampleAdd
from keras_resnext.models.blocks import residual_block
from keras_resnext.models.config import EXPANSION
from keras_resnext.models.primitives import convolution, norm


def big_little_stages(x, config, stages):
    """[merge(ReLU(upsample(big(x)) + little(x)))] for every stage.

    Args:
        x: symbolic tensor, the output of the Big-Little stem.
        config: `ResNetConfig` whose `big_little` is (alpha, beta).
        stages: list of the lists of `Place` that the stages would have without branches.

    Returns:
        Symbolic tensor, at the resolution that the stages without branches would leave.
    """
    for number, places in enumerate(stages, start=1):
        is_last = number == len(stages)
        x = _stage(x, config, f"stage{number}", places, merge_strides=1 if is_last else 2)
    return x


def _stage(x, config, name, places, merge_strides):
    """A stage of n blocks: n - 1 big ones, few little ones, and one that merges."""
    *deep, last = places
    big, little = x, x
    for place in _big_places(name, deep):
        big = residual_block(big, config, place)
    for place in _little_places(name, config, places):
        little = residual_block(little, config, place)
    outputs = last.planes * EXPANSION[config.block]
    little = convolution(little, config, outputs, 1, f"{name}_little")
    little = norm(little, config, f"{name}_little_norm")
    x = UpsampleAdd(name=f"{name}_add")([big, little])
    x = layers.ReLU(name=f"{name}_add_relu")(x)
    merge = dataclasses.replace(
        last, name=f"{name}_merge", strides=merge_strides, projects=True, activates=True
    )
    return residual_block(x, config, merge)


def _big_places(name, places):
    """The first block halves the image; the last of several leaves its ReLU to the sum."""
    for number, place in enumerate(places, start=1):
        yield dataclasses.replace(
            place,
            name=f"{name}_big_block{number}",
            strides=2 if number == 1 else 1,
            projects=number == 1,
            activates=number < len(places) or len(places) == 1,
        )


def _little_places(name, config, places):
    alpha, beta = config.big_little
    count = max(1, len(places) // beta - 1)
    for number, place in enumerate(places[:count], start=1):
        yield dataclasses.replace(
            place,
            name=f"{name}_little_block{number}",
            planes=place.planes // alpha,
            strides=1,
            projects=number == 1,
        )
