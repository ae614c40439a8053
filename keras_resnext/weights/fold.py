"""Batch norm folded into the convolutions before it: the same network, for inference."""

import collections

import keras
import numpy as np
from keras import layers

from keras_resnext.layers import BatchNormalization, GroupedConv2D
from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.builders import undisturbed
from keras_resnext.models.description import image_inputs_like

# What is linear, with the axes of its kernel that number the outputs. These alone: what a class
# made of one of them does else is not known.
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


def fold_batch_norm(model, dtype=None):
    """Return an equal model for inference whose convolutions have taken in their batch norm.

    A batch norm of fixed statistics multiplies and shifts each channel; where it directly follows a
    convolution (grouped and depthwise ones too) or a dense layer, the kernel can do the one and a
    bias the other. A batch norm stays as it is after a sum or a concatenation (where pre-activation
    blocks begin; in `multi_kernel` and `multi_dilation` blocks), after a convolution whose output
    has other readers too, and within a layer of its own (`SelectiveKernel`).

    Args:
        model: functional or Sequential `keras.Model`, of this package or any other, on any
            backend; models nested in it are folded as well. It is not changed, and shares no
            weight with what is returned.
        dtype: the name of a Keras dtype policy, such as `"mixed_bfloat16"`, for every layer but
            those that give the outputs, which compute in float32 then. None keeps each layer's.

    Returns:
        A `keras.Model` with the same inputs, outputs and names of layers, less those of the
        folded batch norms. It saves and loads like any other. Its outputs differ by rounding
        only. It is not meant to be trained: it has no batch statistics to train with.

    Raises:
        ValueError: for a subclassed model, whose graph of layers is not known.

    Example:

    >>> import keras_resnext
    >>> folded = fold_batch_norm(keras_resnext.ResNeXt35(weights=None))
    >>> any("norm" in layer.name for layer in folded.layers)
    False
    """
    return _rebuilt(model, dict(_foldable(model)), dtype)


def with_dtype_policy(model, dtype):
    """Return the same network under another dtype policy, with weights of its own.

    Args:
        model: functional or Sequential `keras.Model`. It is not changed.
        dtype: as for `fold_batch_norm`.

    Returns:
        A `keras.Model` with the same inputs, outputs, layers and weights.

    Raises:
        ValueError: for a subclassed model, whose graph of layers is not known.

    Example:

    >>> import keras_resnext
    >>> model = with_dtype_policy(keras_resnext.ResNeXt35(weights=None), "mixed_bfloat16")
    >>> model.get_layer("stem_conv").compute_dtype, model.get_layer("predictions").compute_dtype
    ('bfloat16', 'float32')
    """
    _calls(model)
    return _rebuilt(model, {}, dtype)


def _rebuilt(model, norms, dtype):
    """The model with each batch norm of `norms` in the layer that is its key."""
    clones = _Clones(norms, set(_last(model)), dtype)
    with undisturbed(len(model.layers)):
        result = clones.of_model(model)
    for layer, clone in clones.made.items():
        if layer in norms:
            clone.set_weights(_folded_weights(layer, norms[layer]))
        elif isinstance(layer, keras.Layer) and clone not in clones.skipped:
            clone.set_weights(layer.get_weights())
    return result


def _last(model):
    """The operations that give a model's outputs, also from within the models at its end."""
    for x in model.outputs:
        operation = x._keras_history.operation
        yield from _last(operation) if _is_graph(operation) else (operation,)


def _is_graph(operation):
    return isinstance(operation, keras.Model) and bool(getattr(operation, "inputs", None))


class _Clones:
    """What `keras.models.clone_model` asks for: the clone of a layer, and its outputs."""

    def __init__(self, norms, last, dtype):
        self.norms, self.folded = norms, set(norms.values())
        self.last, self.dtype = last, dtype
        self.made, self.models, self.skipped = {}, {}, set()

    def of_model(self, model):
        """Keras would clone a model within the model too, but not what this package adds to it."""
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

    def make(self, layer):
        if _is_graph(layer):
            if layer not in self.models:
                self.models[layer] = self.of_model(layer)
            return self.models[layer]
        if layer in self.made:  # by another of the models
            return self.made[layer]
        if layer in self.folded:
            clone = layers.Identity(name=layer.name, dtype=layer.dtype_policy)
            self.skipped.add(clone)
        else:
            clone = type(layer).from_config(self._config(layer))
        self.made[layer] = clone
        return clone

    def call(self, clone, *args, **kwargs):
        return args[0] if clone in self.skipped else clone(*args, **kwargs)

    def _config(self, layer):
        config = layer.get_config()
        if self.dtype and "dtype" in config:
            config["dtype"] = "float32" if layer in self.last else self.dtype
        if layer in self.norms:
            config["use_bias"] = True
            for key in config.keys() & {"kernel_initializer", "depthwise_initializer"}:
                config[key] = "zeros"  # random numbers would be thrown away
        return config


def _foldable(model):
    """Yield each layer that can take in the batch norm after it, with that."""
    graphs = _graphs(model)
    # A node may be part of several models, and a layer be called in one and normalized in another.
    nodes = {id(node): node for graph in graphs for node in _calls(graph)}.values()
    calls = collections.Counter(node.operation for node in nodes)
    readers = collections.Counter(id(x) for node in nodes for x in node.input_tensors)
    readers.update({id(x) for graph in graphs for x in graph.outputs})
    for node in nodes:
        norm = node.operation
        if type(norm) in _NORMS:
            x = node.input_tensors[0]
            layer = x._keras_history.operation
            alone = readers[id(x)] == calls[norm] == calls[layer] == 1
            if alone and not node.arguments.kwargs.get("training") and _fits(layer, norm, x):
                yield layer, norm


def _graphs(model):
    """The model and all models within it, each once."""
    found = [model]
    for node in _calls(model):
        if isinstance(node.operation, keras.Model):
            found += _graphs(node.operation)
    return list(dict.fromkeys(found))


def _calls(model):
    """The nodes of a model's graph: each a call of an operation."""
    graph = model._functional if isinstance(model, keras.Sequential) else model
    try:
        return [node for depth in graph._nodes_by_depth.values() for node in depth]
    except AttributeError as error:
        raise ValueError(
            "`fold_batch_norm` needs a functional or a built Sequential model, whose graph of "
            f"layers is known. Received: {model.name}, a {type(model).__name__}"
        ) from error


def _fits(layer, norm, x):
    """Whether a batch norm scales exactly what the kernel of a layer can."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return (
        type(layer) in _OUTPUT_AXES
        # Whose kernel is made of other weights.
        and not getattr(layer, "lora_enabled", False)
        and getattr(layer, "quantization_mode", None) is None
        and layer.activation is keras.activations.linear
        and layer.compute_dtype == norm.compute_dtype
        and norm.axis % len(x.shape) == (1 if first else len(x.shape) - 1)
    )


def _folded_weights(layer, norm):
    """The kernel and the bias of a layer that does what the layer and its batch norm did."""
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


def _numbers(variable):
    return keras.ops.convert_to_numpy(variable).astype("float64")
