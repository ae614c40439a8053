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
        for layer in model._flatten_layers():
            if isinstance(layer, tuple(_COUNTERS)):
                stack.enter_context(_counting_calls(layer, counted))
        _ShapesOnly(model)(keras.KerasTensor((1, *shape)))
    return Complexity(
        parameters=model.count_params(),
        trainable=sum(math.prod(variable.shape) for variable in model.trainable_variables),
        macs=sum(counted),
    )


class _ShapesOnly(keras.Operation):
    """Runs a model as its backend traces it: every layer is called, nothing is computed."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def call(self, x):
        return self.model(x, training=False)


@contextlib.contextmanager
def _counting_calls(layer, counted):
    call = layer.call

    @functools.wraps(call)
    def counting_call(inputs, *args, **kwargs):
        outputs = call(inputs, *args, **kwargs)
        counted.append(_macs(layer, inputs, outputs))
        return outputs

    layer.call = counting_call
    try:
        yield
    finally:
        del layer.call


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
