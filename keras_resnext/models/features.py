"""The feature maps of a network's stages, for detection and segmentation."""

import math
import re
from collections.abc import Sequence

import keras

# Layers with the activated output of a stem's convolution, a block or a stage on the main path.
_ON_THE_MAIN_PATH = re.compile(
    r"stem\w*_relu|(?P<stage>stage\d+_(block\d+|merge)_(out|preact_relu)|features(_conv)?_relu)"
)


def feature_extractor(model: keras.Model, levels: Sequence[str] | None = None) -> keras.Model:
    """Return a model whose outputs are the last feature maps of each resolution.

    `C2` is a quarter of the image's height and width, `C3` an eighth, down to `C5`: the
    inputs of a feature pyramid. Networks of 32x32 images begin at `C0`. The maps of a
    pre-activation network are normalized and activated.

    Args:
        model: `keras.Model` of this package, with or without its top, also one loaded from a file.
        levels: list of str, such as `["C3", "C4", "C5"]`; None for all that end a stage, and C2.

    Returns:
        A `keras.Model` that shares the layers of `model`; its output is a dict from level to
        feature map.

    Raises:
        ValueError: If the model is not of this package, or does not have a level.

    Reference:
        [Lin et al., 2017](https://arxiv.org/abs/1612.03144)

    Example:
    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt50(weights=None, include_top=False, input_shape=(64, 64, 3))
    >>> {level: map.shape[1:] for level, map in feature_extractor(model).output.items()}
    {'C2': (16, 16, 256), 'C3': (8, 8, 512), 'C4': (4, 4, 1024), 'C5': (2, 2, 2048)}
    """
    maps = _last_of_each_level(model)
    if not maps:
        raise ValueError(
            "`feature_extractor` knows the layers of this package's networks by their names, and "
            f'found none. Received: a model called "{model.name}"'
        )
    if levels is None:
        levels = [level for level, (_, ends_stage) in maps.items() if ends_stage or level == "C2"]
    for level in levels:
        if level not in maps:
            raise ValueError(f'No level "{level}" in {model.name}. It has {", ".join(maps)}.')
    outputs = {level: maps[level][0] for level in levels}
    return keras.Model(model.inputs, outputs, name=f"{model.name}_features")


def _last_of_each_level(model: keras.Model) -> dict[str, tuple[keras.KerasTensor, bool]]:
    """Return each level's tensor and whether a stage ends in it, the largest map first."""
    matches = {layer.name: _ON_THE_MAIN_PATH.fullmatch(layer.name) for layer in model.layers}
    layers = [layer for layer in model.layers if matches[layer.name]]
    strides = _strides(model) if layers else {}
    maps = {}
    for layer in layers:
        level = f"C{round(math.log2(strides[id(layer.output)]))}"
        maps[level] = (layer.output, bool(matches[layer.name]["stage"]))
    return dict(sorted(maps.items()))


def _strides(model: keras.Model) -> dict[int, int]:
    """Return the product of the strides from the image to each tensor, by the tensor's id.

    Sizes do not tell it: small ones are rounded, and layers without padding cut them.
    """
    graph = getattr(model, "_functional", model)
    strides_to = {}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            # Of joined maps the largest counts: Big-Little repeats the pixels of the other.
            before = min((strides_to[id(x)] for x in node.input_tensors), default=1)
            stride = getattr(node.operation, "strides", 1)
            stride = stride if isinstance(stride, int) else stride[0]
            strides_to.update((id(x), before * stride) for x in node.output_tensors)
    return strides_to
