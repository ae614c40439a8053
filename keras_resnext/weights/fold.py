"""Batch norms folded into the convolutions before them: the same network, for inference."""

import collections
from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnext.layers import BatchNormalization, GroupedConv2D
from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.builders import undisturbed
from keras_resnext.models.description import image_inputs_like

# Linear layers (not their subclasses, which may do more), with how many of the last axes of their
# kernel count the outputs.
_OUTPUT_AXES = {
    GroupedConv2D: 1,
    layers.DepthwiseConv1D: 2,
    layers.DepthwiseConv2D: 2,
    layers.Conv1D: 1,
    layers.Conv2D: 1,
    layers.Conv3D: 1,
    layers.Dense: 1,
}
_NORMS = (layers.BatchNormalization, BatchNormalization)


def fold_batch_norm(model: keras.Model, dtype: str | None = None) -> keras.Model:
    """Return an equal model for inference with batch norms folded into the layers before them.

    Directly after a convolution (also a grouped or depthwise one) or a dense layer, kernel and bias
    can do what a batch norm with fixed statistics does. A batch norm stays after a sum or a
    concatenation (where pre-activation blocks begin; in `multi_kernel` and `multi_dilation`
    blocks), after a convolution whose output is also used elsewhere, and within another layer
    (`SelectiveKernel`).

    Args:
        model: functional or Sequential `keras.Model`, of this package or any other, on any
            backend; models nested in it are folded as well. It is not changed, and shares no
            weight with the result.
        dtype: str, name of a Keras dtype policy such as `"mixed_bfloat16"` for every layer except
            those that compute the outputs, which then use float32. None keeps each layer's.

    Returns:
        A `keras.Model` with the same inputs, outputs and layer names, without the folded batch
        norms. Its outputs differ by rounding only. It is not meant for training, as it has no
        batch statistics.

    Raises:
        ValueError: If the model is subclassed, as the graph of its layers is not known.

    Example:
    >>> import keras_resnext
    >>> folded = fold_batch_norm(keras_resnext.ResNeXt35(weights=None))
    >>> any("norm" in layer.name for layer in folded.layers)
    False
    """
    return _rebuilt(model, dict(_foldable(model)), dtype)


def with_dtype_policy(model: keras.Model, dtype: str) -> keras.Model:
    """Return a copy of a network under another dtype policy, with its own weights.

    As in `fold_batch_norm`, the layers that compute the outputs use float32.
    """
    _calls(model)
    return _rebuilt(model, {}, dtype)


def _rebuilt(model: keras.Model, norms: dict, dtype: str | None) -> keras.Model:
    """Return a copy of the model; `norms` maps layers to the batch norms folded into them."""
    clones = _Clones(norms, set(_last(model)), dtype)
    with undisturbed(len(model.layers)):
        result = clones.of_model(model)
    for layer, clone in clones.made.items():
        if layer in norms:
            clone.set_weights(_folded_weights(layer, norms[layer]))
        elif isinstance(layer, keras.Layer) and clone not in clones.skipped:
            clone.set_weights(layer.get_weights())
    return result


def _last(model: keras.Model) -> Iterator[keras.Operation]:
    """Yield the operations that compute a model's outputs, also inside models at its end."""
    makers = _makers(_calls(model))
    for x in model.outputs:
        operation = makers[id(x)]
        yield from _last(operation) if _is_graph(operation) else (operation,)


def _is_graph(operation: keras.Operation) -> bool:
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


class _Clones:
    """The functions for `keras.models.clone_model`: the clone of a layer, and its outputs."""

    def __init__(self, norms: dict, last: set, dtype: str | None) -> None:
        self.norms, self.folded = norms, set(norms.values())
        self.last, self.dtype = last, dtype
        self.made, self.models, self.skipped = {}, {}, set()

    def of_model(self, model: keras.Model) -> keras.Model:
        """Clone a model, with the additions of this package that Keras would leave out."""
        # A Sequential model keeps identities where its batch norms were.
        sequential = isinstance(model, keras.Sequential)
        clone = keras.models.clone_model(
            model,
            input_tensors=None if sequential else image_inputs_like(model),
            clone_function=self.make,
            call_function=None if sequential else self.call,
        )
        if isinstance(model, AuxiliaryModel):
            clone.auxiliary_weight = model.auxiliary_weight
        return clone

    def make(self, layer: keras.Operation) -> keras.Operation:
        """Return the clone of a layer, without its weights."""
        if _is_graph(layer):
            if layer not in self.models:
                self.models[layer] = self.of_model(layer)
            return self.models[layer]
        if layer in self.made:  # shared with another of the models
            return self.made[layer]
        if layer in self.folded:
            clone = layers.Identity(name=layer.name, dtype=layer.dtype_policy)
            self.skipped.add(clone)
        else:
            clone = type(layer).from_config(self._config(layer))
        self.made[layer] = clone
        return clone

    def call(self, clone: keras.Operation, *args, **kwargs) -> Any:
        """Return the outputs of a clone."""
        return args[0] if clone in self.skipped else clone(*args, **kwargs)

    def _config(self, layer: keras.Operation) -> dict:
        config = layer.get_config()
        if self.dtype and "dtype" in config:
            config["dtype"] = "float32" if layer in self.last else self.dtype
        if layer in self.norms:
            config["use_bias"] = True
            for key in config.keys() & {"kernel_initializer", "depthwise_initializer"}:
                config[key] = "zeros"  # instead of random numbers for nothing
        return config


def _foldable(model: keras.Model) -> Iterator[tuple[keras.Operation, keras.Operation]]:
    """Yield each layer that a batch norm can be folded into, with that batch norm."""
    graphs = _graphs(model)
    # Models may share nodes, and a layer may be called in one and normalized in another.
    nodes = {id(node): node for graph in graphs for node in _calls(graph)}.values()
    makers = _makers(nodes)
    calls = collections.Counter(node.operation for node in nodes)
    readers = collections.Counter(id(x) for node in nodes for x in node.input_tensors)
    readers.update({id(x) for graph in graphs for x in graph.outputs})
    for node in nodes:
        norm = node.operation
        if type(norm) in _NORMS:
            x = node.input_tensors[0]
            layer = makers[id(x)]
            alone = readers[id(x)] == calls[norm] == calls[layer] == 1
            if alone and not node.arguments.kwargs.get("training") and _fits(layer, norm, x):
                yield layer, norm


def _graphs(model: keras.Model) -> list[keras.Model]:
    """Return the model and all models inside it, each once."""
    graphs = [model]
    for node in _calls(model):
        if isinstance(node.operation, keras.Model):
            graphs += _graphs(node.operation)
    return list(dict.fromkeys(graphs))


def _makers(nodes: Iterable) -> dict[int, keras.Operation]:
    """Return the operation that computes each tensor, by the tensor's id."""
    return {id(x): node.operation for node in nodes for x in node.output_tensors}


def _calls(model: keras.Model) -> list:
    """Return the nodes of a model's graph, each a call of an operation."""
    try:
        graph = model
        if isinstance(model, keras.Sequential):
            graph = keras.Function(model.inputs, model.outputs, name=model.name)
        return [node for depth in graph._nodes_by_depth.values() for node in depth]
    except AttributeError as error:
        raise ValueError(
            "`fold_batch_norm` needs a functional or a built Sequential model, whose graph of "
            f"layers is known. Received: {model.name}, a {type(model).__name__}"
        ) from error


def _fits(layer: keras.Operation, norm: keras.Layer, x: keras.KerasTensor) -> bool:
    """Return whether the kernel of a layer can scale what a batch norm scales."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return (
        type(layer) in _OUTPUT_AXES
        # Otherwise the kernel is computed from other weights.
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
        and layer.activation is keras.activations.linear
        and layer.compute_dtype == norm.compute_dtype
        and norm.axis % len(x.shape) == (1 if first else len(x.shape) - 1)
    )


def _folded_weights(layer: keras.Layer, norm: keras.Layer) -> list[np.ndarray]:
    """Return the kernel and the bias of a layer with its batch norm folded in."""
    kernel = _numbers(layer.kernel)
    bias = _numbers(layer.bias) if layer.use_bias else 0.0
    scale = 1.0 if norm.gamma is None else _numbers(norm.gamma)
    scale = scale / np.sqrt(_numbers(norm.moving_variance) + norm.epsilon)
    shift = 0.0 if norm.beta is None else _numbers(norm.beta)
    axes = _OUTPUT_AXES[type(layer)]
    return [
        kernel * scale.reshape(kernel.shape[-axes:]),
        (bias - _numbers(norm.moving_mean)) * scale + shift,
    ]


def _numbers(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")
