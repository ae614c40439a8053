"""Training in less memory: parts of a network compute their activations twice."""

import collections
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import keras
import numpy as np

from keras_resnext.layers.rematerialized import Rematerialized
from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.builders import undisturbed

Tensors = list[keras.KerasTensor]
# How many bounds on the largest part are tried, evenly between none and all activations.
BOUNDS = 100
# Bytes of an element; 4 if not listed.
BYTES = {"float16": 2, "bfloat16": 2}


def remat_model(model: keras.Model, image_size: int | None = None) -> keras.Model:
    """Return a model of the same weights and outputs that trains in less memory and more time.

    The network is cut into parts. Each but the last stores only its inputs for the backward pass
    and is computed again there; the cuts are those that need the least memory. A step computes
    about a third more. Gradients agree up to rounding; batch statistics and random numbers are
    the same. Train the returned model and save `model`: they share their weights.

    Args:
        model: functional `keras.Model` that calls each of its layers once.
        image_size: int, edge of the training images in pixels; needed if the model takes images
            of any size.

    Returns:
        A functional `keras.Model`, not compiled.

    Raises:
        ValueError: If the model is not functional or calls a layer twice, or if it takes images
            of any size and `image_size` is missing.

    Reference:
        [Chen et al., 2016](https://arxiv.org/abs/1604.06174)

    Example:
    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt35()
    >>> trained = remat_model(model)
    >>> trained.count_params() == model.count_params(), trained.output_shape
    (True, (None, 10))
    """
    if not getattr(model, "inputs", None):
        raise ValueError(
            "`model` must be a functional `keras.Model`, or a Sequential one that is built. "
            f"Received: model={model!r}"
        )
    with undisturbed(len(model.layers)):
        return _in_parts(model, image_size)


def _in_parts(model: keras.Model, image_size: int | None) -> keras.Model:
    *parts, last = _cut(model, image_size)
    known = {id(tensor): tensor for tensor in model.inputs}
    for number, (inputs, outputs) in enumerate(parts):
        part = Rematerialized(keras.Model(inputs, outputs), name=f"part{number + 1}")
        _connect(part, inputs, outputs, known)
    _connect(keras.Model(*last), *last, known)
    outputs = [known[id(tensor)] for tensor in model.outputs]
    inputs = model.inputs if len(model.inputs) > 1 else model.inputs[0]
    if isinstance(model, AuxiliaryModel):
        weight = model.auxiliary_weight
        trained = AuxiliaryModel(inputs, outputs, model.name, auxiliary_weight=weight)
    else:
        outputs = outputs if len(outputs) > 1 else outputs[0]
        trained = keras.Model(inputs, outputs, name=model.name)
    # `compile` decides by the policy whether to scale the loss.
    trained.dtype_policy = model.dtype_policy
    return trained


def _connect(part: Callable, inputs: Tensors, outputs: Tensors, known: dict) -> None:
    made = part([known[id(tensor)] for tensor in inputs])
    known.update(zip(map(id, outputs), keras.tree.flatten(made), strict=True))


def _cut(model: keras.Model, image_size: int | None) -> list[tuple[Tensors, Tensors]]:
    """Return the parts of a network, each as its inputs and its outputs."""
    trunk = _operations(model.inputs, model.outputs[:1])
    whole = _operations(model.inputs, model.outputs)
    # Layers that lead to auxiliary outputs end the last part.
    order = trunk + [operation for operation in whole if operation not in trunk]
    made = [keras.tree.flatten(operation.output) for operation in order]
    _check_single_calls(model, order, made)
    size = _sizes(model, [tensor for tensors in made for tensor in tensors], image_size)
    within = [sum(size[id(tensor)] for tensor in tensors) for tensors in made]
    places = [0, *best_cuts(within, _passing(trunk, model.outputs[0], size)), len(order)]
    return [
        _ends(order[start:stop], order[stop:], model.outputs)
        for start, stop in itertools.pairwise(places)
    ]


def _operations(inputs: Tensors, outputs: Tensors) -> list[keras.Operation]:
    operations = keras.Model(inputs, outputs).operations
    return [o for o in operations if not isinstance(o, keras.layers.InputLayer)]


def _check_single_calls(
    model: keras.Model, order: list[keras.Operation], made: list[Tensors]
) -> None:
    known = {id(tensor) for tensors in (model.inputs, *made) for tensor in tensors}
    for tensors in (*(keras.tree.flatten(o.input) for o in order), model.outputs):
        for tensor in tensors:
            if id(tensor) not in known:
                layer = tensor._keras_history.operation
                raise ValueError(
                    f'The model "{model.name}" calls its layer "{layer.name}" more than once; '
                    "that cannot be cut into parts. Expected a model that calls each layer once."
                )


def _sizes(model: keras.Model, tensors: Tensors, image_size: int | None) -> dict[int, int]:
    """Return the size of each tensor in bytes per image, by the tensor's id."""
    shapes = [tensor.shape for tensor in tensors]
    if any(None in tensor.shape[1:] for tensor in model.inputs):
        if image_size is None:
            raise ValueError(
                f'The model "{model.name}" takes images of any size, and the cuts depend on '
                "it. Expected `image_size`, the edge of the training images in pixels."
            )
        given = [(1, *(edge or image_size for edge in t.shape[1:])) for t in model.inputs]
        shapes = keras.Model(model.inputs, tensors).compute_output_shape(given)
    return {
        id(tensor): math.prod(edge or 1 for edge in shape) * BYTES.get(tensor.dtype, 4)
        for tensor, shape in zip(tensors, shapes, strict=True)
    }


def _passing(
    trunk: list[keras.Operation], output: keras.KerasTensor, size: dict[int, int]
) -> dict[int, int]:
    """Return the bytes that later operations need after each number of operations."""
    uses = collections.Counter(id(t) for o in trunk for t in keras.tree.flatten(o.input))
    uses[id(output)] += 1
    alive, passing = set(), {}
    for place, operation in enumerate(trunk[:-1], 1):
        for tensor in keras.tree.flatten(operation.input):
            uses[id(tensor)] -= 1
            if not uses[id(tensor)]:
                alive.discard(id(tensor))
        alive.update(id(t) for t in keras.tree.flatten(operation.output) if uses[id(t)])
        passing[place] = sum(size[tensor] for tensor in alive)
    return passing


def best_cuts(sizes: Sequence[float], passing: Mapping[int, float]) -> list[int]:
    """Return the cuts that need the least memory: for the cut tensors and the largest part.

    `sizes` are those of the activations of each operation, `passing` maps each possible cut (the
    number of operations before it, rising) to the size of the tensors that pass there.
    """
    upto = np.concatenate([[0], np.cumsum(sizes)])
    places = [0, *passing, len(sizes)]
    start, stored = upto[places], [0, *passing.values(), 0]
    best, cuts = math.inf, []
    for bound in np.linspace(0, upto[-1], BOUNDS + 1)[1:]:
        # The least memory of cuts up to each place, and the cut before it.
        least, before = np.full(len(places), math.inf), [0] * len(places)
        least[0] = 0
        for i in range(1, len(places)):
            first = np.searchsorted(start, start[i] - bound)
            if first < i:
                before[i] = first + int(np.argmin(least[first:i]))
                least[i] = least[before[i]] + stored[i]
        if least[-1] + bound < best:
            best, cuts, i = least[-1] + bound, [], before[-1]
            while i:
                cuts, i = [places[i], *cuts], before[i]
    return cuts


def _ends(
    part: list[keras.Operation], later: list[keras.Operation], outputs: Tensors
) -> tuple[Tensors, Tensors]:
    """Return the inputs and the outputs of a part."""

    def unique(tensors: Iterable[keras.KerasTensor]) -> Tensors:
        return list({id(tensor): tensor for tensor in tensors}.values())

    made = unique(t for o in part for t in keras.tree.flatten(o.output))
    own = {id(tensor) for tensor in made}
    used = (t for o in part for t in keras.tree.flatten(o.input))
    wanted = {id(t) for o in later for t in keras.tree.flatten(o.input)} | {*map(id, outputs)}
    return (
        unique(tensor for tensor in used if id(tensor) not in own),
        [tensor for tensor in made if id(tensor) in wanted],
    )
