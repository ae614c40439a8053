"""Weights of other libraries into our networks and back."""

import pathlib
import re
from collections.abc import Callable, Iterable, Mapping

import keras
import numpy as np

from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.weights.keras_names import keras_layers
from keras_resnext.weights.timm_names import from_torch, timm_name, to_torch

_SHOWN = 12
LOOSELY = "strict=False loads what fits."
Config = ResNetConfig | InceptionConfig


def load_tensors(
    model: keras.Model,
    config: Config,
    tensors: Mapping[str, np.ndarray],
    strict: bool = True,
    where: str = "the given tensors",
    advice: str = LOOSELY,
) -> None:
    """Load the tensors of timm's (or torchvision's) network of the same kind into a network.

    If `strict` and a weight has no tensor or a tensor no weight (except the classifier's, if the
    model has no top), nothing is changed and an error lists them. Otherwise what fits is loaded.
    """
    slots = [(timm_name(v.path, config), v.path, tuple(v.shape), v) for v in model.weights]
    slots = [slot for slot in slots if slot[0] is not None]
    fits, problems = _match(slots, tensors, from_torch)
    unexpected = sorted(set(tensors) - {name for name, *_ in slots})
    problems += [
        (name, "unexpected", str(tensors[name].shape))
        for name in unexpected
        if not name.startswith("AuxLogits") and (_has_top(model) or not is_classifier(name))
    ]
    if problems and (strict or not fits):
        raise ValueError(_table(model, where, problems, advice if strict else ""))
    for variable, values in fits:
        variable.assign(values)


def load_layers(
    model: keras.Model,
    config: Config,
    layers: Mapping[str, list[np.ndarray]],
    where: str = "the given layers",
) -> None:
    """Load the weights of keras.applications' network of the same kind into a network.

    If something does not fit, nothing is changed and an error lists it.
    """
    own = [layer for layer in model.layers if layer.weights]
    names = keras_layers(config, [layer.name for layer in own], layers)
    shapes = {layer.name: [tuple(weight.shape) for weight in layer.weights] for layer in own}
    slots = [(names.get(x.name, x.name), x.name, shapes[x.name], x) for x in own]
    fits, problems = _match(slots, layers, _unchanged)
    used = {name for name, *_ in slots}
    problems += [
        (name, "unexpected", "")
        for name in layers
        if name not in used and (_has_top(model) or name != "predictions")
    ]
    if problems:
        raise ValueError(_table(model, where, problems))
    for layer, arrays in fits:
        layer.set_weights(arrays)


def _match(slots: Iterable[tuple], values: Mapping, convert: Callable) -> tuple[list, list]:
    """Return the values that fit, each with its target, and what is missing or misshapen.

    A slot is a name among the values, the target's own name and shape, and the target.
    """
    fits, problems = [], []
    for name, own, shape, target in slots:
        if name not in values:
            problems.append((name, "missing", f"for {own} {shape}"))
            continue
        try:
            fits.append((target, convert(values[name], shape)))
        except ValueError:
            problems.append((name, "misshapen", f"has {_shape(values[name])}, {own} has {shape}"))
    return fits, problems


def _shape(value: np.ndarray | list[np.ndarray]) -> tuple | list[tuple]:
    return [array.shape for array in value] if isinstance(value, list) else value.shape


def _unchanged(arrays: list[np.ndarray], shapes: list[tuple]) -> list[np.ndarray]:
    if _shape(arrays) != shapes:
        raise ValueError("misshapen")
    return arrays


def _has_top(model: keras.Model) -> bool:
    return any(layer.name == "predictions" for layer in model.layers)


def _table(model: keras.Model, where: str, problems: list[tuple], advice: str = "") -> str:
    """Return a message that lists what does not fit."""
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


def is_classifier(name: str) -> bool:
    """Return whether a tensor belongs to the classifier, in any of timm's spellings."""
    return name.split(".")[0] in ("fc", "last_linear", "classif")


def classes_of(tensors: Mapping[str, np.ndarray]) -> int | None:
    """Return the number of classes of the classifier; None without one."""
    for name in ("fc.weight", "last_linear.weight", "classif.weight"):
        if name in tensors:
            return int(tensors[name].shape[0])
    return None


def blocks_of(tensors: Mapping[str, np.ndarray]) -> tuple[int, ...] | None:
    """Return the number of blocks per stage; None if the network is not residual."""
    places = [name.split(".")[:2] for name in tensors if re.match(r"layer\d+\.\d+\.", name)]
    stages = {stage: 1 + max(int(b) for s, b in places if s == stage) for stage, _ in places}
    return tuple(stages[stage] for stage in sorted(stages)) or None


def to_timm(model: keras.Model, config: Config) -> dict[str, np.ndarray]:
    """Return the state dict of timm's network, as float32 NumPy arrays."""
    tensors = {}
    for variable in model.weights:
        name = timm_name(variable.path, config)
        if name is not None:
            tensors[name] = to_torch(keras.ops.convert_to_numpy(variable.value), name)
    return tensors


def save_safetensors(model: keras.Model, config: Config, path: str | pathlib.Path) -> None:
    """Write a network's weights as a safetensors file that timm loads."""
    import safetensors.numpy

    path = pathlib.Path(path)
    partial = path.with_name(path.name + ".partial")
    safetensors.numpy.save_file(to_timm(model, config), partial, metadata={"format": "pt"})
    partial.replace(path)
