"""Big-Little stages: a deep branch at half the resolution beside a light one at full resolution.

Nothing here imports Keras.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from keras_resnext.models.blocks import Place, residual_block
from keras_resnext.models.primitives import Map, Primitives
from keras_resnext.models.shortcuts import SHORTCUTS

if TYPE_CHECKING:
    from keras_resnext.models.config import ResNetConfig


def big_little_pool(net: Primitives, x: Map) -> Map:
    """[ReLU, 1x1, BN, ReLU](big(x) + little(x)), instead of the max pool.

    big: [3x3 stride 2, BN]; little: [3x3, BN, ReLU, 3x3 stride 2, BN, ReLU, 1x1, BN].
    """
    filters, (alpha, _) = net.config.stem_filters, net.config.big_little
    big = net.norm(net.convolution(x, filters, 3, "stem_big", 2), "stem_big_norm")
    little = net.conv_norm_relu(x, filters // alpha, 3, "stem_little_conv1")
    little = net.conv_norm_relu(little, filters // alpha, 3, "stem_little_conv2", 2)
    little = net.convolution(little, filters, 1, "stem_little_conv3")
    little = net.norm(little, "stem_little_conv3_norm")
    x = net.relu(net.add([big, little], "stem_add"), "stem_add_relu")
    return net.conv_norm_relu(x, filters, 1, "stem_merge")


def big_little_stages(net: Primitives, x: Map, stages: list[list[Place]]) -> Map:
    """[merge(ReLU(upsample(big(x)) + little(x)))] for each stage."""
    for number, places in enumerate(stages, start=1):
        merge_strides = 1 if number == len(stages) else 2
        x = _stage(net, x, f"stage{number}", places, merge_strides)
    return x


def _stage(net: Primitives, x: Map, name: str, places: list[Place], merge_strides: int) -> Map:
    """Build a stage of n blocks: n - 1 big ones, a few little ones, and one that merges."""
    *deep, last = places
    big, little = x, x
    for place in _big_places(name, deep):
        big = net.block(residual_block, big, place)
    for place in _little_places(net, name, places):
        little = net.block(residual_block, little, place)
    little = net.convolution(little, net.config.channels(last.planes), 1, f"{name}_little")
    little = net.norm(little, f"{name}_little_norm")
    x = net.relu(net.upsample_add(big, little, f"{name}_add"), f"{name}_add_relu")
    merge = last._replace(
        name=f"{name}_merge", strides=merge_strides, projects=True, activates=True
    )
    return net.block(residual_block, x, merge)


def _big_places(name: str, places: list[Place]) -> Iterator[Place]:
    """Halve the image in the first block, and leave the last ReLU of several to the sum."""
    for number, place in enumerate(places, start=1):
        yield place._replace(
            name=f"{name}_big_block{number}",
            strides=2 if number == 1 else 1,
            projects=number == 1,
            activates=number < len(places) or len(places) == 1,
        )


def _little_places(net: Primitives, name: str, places: list[Place]) -> Iterator[Place]:
    alpha, beta = net.config.big_little
    count = max(1, len(places) // beta - 1)
    for number, place in enumerate(places[:count], start=1):
        yield place._replace(
            name=f"{name}_little_block{number}",
            planes=place.planes // alpha,
            strides=1,
            projects=number == 1,
        )


def problems(config: "ResNetConfig") -> Iterator[str]:
    """Yield the sentences that say why a configuration describes no Big-Little network."""
    alpha, _ = config.big_little
    projects = SHORTCUTS[config.shortcut].projects
    if config.preactivation or config.stride_block == "last" or not projects:
        yield (
            "`big_little` adds its branches before an activation, and its branches have fewer "
            'channels than their input: it needs preactivation=False, stride_block="first" and a '
            f'shortcut that projects. Received: shortcut="{config.shortcut}"'
        )
    if config.pool != "max":
        yield (
            "`big_little` has a stem of its own instead of the 3x3 max pool. "
            f'Received: stem="{config.stem}", stem_pool="{config.stem_pool}"'
        )
    if len(config.blocks) < 2 or min(config.blocks[:-1]) < 2:
        yield (
            "`big_little` needs two stages, and two blocks in each stage but the last: one "
            f"merges. Received: blocks={config.blocks}"
        )
    if any(planes % alpha for planes in (config.stem_filters, *config.filters[:-1])):
        yield (
            f"`big_little` divides the planes and `stem_filters` by alpha={alpha}, which must "
            f"leave no rest. Received: filters={config.filters}, "
            f"stem_filters={config.stem_filters}"
        )
    if min(planes * config.width_per_group // 64 for planes in config.little_planes) < 1:
        yield (
            f"`big_little` with alpha={alpha} leaves no channel in a group of the little branch: "
            f"increase `width_per_group`. Received: width_per_group={config.width_per_group}"
        )
