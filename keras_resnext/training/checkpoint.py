"""All that a run needs to go on from a step as if it had not been interrupted, in one file.

Weights, statistics, random generators and drop schedules of the model; momenta, averages,
accumulated gradients and loss scale of the optimizer; sums of the metrics so far; the epoch and
the step in it; the history. The file is safetensors, written whole or not at all.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from keras_resnext.training.optimizers import value_of
from keras_resnext.training.run_folder import write_whole

MODEL, OPTIMIZER, METRIC = "model/", "optimizer/", "metric/"


@dataclass
class Position:
    """Where a run is.

    Args:
        epoch: From 0, the one under way.
        step: Steps done in it.
        history: The rows of the epochs that are done.
        seconds: That they and the steps have taken.
        best: The highest test accuracy so far.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    best: float = -1.0


@dataclass(frozen=True)
class Restored:
    """What ``restore`` gives.

    Args:
        position: Where the run was.
        sums: Of the metrics, in the step's order.
    """

    position: Position
    sums: list[np.ndarray]


def save(
    path: Path, model: keras.Model, student: keras.Model, position: Position, sums=None
) -> None:
    """Write a checkpoint, unless a weight is no number any more: then the last one stays.

    Args:
        path: Of the file; what is there is replaced once the new one is whole.
        model: Compiled, in training: its optimizer and metrics are kept.
        student: Whose weights are kept: the model itself, or what it trains.
        position: Where the run is.
        sums: Of the epoch's metrics, where the model's hold others.

    Raises:
        WriteError: If it cannot be written; then the file is as it was.
    """
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()
    tensors = {name: value_of(variable) for name, variable in _state(model, student)}
    if not all(np.isfinite(t).all() for name, t in tensors.items() if name.startswith(MODEL)):
        return
    if sums is None:
        sums = [value_of(variable) for variable in model.metrics_variables]
    tensors |= {f"{METRIC}{number:05}": value for number, value in enumerate(sums)}
    metadata = {"position": json.dumps(asdict(position))}
    write_whole(path, lambda part: save_file(tensors, part, metadata))


def restore(path: Path, model: keras.Model, student: keras.Model) -> Restored:
    """Read what ``save`` has written into a model that is compiled alike.

    Args:
        path: Of the file.
        model: Compiled as the one that was saved; its optimizer built.
        student: As in ``save``.

    Returns:
        Where the run was, and the sums of the metrics: ``fit`` resets those when it begins an
        epoch, so they are put there after that.

    Raises:
        ValueError: If it is damaged, or of another network, optimizer or number of classes.
    """
    position, tensors = _read(path)
    sums = [tensors.pop(name) for name in sorted(tensors) if name.startswith(METRIC)]
    state = dict(_state(model, student))
    _check_classes(path, state, tensors)
    _check(path, state, tensors)
    for name, variable in state.items():
        variable.assign(tensors[name])
    return Restored(position, sums)


def position_of(path: Path) -> Position:
    """Say where the run was when a checkpoint was written.

    Args:
        path: Of the file.

    Raises:
        ValueError: If it is damaged.
    """
    return _read(path)[0]


def _read(path: Path) -> tuple[Position, dict]:
    try:
        with safe_open(path, framework="numpy") as file:
            position = Position(**json.loads(file.metadata()["position"]))
            return position, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f'The checkpoint "{path}" cannot be read: {error}') from error


def _check(path: Path, state: dict, tensors: dict) -> None:
    faults = [
        f"missing: {variable.path}" for name, variable in state.items() if name not in tensors
    ]
    faults += [f"unexpected: {name}" for name in tensors if name not in state]
    faults += [
        f"{variable.path}: {tensors[name].shape}, expected {tuple(variable.shape)}"
        for name, variable in state.items()
        if name in tensors and tensors[name].shape != tuple(variable.shape)
    ]
    if faults:
        shown = "\n  ".join(faults[:8])
        more = f"\n  and {len(faults) - 8} more" if len(faults) > 8 else ""
        raise ValueError(
            f'The checkpoint "{path}" is of another network or recipe:\n  {shown}{more}'
        )


def _check_classes(path: Path, state: dict, tensors: dict) -> None:
    for name, variable in state.items():
        if variable.path.endswith("predictions/kernel") and name in tensors:
            theirs, ours = tensors[name].shape[-1], variable.shape[-1]
            if theirs != ours:
                raise ValueError(
                    f'The checkpoint "{path}" is of {theirs} classes, the data now has {ours}. '
                    "Expected the same data; for other classes begin a run with --weights."
                )


def _state(model: keras.Model, student: keras.Model) -> Iterator[tuple[str, keras.Variable]]:
    """Every variable of the model and the optimizer.

    By number: Keras numbers the names of what has none, by what was made before in the process.
    """
    for kind, variables in ((MODEL, student.variables), (OPTIMIZER, model.optimizer.variables)):
        for number, variable in enumerate(variables):
            yield f"{kind}{number:05}", variable
