"""A checkpoint: a safetensors file from which a run resumes as if it had not been interrupted.

It holds the state of the model (with random generators and schedules), the optimizer and the
metrics, and the run's position with its history.
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
# The most faults that an error message lists.
LISTED = 8


@dataclass
class Position:
    """The progress of a run: the epoch, from 0, and the number of steps done in it.

    `history` has a row per completed epoch; `best` is the highest test accuracy so far.
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

    `student` has the weights to save: `model` itself, or the network that it trains. `sums` are the
    epoch's metrics if the model's hold others.
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
    """Restore what `save` wrote into a model compiled alike, and return position and metric sums.

    `fit` resets metrics when it begins an epoch: restore the sums after that. Raise a `ValueError`
    if the file is damaged, or of another network, optimizer or number of classes.
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
    """Return the position at which a checkpoint was written."""
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
    """Yield every variable of the model and the optimizer, by number.

    Their names will not do: Keras numbers them by what was built earlier in the process.
    """
    for kind, variables in ((MODEL, student.variables), (OPTIMIZER, model.optimizer.variables)):
        for number, variable in enumerate(variables):
            yield f"{kind}{number:05}", variable
