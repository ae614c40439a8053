"""The feature maps of a network's stages, for detection and segmentation."""

import math
import re

import keras

# Where the main path of a network leaves a stem's convolution, a block or a stage, activated.
_ON_THE_MAIN_PATH = re.compile(
    r"stem\w*_relu|(?P<stage>stage\d+_(block\d+|merge)_(out|preact_relu)|features(_conv)?_relu)"
)
_OPEN_SIZE = 256


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
    if not layers:
        return {}
    first = 1 if keras.config.image_data_format() == "channels_last" else 2
    image = [1, *(size or _OPEN_SIZE for size in model.input_shape[1:])]
    maps = keras.Model(model.inputs, [layer.output for layer in layers])
    shapes = maps.compute_output_shape(tuple(image))
    found = {}
    for layer, shape in zip(layers, shapes, strict=True):
        level = f"C{round(math.log2(image[first] / shape[first]))}"
        found[level] = (layer.output, bool(matches[layer.name]["stage"]))
    return dict(sorted(found.items()))
