"""Convolution and batch normalization by the kernels that TensorFlow is fast at."""

import functools
import math
import os
import warnings

import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.eager import record
from tensorflow.python.ops import control_flow_util

from keras_resnext.processor import is_x86, processor_flags

_LAYOUTS = {"channels_last": "NHWC", "channels_first": "NCHW"}
# oneDNN takes the weight gradient of a group in tiles of as many channels as fit into a register of
# the processor in float32, full or not.
_GRADIENT_TILE = 16 if "avx512f" in processor_flags() else 8


def conv2d(x, kernel, strides, padding, dilation_rate, data_format):
    """Convolve `x` with `kernel`, grouped if the kernel has fewer input channels."""
    if _is_emulated(x):
        dtype = x.dtype
        x, kernel = tf.cast(x, "float32"), tf.cast(kernel, "float32")
        return tf.cast(conv2d(x, kernel, strides, padding, dilation_rate, data_format), dtype)
    layout = _LAYOUTS[data_format]
    if not isinstance(padding, str):
        x, padding = _pad(x, padding, strides, layout)
    options = {
        "strides": _per_axis(strides, 1, layout),
        "padding": padding.upper() if isinstance(padding, str) else padding,
        "data_format": layout,
        "dilations": _per_axis(dilation_rate, 1, layout),
    }
    if on_cpu(x) and not _in_xla():
        if max(dilation_rate) > 1 and not _has_onednn_for(x):
            return _dilated_conv2d(x, kernel, options)
        if _has_own_kernel_gradient(x, kernel, options):
            return _conv2d_with_own_kernel_gradient(x, kernel, options)
    return tf.nn.conv2d(x, kernel, **options)


def native_groups_are_fast(x):
    """Whether the grouped kernel that `x` would meet is fast forwards and backwards."""
    return not on_cpu(x) or (not _in_xla() and _has_onednn_for(x))


def _has_onednn_for(x):
    """Of half precision what is asked is how it is emulated, if it is."""
    return has_onednn("float64" if x.dtype == tf.float64 else "float32")


def _is_emulated(x):
    """Whether a CPU's kernels for the type of `x` are slow, or lack the gradient of groups."""
    if x.dtype == tf.bfloat16:
        return on_cpu(x) and not has_onednn("bfloat16")
    return x.dtype == tf.float16 and on_cpu(x)


def on_cpu(x):
    """Whether an op on `x` that is run or traced now will be placed on the CPU."""
    if tf.executing_eagerly():
        return "CPU" in x.device
    scope = tf.constant(0).device
    if scope:
        return "CPU" in scope
    return not tf.config.list_logical_devices("GPU")


def batch_norm_supports(x, data_format):
    """Whether the fused op takes `x` where it is.

    XLA has its own, which takes the mean of squares less the square of the mean: of large means
    nothing is left of that but rounding.
    """
    return (
        not _in_xla()
        and len(x.shape) == 4
        and x.dtype in (tf.float32, tf.float16, tf.bfloat16)
        and (data_format == "channels_last" or not on_cpu(x) or has_onednn())
    )


def batch_norm_training(x, gamma, beta, epsilon, data_format):
    """Return normalized `x` with the mean and the (biased) variance of the batch, float32."""
    outputs = _fused_batch_norm(x, gamma, beta, [], [], epsilon, data_format, is_training=True)
    mean, variance = outputs.batch_mean, outputs.batch_variance
    # The op answers with Bessel's correction; Keras's moving variance goes without.
    count = tf.cast(tf.size(x) // tf.size(mean), variance.dtype)
    return outputs.y, mean, variance * (tf.maximum(count - 1.0, 1.0) / count)


def batch_norm_inference(x, gamma, beta, mean, variance, epsilon, data_format):
    """Return `x` normalized by the given mean and variance."""
    return _fused_batch_norm(
        x, gamma, beta, mean, variance, epsilon, data_format, is_training=False
    ).y


def replicas():
    """How many devices train in step under the current `tf.distribute` strategy."""
    return tf.distribute.get_strategy().num_replicas_in_sync


def _fused_batch_norm(x, gamma, beta, mean, variance, epsilon, data_format, is_training):
    outputs = tf.raw_ops.FusedBatchNormV3(
        x=tf.cast(x, "float32") if _is_emulated(x) else x,
        scale=gamma,
        offset=beta,
        mean=mean,
        variance=variance,
        epsilon=epsilon,
        data_format=_LAYOUTS[data_format],
        is_training=is_training,
    )
    return outputs._replace(y=tf.cast(outputs.y, x.dtype))


def _per_axis(spatial, other, layout):
    return [spatial["HW".index(axis)] if axis in "HW" else other for axis in layout]


def _pad(x, pairs, strides, layout):
    """Return `x` and the padding with which the convolution kernels do the rest.

    At stride 1 "same" is symmetric. A GPU pads by itself; oneDNN does not take explicit
    padding in the backward pass, so there the strided convolutions get a padded copy.
    """
    if all(stride == 1 for stride in strides):
        return x, "SAME"
    explicit = _per_axis(pairs, (0, 0), layout)
    if on_cpu(x):
        return tf.pad(x, explicit), "VALID"
    return x, explicit


def _dilated_conv2d(x, kernel, options):
    """By subsampled images side by side: without oneDNN the dilated kernel has no gradient."""
    return tf.nn.convolution(
        x,
        kernel,
        strides=1,
        padding=options["padding"],
        data_format=options["data_format"],
        dilations=[options["dilations"][options["data_format"].index(axis)] for axis in "HW"],
    )


def _has_own_kernel_gradient(x, kernel, options):
    return _is_matrix_product(x, kernel, options) or (
        _has_onednn_for(x) and _merge(x, kernel, options) > 1
    )


def _is_matrix_product(x, kernel, options):
    pointwise = kernel.shape[:2] == (1, 1) and math.prod(options["strides"]) == 1
    return pointwise and options["data_format"] == "NHWC" and _groups(x, kernel, options) == 1


def _groups(x, kernel, options):
    return x.shape[options["data_format"].index("C")] // kernel.shape[2]


def _merge(x, kernel, options):
    """How many groups share a tile of the weight gradient."""
    return math.gcd(_groups(x, kernel, options), max(1, _GRADIENT_TILE // kernel.shape[2]))


def _conv2d_with_own_kernel_gradient(x, kernel, options):
    """`tf.nn.conv2d` whose gradient by the kernel takes the way that oneDNN is fast at.

    Not a `tf.custom_gradient`: in a graph that keeps what it was given for ever, here the weights
    of every network that was ever traced. Where a tape lies outside of the function that is
    differentiated, TensorFlow goes by the graph and takes the usual way.
    """
    kernel = tf.convert_to_tensor(kernel)

    def gradient(dy):
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


def _matrix_product_kernel_gradient(x, kernel_shape, dy):
    """A 1x1 convolution is a matrix product; so is its gradient, without reordered copies."""
    x = tf.reshape(x, (-1, kernel_shape[2]))
    dy = tf.reshape(dy, (-1, kernel_shape[3]))
    if kernel_shape[2] <= kernel_shape[3]:  # the operand to be transposed is the smaller
        product = tf.matmul(x, dy, transpose_a=True)
    else:
        product = tf.transpose(tf.matmul(dy, x, transpose_a=True))
    return tf.reshape(product, kernel_shape)


def _merged_kernel_gradient(x, kernel, dy, options):
    """The weight gradient of full tiles, of which the diagonal blocks are the groups'."""
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


def rematerialize(function, weights, state, inputs):
    """`function(weights, state, inputs)`, of which the arguments alone are kept.

    Args:
        function: gives a list of outputs, and the state after it; it has no side effect.
        weights: list of tensors or variables.
        state: list of tensors that have no gradient.
        inputs: list of tensors.
    """
    weights = [tf.convert_to_tensor(weight) for weight in weights]
    sources = [*weights, *inputs]

    def gradient(*gradients):
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


def _not_before(others, tensors):
    """The same tensors, but there only when others are: or else a graph computes at once with
    them what has been computed with them before, and keeps it.
    """
    if _in_xla():
        return xla.optimization_barrier(*tensors, *others)[: len(tensors)]
    with tf.control_dependencies(others):
        return [tf.identity(tensor) for tensor in tensors]


def _in_xla():
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def has_onednn(dtype="float32"):
    """Ask the kernel itself: only oneDNN's grouped convolution has a gradient on a CPU."""
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
            if dtype == "float32":  # others it may lack where it is on
                _tell_of_onednn()
            return False
    return True


def _tell_of_onednn():
    if is_x86() and "TF_ENABLE_ONEDNN_OPTS" not in os.environ:
        warnings.warn(
            "TensorFlow runs without oneDNN, as it does on this processor when it is imported "
            "before keras_resnext: networks train 1.1 to 2.2 times slower. Import keras_resnext "
            "first, or set TF_ENABLE_ONEDNN_OPTS=1 (or 0, to be told no more).",
            stacklevel=2,
        )
