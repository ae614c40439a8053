"""All that a run needs to be resumed at a step as if it had not been interrupted, in one file.

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
# Faults of a checkpoint that a message lists.
LISTED = 8


@dataclass
class Position:
    """Where a run is.

    Args:
        epoch: int, the current epoch, from 0.
        step: int, steps of it that are done.
        history: list of dict, the rows of the epochs before it.
        seconds: float, what they and the steps have taken.
        best: float, the highest test accuracy so far.
    """

    epoch: int = 0
    step: int = 0
    history: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    best: float = -1.0


def save(
    path: Path,
    model: keras.Model,
    student: keras.Model,
    position: Position,
    sums: list[np.ndarray] | None = None,
) -> None:
    """Write a checkpoint, unless a weight is NaN: then the last one stays.

    Args:
        path: Path of the file; what is there is replaced once the new one is whole.
        model: The compiled `keras.Model` in training, for its optimizer and metrics.
        student: The `keras.Model` whose weights are saved: the model itself, or what it trains.
        position: Position of the run.
        sums: list of arrays, sums of the epoch's metrics if the model's hold others.

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


def restore(
    path: Path, model: keras.Model, student: keras.Model
) -> tuple[Position, list[np.ndarray]]:
    """Read what `save` has written into a model that is compiled alike.

    Args:
        path: Path of the file.
        model: A `keras.Model` compiled as the one that was saved; its optimizer is built.
        student: As in `save`.

    Returns:
        The position of the run, and the sums of its metrics: `fit` resets those when it begins an
        epoch, so they have to be restored after that.

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
    return position, sums


def position_of(path: Path) -> Position:
    """Return where the run was when a checkpoint was written.

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
        shown = "\n  ".join(faults[:LISTED])
        more = f"\n  and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
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
    """Yield every variable of the model and the optimizer.

    By number: Keras names what has no name after what was made before in the process.
    """
    for kind, variables in ((MODEL, student.variables), (OPTIMIZER, model.optimizer.variables)):
        for number, variable in enumerate(variables):
            yield f"{kind}{number:05}", variable
