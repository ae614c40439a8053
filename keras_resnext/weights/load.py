"""Foreign tensors into our networks and back."""

import pathlib
import re

import keras

from keras_resnext.weights.keras_names import keras_layers
from keras_resnext.weights.timm_names import from_torch, timm_name, to_torch

_SHOWN = 12
LOOSELY = "strict=False loads what fits."


def load_tensors(model, config, tensors, strict=True, where="the given tensors", advice=LOOSELY):
    """Give a network the tensors of timm's (or torchvision's) network of the same kind.

    Args:
        model: `keras.Model`, built from `config`.
        config: its configuration.
        tensors: dict of NumPy arrays by PyTorch's names, see `read_tensors`.
        strict: bool, whether every weight must get a tensor, and every tensor be used (but for
            the classifier's, where the model has no top). Otherwise what does not fit keeps its
            value.
        where: str, what the tensors are called in an error.
        advice: str, what a strict error ends in.

    Returns:
        `model`.

    Raises:
        ValueError: with a table of what is missing, unexpected or of another shape. Nothing has
            been changed then.
    """
    found, problems = [], []
    used = set()
    for variable in model.weights:
        name = timm_name(variable.path, config)
        if name is None:
            continue
        used.add(name)
        if name not in tensors:
            problems.append((name, "missing", f"for {variable.path} {tuple(variable.shape)}"))
            continue
        try:
            found.append((variable, from_torch(tensors[name], tuple(variable.shape))))
        except ValueError:
            shapes = f"has {tensors[name].shape}, {variable.path} has {tuple(variable.shape)}"
            problems.append((name, "misshapen", shapes))
    has_top = any(layer.name == "predictions" for layer in model.layers)
    for name in sorted(set(tensors) - used):
        if not name.startswith("AuxLogits") and (has_top or not is_classifier(name)):
            problems.append((name, "unexpected", str(tensors[name].shape)))
    if problems and (strict or not found):
        raise ValueError(_table(model, where, problems, advice if strict else ""))
    for variable, values in found:
        variable.assign(values)
    return model


def load_layers(model, config, layers, where="the given layers"):
    """Give a network the weights of keras.applications' network of the same kind.

    Args:
        model: `keras.Model`, built from `config`.
        config: its configuration, in the form of `keras_names.keras_form`.
        layers: dict from the name of a layer to the list of its arrays, see `read_layers`.
        where: str, what the file is called in an error.

    Returns:
        `model`.

    Raises:
        ValueError: with a table of what is missing, unexpected or of another shape. Nothing has
            been changed then.
    """
    found, problems, used = [], [], set()
    own = [layer for layer in model.layers if layer.weights]
    names = keras_layers(config, [layer.name for layer in own], layers)
    for layer in own:
        name = names.get(layer.name, layer.name)
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if name not in layers:
            problems.append((name, "missing", f"for {layer.name}"))
            continue
        used.add(name)
        given = [array.shape for array in layers[name]]
        if given != shapes:
            problems.append((name, "misshapen", f"has {given}, {layer.name} has {shapes}"))
        found.append((layer, layers[name]))
    has_top = any(layer.name == "predictions" for layer in model.layers)
    for name in layers:
        if name not in used and (has_top or name != "predictions"):
            problems.append((name, "unexpected", ""))
    if problems:
        raise ValueError(_table(model, where, problems))
    for layer, arrays in found:
        layer.set_weights(arrays)
    return model


def _table(model, where, problems, advice=""):
    """What does not fit, a line each, the commonest kinds first."""
    kinds = [kind for _, kind, _ in problems]
    counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in dict.fromkeys(kinds))
    width = max(len(name) for name, _, _ in problems[:_SHOWN])
    lines = [f"  {kind:<11}{name:<{width}}  {rest}" for name, kind, rest in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        lines.append(f"  ... and {len(problems) - _SHOWN} more")
    return "\n".join(
        [
            f"The tensors of {where} do not fit {model.name}: {counts}.",
            *lines,
            f"Check the network's name, `classes` and `include_top`. {advice}".strip(),
        ]
    )


def is_classifier(name):
    """Whether a tensor belongs to the classifier, in any of timm's spellings."""
    return name.split(".")[0] in ("fc", "last_linear", "classif")


def classes_of(tensors):
    """The number of classes of the classifier among the tensors; None without one.

    Example:

    >>> import numpy as np
    >>> classes_of({"fc.weight": np.zeros((10, 512))})
    10
    """
    for name in ("fc.weight", "last_linear.weight", "classif.weight"):
        if name in tensors:
            return int(tensors[name].shape[0])
    return None


def blocks_of(tensors):
    """The number of blocks in each stage, by the names of the tensors; None of another family.

    Example:

    >>> blocks_of({"layer1.0.conv1.weight": 0, "layer1.1.conv1.weight": 0})
    (2,)
    """
    found = [name.split(".")[:2] for name in tensors if re.match(r"layer\d+\.\d+\.", name)]
    stages = {stage: 1 + max(int(b) for s, b in found if s == stage) for stage, _ in found}
    return tuple(stages[stage] for stage in sorted(stages)) or None


def to_timm(model, config):
    """Return the weights of a network by timm's names, as PyTorch lays them out.

    Args:
        model: `keras.Model`, built from `config`.
        config: its configuration.

    Returns:
        dict of float32 NumPy arrays: a state dict that timm's network loads strictly.
    """
    tensors = {}
    for variable in model.weights:
        name = timm_name(variable.path, config)
        if name is not None:
            tensors[name] = to_torch(keras.ops.convert_to_numpy(variable.value), name)
    return tensors


def save_safetensors(model, config, path):
    """Write a network's weights as a safetensors file that timm loads.

    Args:
        model: `keras.Model`, built from `config`.
        config: its configuration.
        path: str or path, the file; its folder must exist.
    """
    import safetensors.numpy

    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    safetensors.numpy.save_file(to_timm(model, config), partial, metadata={"format": "pt"})
    partial.replace(path)
