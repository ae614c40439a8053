"""The feature maps of a network's stages, for detection and segmentation."""

import math
import re

import keras

# Where the main path of a network leaves a stem's convolution, a block or a stage, activated.
_ON_THE_MAIN_PATH = re.compile(
    r"stem\w*_relu|(?P<stage>stage\d+_(block\d+|merge)_(out|preact_relu)|features(_conv)?_relu)"
)


def feature_extractor(model, levels=None):
    """Return a model that gives the last feature map of each resolution.

    `C2` is a quarter of the image's height and width, `C3` an eighth, down to `C5`: the
    inputs of a feature pyramid. Networks of 32x32 images begin at `C0`. A pre-activation
    network gives its maps normalized and activated.

    Args:
        model: `keras.Model` of this package, with or without its top, also one loaded from a file.
        levels: list of str, such as `["C3", "C4", "C5"]`; None for all that end a stage, and C2.

    Returns:
        A `keras.Model` that shares the layers of `model`; its output is a dict of
        `(batch, height, width, channels)` by level.

    Raises:
        ValueError: if the model is not of this package, or for a level that it does not have.

    Reference:
        [Lin et al., 2017](https://arxiv.org/abs/1612.03144)

    Example:

    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt50(weights=None, include_top=False, input_shape=(64, 64, 3))
    >>> {level: map.shape[1:] for level, map in feature_extractor(model).output.items()}
    {'C2': (16, 16, 256), 'C3': (8, 8, 512), 'C4': (4, 4, 1024), 'C5': (2, 2, 2048)}
    """
    found = _last_of_each_level(model)
    if not found:
        raise ValueError(
            "`feature_extractor` knows the layers of this package's networks by their names, and "
            f'found none. Received: a model called "{model.name}"'
        )
    if levels is None:
        levels = [level for level, (_, ends_stage) in found.items() if ends_stage or level == "C2"]
    for level in levels:
        if level not in found:
            raise ValueError(f'No level "{level}" in {model.name}. It has {", ".join(found)}.')
    outputs = {level: found[level][0] for level in levels}
    return keras.Model(model.inputs, outputs, name=f"{model.name}_features")


def _last_of_each_level(model):
    """From each level to its tensor and whether a stage ends in it, the largest map first."""
    matches = {layer.name: _ON_THE_MAIN_PATH.fullmatch(layer.name) for layer in model.layers}
    layers = [layer for layer in model.layers if matches[layer.name]]
    strides = _strides(model) if layers else {}
    found = {}
    for layer in layers:
        level = f"C{round(math.log2(strides[id(layer.output)]))}"
        found[level] = (layer.output, bool(matches[layer.name]["stage"]))
    return dict(sorted(found.items()))


def _strides(model):
    """From each tensor's identity to the product of the strides on its way from the image.

    Sizes would not do: those of small images are rounded, and cut by layers that do not pad.
    """
    graph = getattr(model, "_functional", model)
    found = {}
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            # Of maps that are joined the larger counts: Big-Little repeats the other's pixels.
            before = min((found[id(x)] for x in node.input_tensors), default=1)
            stride = getattr(node.operation, "strides", 1)
            stride = stride if isinstance(stride, int) else stride[0]
            found.update((id(x), before * stride) for x in node.output_tensors)
    return found
