"""Moves trained weights between the three forms of the ResNeXt block."""

import re

import keras
import numpy as np

_PATH = re.compile(r"(?P<block>.+)_path(?P<number>\d+)_(?P<part>conv\d(_norm)?)")


def move_weights(source: keras.Model, target: keras.Model) -> keras.Model:
    """Assign a network the weights of the same network in another form.

    The paper's three forms of a block, C branches summed (a), C branches concatenated (b) and
    one grouped convolution (c), compute the same function of the same numbers: the slice of a
    branch is that of a group.

    Args:
        source: `keras.Model`, built with one `form`.
        target: `keras.Model`, built from the same configuration except for `form`.

    Returns:
        `target`.

    Raises:
        ValueError: If a weight of the target has no counterpart of its shape. Then nothing is
            changed.

    Reference:
        [Xie et al., 2017, figure 3](https://arxiv.org/abs/1611.05431)

    Example:
    >>> import keras_resnext
    >>> grouped, branches = (
    ...     keras_resnext.ResNeXt35(cardinality=2, blocks=(1, 1, 1), form=form) for form in "ca"
    ... )
    >>> move_weights(grouped, branches) is branches
    True
    """
    merged = _merged(source)
    moves = []
    for variable in target.weights:
        name, axis, part, parts = _slice(variable.path, target)
        values = merged.get(name)
        if values is not None and parts > 1:
            values = np.split(values, parts, axis)[part]
        if values is None or values.shape != tuple(variable.shape):
            raise ValueError(
                f'No weight of {source.name} fits "{variable.path}" {tuple(variable.shape)}: '
                "both networks need the same configuration except for `form`."
            )
        moves.append((variable, values))
    for variable, values in moves:
        variable.assign(values)
    return target


def _merged(model: keras.Model) -> dict[str, np.ndarray]:
    """Return the weights by their names in form (c), with the branches of a block joined."""
    parts = {}
    for variable in model.weights:
        name, axis, part, _ = _slice(variable.path, model)
        parts.setdefault((name, axis), {})[part] = keras.ops.convert_to_numpy(variable)
    return {name: _joined(slices, axis) for (name, axis), slices in parts.items()}


def _joined(parts: dict[int, np.ndarray], axis: int) -> np.ndarray:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([parts[number] for number in sorted(parts)], axis)


def _slice(path: str, model: keras.Model) -> tuple[str, int, int, int]:
    """Return a weight's name in form (c), the axis of its slice, its number, and the count."""
    layer, weight = path.rsplit("/", 1)
    if weight == "step":  # of DropBlock and stochastic depth: the same in every layer
        return weight, 0, 0, 1
    match = _PATH.fullmatch(layer)
    if not match:
        return path, 0, 0, 1
    block, part = match["block"], match["part"]
    # The last 1x1 of a branch reads its own channels; everything else writes them.
    axis = 2 if part == "conv3" else -1
    sisters = re.compile(rf"{block}_path\d+_{part}")
    count = sum(1 for other in model.layers if sisters.fullmatch(other.name))
    return f"{block}_{part}/{weight}", axis, int(match["number"]) - 1, count
