"""Convolution and batch normalization by the fastest kernels of TensorFlow."""

import functools
import math
import os
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
from tensorflow import Tensor
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

from keras_resnext.processor import is_x86, processor_flags

_LAYOUTS = {"channels_last": "NHWC", "channels_first": "NCHW"}
# oneDNN computes the weight gradient of a group in tiles, full or not, of as many channels as fit
# into a register of the processor in float32.
_GRADIENT_TILE = 16 if "avx512f" in processor_flags() else 8


def conv2d(
    x: Tensor,
    kernel: Tensor,
    strides: tuple,
    padding: str | list,
    dilation: tuple,
    data_format: str,
) -> Tensor:
    """Convolve `x` with `kernel`, grouped if the kernel has fewer input channels."""
    if _is_emulated(x):
        dtype = x.dtype
        x, kernel = tf.cast(x, "float32"), tf.cast(kernel, "float32")
        return tf.cast(conv2d(x, kernel, strides, padding, dilation, data_format), dtype)
    layout = _LAYOUTS[data_format]
    if not isinstance(padding, str):
        x, padding = _pad(x, padding, strides, layout)
    options = {
        "strides": _per_axis(strides, 1, layout),
        "padding": padding.upper() if isinstance(padding, str) else padding,
        "data_format": layout,
        "dilations": _per_axis(dilation, 1, layout),
    }
    if on_cpu(x) and not _in_xla():
        if max(dilation) > 1 and not _has_onednn_for(x):
            return _dilated_conv2d(x, kernel, options)
        if _has_own_kernel_gradient(x, kernel, options):
            return _conv2d_with_own_kernel_gradient(x, kernel, options)
    return tf.nn.conv2d(x, kernel, **options)


def native_groups_are_fast(x: Tensor) -> bool:
    """Return whether the grouped kernel for `x` is fast forward and backward."""
    return not on_cpu(x) or (not _in_xla() and _has_onednn_for(x))


def _has_onednn_for(x: Tensor) -> bool:
    """Return whether oneDNN can compute `x`; half precision is emulated in float32, if at all."""
    return has_onednn("float64" if x.dtype == tf.float64 else "float32")


def _is_emulated(x: Tensor) -> bool:
    """Return whether a CPU is slow at the type of `x`, or has no gradient of groups for it."""
    if x.dtype == tf.bfloat16:
        return on_cpu(x) and not has_onednn("bfloat16")
    return x.dtype == tf.float16 and on_cpu(x)


def on_cpu(x: Tensor) -> bool:
    """Return whether an op on `x` that is run or traced now will be placed on the CPU."""
    if tf.executing_eagerly():
        return "CPU" in x.device
    scope = tf.constant(0).device
    if scope:
        return "CPU" in scope
    return not tf.config.list_logical_devices("GPU")


def batch_norm_supports(x: Tensor, data_format: str) -> bool:
    """Return whether the fused op supports `x` on its device.

    XLA has an op of its own, whose variance, the mean of squares minus the square of the mean, is
    nothing but rounding if the mean is large.
    """
    return (
        not _in_xla()
        and len(x.shape) == 4
        and x.dtype in (tf.float32, tf.float16, tf.bfloat16)
        and (data_format == "channels_last" or not on_cpu(x) or has_onednn())
    )


def batch_norm_training(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float, data_format: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Return normalized `x` with the mean and the (biased) variance of the batch, float32."""
    options = {"scale": gamma, "offset": beta, "mean": [], "variance": []}
    outputs = _fused_batch_norm(x, data_format, epsilon=epsilon, is_training=True, **options)
    mean, variance = outputs.batch_mean, outputs.batch_variance
    # The op applies Bessel's correction, Keras does not.
    count = tf.cast(tf.size(x) // tf.size(mean), variance.dtype)
    return outputs.y, mean, variance * (tf.maximum(count - 1.0, 1.0) / count)


def batch_norm_inference(
    x: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
    epsilon: float,
    data_format: str,
) -> Tensor:
    """Return `x` normalized by the given mean and variance."""
    options = {"scale": gamma, "offset": beta, "mean": mean, "variance": variance}
    return _fused_batch_norm(x, data_format, epsilon=epsilon, is_training=False, **options).y


def replicas() -> int:
    """Return how many devices train in step under the current `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _fused_batch_norm(x: Tensor, data_format: str, **options) -> Any:
    outputs = tf.raw_ops.FusedBatchNormV3(
        x=tf.cast(x, "float32") if _is_emulated(x) else x,
        data_format=_LAYOUTS[data_format],
        **options,
    )
    return outputs._replace(y=tf.cast(outputs.y, x.dtype))


def _per_axis(spatial: Sequence, other: Any, layout: str) -> list:
    return [spatial["HW".index(axis)] if axis in "HW" else other for axis in layout]


def _pad(x: Tensor, pairs: list, strides: tuple, layout: str) -> tuple[Tensor, str | list]:
    """Return `x` and the padding that is left to the convolution.

    At stride 1 "same" is symmetric. A GPU pads by itself; oneDNN takes no explicit padding in
    the backward pass, so strided convolutions get a padded copy.
    """
    if all(stride == 1 for stride in strides):
        return x, "SAME"
    explicit = _per_axis(pairs, (0, 0), layout)
    if on_cpu(x):
        return tf.pad(x, explicit), "VALID"
    return x, explicit


def _dilated_conv2d(x: Tensor, kernel: Tensor, options: dict) -> Tensor:
    """Convolve subsampled images: without oneDNN the dilated kernel has no gradient."""
    return tf.nn.convolution(
        x,
        kernel,
        strides=1,
        padding=options["padding"],
        data_format=options["data_format"],
        dilations=[options["dilations"][options["data_format"].index(axis)] for axis in "HW"],
    )


def _has_own_kernel_gradient(x: Tensor, kernel: Tensor, options: dict) -> bool:
    return _is_matrix_product(x, kernel, options) or (
        _has_onednn_for(x) and _merge(x, kernel, options) > 1
    )


def _is_matrix_product(x: Tensor, kernel: Tensor, options: dict) -> bool:
    pointwise = kernel.shape[:2] == (1, 1) and math.prod(options["strides"]) == 1
    return pointwise and options["data_format"] == "NHWC" and _groups(x, kernel, options) == 1


def _groups(x: Tensor, kernel: Tensor, options: dict) -> int:
    return x.shape[options["data_format"].index("C")] // kernel.shape[2]


def _merge(x: Tensor, kernel: Tensor, options: dict) -> int:
    """Return how many groups share a tile of the weight gradient."""
    return math.gcd(_groups(x, kernel, options), max(1, _GRADIENT_TILE // kernel.shape[2]))


def _conv2d_with_own_kernel_gradient(x: Tensor, kernel: Tensor, options: dict) -> Tensor:
    """Return `tf.nn.conv2d` with the gradient by the kernel that oneDNN is fast at.

    Not a `tf.custom_gradient`, which in a graph keeps its arguments forever: the weights of every
    network that was ever traced. If the tape is outside of the differentiated function,
    TensorFlow follows the graph, to the usual gradient.
    """
    kernel = tf.convert_to_tensor(kernel)

    def gradient(dy: Tensor) -> tuple[Tensor, Tensor]:
        dx = tf.raw_ops.Conv2DBackpropInput(
            input_sizes=tf.shape(x), filter=kernel, out_backprop=dy, **options
        )
        if _is_matrix_product(x, kernel, options):
            return dx, _matrix_product_kernel_gradient(x, kernel.shape, dy)
        return dx, _merged_kernel_gradient(x, kernel, dy, options)

    with record.stop_recording():
        y = tf.nn.conv2d(x, kernel, **options)
    record.record_operation("conv2d", [y], [x, kernel], gradient)
    return y


def _matrix_product_kernel_gradient(x: Tensor, kernel_shape: Sequence[int], dy: Tensor) -> Tensor:
    """Return the gradient of a 1x1 convolution as a matrix product, without reordered copies."""
    x = tf.reshape(x, (-1, kernel_shape[2]))
    dy = tf.reshape(dy, (-1, kernel_shape[3]))
    if kernel_shape[2] <= kernel_shape[3]:  # the smaller operand is transposed
        product = tf.matmul(x, dy, transpose_a=True)
    else:
        product = tf.transpose(tf.matmul(dy, x, transpose_a=True))
    return tf.reshape(product, kernel_shape)


def _merged_kernel_gradient(x: Tensor, kernel: Tensor, dy: Tensor, options: dict) -> Tensor:
    """Return the weight gradient from full tiles, whose diagonal blocks are the groups'."""
    height, width, inputs, outputs = kernel.shape
    merge, groups = _merge(x, kernel, options), _groups(x, kernel, options)
    tiles = tf.raw_ops.Conv2DBackpropFilter(
        input=x,
        filter_sizes=(height, width, inputs * merge, outputs),
        out_backprop=dy,
        **options,
    )
    tiles = tf.reshape(
        tiles, (height, width, merge, inputs, groups // merge, merge, outputs // groups)
    )
    blocks = tf.stack([tiles[:, :, i, :, :, i] for i in range(merge)], axis=4)
    return tf.reshape(blocks, kernel.shape)


def rematerialize(function: Callable, weights: list, state: list, inputs: list) -> tuple:
    """Return `function(weights, state, inputs)`, computed again for the backward pass.

    The function has no side effects and returns a list of outputs and the new state, which has no
    gradient.
    """
    weights = [tf.convert_to_tensor(weight) for weight in weights]
    sources = [*weights, *inputs]

    def gradient(*gradients: Tensor) -> list:
        again = _not_before(gradients, [*state, *sources])
        before, sources_again = again[: len(state)], again[len(state) :]
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(sources_again)
            outputs, _ = function(
                sources_again[: len(weights)], before, sources_again[len(weights) :]
            )
        return tape.gradient(outputs, sources_again, gradients, unconnected_gradients="zero")

    with record.stop_recording():
        outputs, after = function(weights, state, inputs)
    record.record_operation("rematerialize", outputs, sources, gradient)
    return outputs, after


def _not_before(others: Sequence[Tensor], tensors: list) -> list:
    """Return the same tensors, available only once `others` are.

    Otherwise a graph would share the results of the first computation with the second.
    """
    if _in_xla():
        return xla.optimization_barrier(*tensors, *others)[: len(tensors)]
    with tf.control_dependencies(others):
        return [tf.identity(tensor) for tensor in tensors]


def _in_xla() -> bool:
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def has_onednn(dtype: str = "float32") -> bool:
    """Return whether oneDNN computes: only its grouped convolution has a gradient on a CPU."""
    with tf.init_scope(), tf.device("CPU"):
        ones = tf.ones((1, 1, 1, 2), dtype)
        try:
            tf.raw_ops.Conv2DBackpropFilter(
                input=ones,
                filter_sizes=ones.shape,
                out_backprop=ones,
                strides=[1, 1, 1, 1],
                padding="VALID",
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            if dtype == "float32":  # oneDNN may be on, and lack another type
                _warn_of_missing_onednn()
            return False
    return True


def _warn_of_missing_onednn() -> None:
    if is_x86() and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
        warnings.warn(
            "TensorFlow runs without oneDNN, as it does on this processor when it is imported "
            "before keras_resnext: networks train 1.1 to 2.2 times slower. Import keras_resnext "
            "first, or set TF_ENABLE_ONEDNN_OPTS=1 (or 0, to silence this).",
            stacklevel=2,
        )
