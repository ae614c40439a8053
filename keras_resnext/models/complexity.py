"""Parameters and multiply-adds of any Keras model, counted by walking it."""

import contextlib
import functools
import math

import keras

from keras_resnext.models.counting import Complexity

__all__ = ["Complexity", "complexity"]


def complexity(model, input_shape=None):
    """Count the parameters and multiply-adds of a model.

    The model is run on shapes alone, and every convolution (grouped, depthwise, separable,
    transposed) and dense layer that is met, however deeply nested and as often as it is
    called, adds its products. Biases, normalization, pooling and activations are not
    counted, as in the papers.

    Args:
        model: a built `keras.Model` of one input.
        input_shape: tuple, the shape of one image without the batch; needed where the model
            leaves it open.

    Returns:
        `Complexity`.

    Raises:
        ValueError: if the shape is open and `input_shape` is not given.

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
            elif not _says_its_shape(layer):
                stack.enter_context(_replaced(layer, "compute_output_spec", _ShapesOnly(layer)))
        # A graph finds its shapes without the backend, unless it takes them for known.
        graph = hasattr(model, "operations") and model.input_shape[0] is None
        run = model.compute_output_spec if graph else _ShapesOnly(model)
        run(keras.KerasTensor((1, *shape)), training=False)
    return Complexity(
        parameters=model.count_params(),
        trainable=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        macs=sum(counted),
    )


class _ShapesOnly(keras.Operation):
    """Runs a layer as its backend traces it: all that it holds is called, nothing is computed."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def call(self, *args, **kwargs):
        # TensorFlow takes no name with an underscore before it but within another.
        with keras.name_scope("complexity"):
            return self.layer(*args, **kwargs)


def _says_its_shape(layer):
    """Whether it is one layer, and its shape is known without running it."""
    said = type(layer).compute_output_shape is not keras.layers.Layer.compute_output_shape
    return said and not layer._flatten_layers(include_self=False)


def _counting(layer, method, counted):
    @functools.wraps(method)
    def counting(inputs, *args, **kwargs):
        outputs = method(inputs, *args, **kwargs)
        counted.append(_macs(layer, inputs, outputs))
        return outputs

    return counting


@contextlib.contextmanager
def _replaced(layer, method, replacement):
    setattr(layer, method, replacement)
    try:
        yield
    finally:
        delattr(layer, method)


def _macs(layer, inputs, outputs):
    for kind, counter in _COUNTERS.items():
        if isinstance(layer, kind):
            return counter(layer, inputs, outputs)


def _at_each_output(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, outputs)


def _at_each_input(layer, inputs, outputs):
    return math.prod(layer.kernel.shape) * _positions(layer, inputs)


def _separable(layer, inputs, outputs):
    weights = (layer.depthwise_kernel, layer.pointwise_kernel)
    return sum(math.prod(w.shape) for w in weights) * _positions(layer, outputs)


def _positions(layer, tensor):
    """How often a kernel is applied: the pixels of a map, the rows of a dense layer's input."""
    if getattr(layer, "data_format", "channels_last") == "channels_first":
        return math.prod(tensor.shape[2:])
    return math.prod(tensor.shape[1:-1])


# A subclass stands before the class it derives from.
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
