"""Parameters and multiply-adds of any Keras model."""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import keras

from keras_resnext.models.counting import Complexity

__all__ = ["Complexity", "complexity"]


def complexity(model: keras.Model, input_shape: tuple[int, ...] | None = None) -> Complexity:
    """Count the parameters and multiply-adds of a model.

    The model is run only on shapes. Every convolution (grouped, depthwise, separable,
    transposed) and dense layer, however deeply nested and as often as it is called, adds its
    products. Biases, normalization, pooling and activations are not counted, as in the papers.

    Args:
        model: `keras.Model` of one input, built.
        input_shape: tuple of int, the shape of one image without the batch; needed if the model
            leaves it open.

    Raises:
        ValueError: If the shape is open and `input_shape` is missing.

    Example:
    >>> dense = keras.Sequential([keras.Input((8,)), keras.layers.Dense(10)])
    >>> complexity(dense)
    Complexity(parameters=90, trainable=90, macs=80)
    """
    shape = tuple(input_shape or model.input_shape[1:])
    if None in shape:
        raise ValueError(
            "The model leaves its input shape open: give `input_shape`, such as (224, 224, 3). "
            f"Received: model.input_shape={model.input_shape}"
        )
    counted = []
    with contextlib.ExitStack() as stack:
        for layer in model._flatten_layers(include_self=False):
            if isinstance(layer, tuple(_COUNTERS)):
                for method in ("call", "compute_output_spec"):
                    counting = _counting(layer, getattr(layer, method), counted)
                    stack.enter_context(_replaced(layer, method, counting))
            elif not _knows_its_shape(layer):
                stack.enter_context(_replaced(layer, "compute_output_spec", _ShapesOnly(layer)))
        # A graph infers its shapes without the backend, unless its batch size is fixed.
        graph = hasattr(model, "operations") and model.input_shape[0] is None
        run = model.compute_output_spec if graph else _ShapesOnly(model)
        run(keras.KerasTensor((1, *shape)), training=False)
    return Complexity(
        parameters=model.count_params(),
        trainable=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        macs=sum(counted),
    )


class _ShapesOnly(keras.Operation):
    """Runs a layer as its backend traces it: all inner layers are called, nothing is computed."""

    def __init__(self, layer: keras.Layer):
        super().__init__()
        self.layer = layer

    def call(self, *args, **kwargs) -> Any:
        """Call the layer."""
        # TensorFlow only allows names with a leading underscore inside another scope.
        with keras.name_scope("complexity"):
            return self.layer(*args, **kwargs)


def _knows_its_shape(layer: keras.Layer) -> bool:
    """Return whether this is a single layer whose output shape is known without running it."""
    own = type(layer).compute_output_shape is not keras.layers.Layer.compute_output_shape
    return own and not layer._flatten_layers(include_self=False)


def _counting(layer: keras.Layer, method: Callable, counted: list[int]) -> Callable:
    @functools.wraps(method)
    def counting(inputs: Any, *args, **kwargs) -> Any:
        outputs = method(inputs, *args, **kwargs)
        counted.append(_macs(layer, inputs, outputs))
        return outputs

    return counting


@contextlib.contextmanager
def _replaced(layer: keras.Layer, method: str, replacement: Callable) -> Iterator[None]:
    setattr(layer, method, replacement)
    try:
        yield
    finally:
        delattr(layer, method)


def _macs(layer: keras.Layer, inputs: Any, outputs: Any) -> int:
    for kind, counter in _COUNTERS.items():
        if isinstance(layer, kind):
            return counter(layer, inputs, outputs)


def _at_each_output(layer: keras.Layer, inputs: Any, outputs: Any) -> int:
    return math.prod(layer.kernel.shape) * _positions(layer, outputs)


def _at_each_input(layer: keras.Layer, inputs: Any, outputs: Any) -> int:
    return math.prod(layer.kernel.shape) * _positions(layer, inputs)


def _separable(layer: keras.Layer, inputs: Any, outputs: Any) -> int:
    weights = (layer.depthwise_kernel, layer.pointwise_kernel)
    return sum(math.prod(w.shape) for w in weights) * _positions(layer, outputs)


def _positions(layer: keras.Layer, tensor: Any) -> int:
    """Return how often a kernel is applied: at each pixel, or each row of a dense layer's input."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return math.prod(tensor.shape[2:])
    return math.prod(tensor.shape[1:-1])


# Subclasses precede their base classes.
_COUNTERS = {
    keras.layers.Conv1DTranspose: _at_each_input,
    keras.layers.Conv2DTranspose: _at_each_input,
    keras.layers.Conv3DTranspose: _at_each_input,
    keras.layers.SeparableConv1D: _separable,
    keras.layers.SeparableConv2D: _separable,
    keras.layers.DepthwiseConv1D: _at_each_output,
    keras.layers.DepthwiseConv2D: _at_each_output,
    keras.layers.Conv1D: _at_each_output,
    keras.layers.Conv2D: _at_each_output,
    keras.layers.Conv3D: _at_each_output,
    keras.layers.Dense: _at_each_output,
}
