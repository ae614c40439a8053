"""Convolution on JAX."""

import jax


def conv2d(x, kernel, strides, padding, dilation_rate, data_format):
    """Convolve `x` with `kernel`, grouped if the kernel has fewer input channels."""
    layout, channels = ("NHWC", 3) if data_format == "channels_last" else ("NCHW", 1)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation_rate,
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=x.shape[channels] // kernel.shape[2],
    )


def native_groups_are_fast(x):
    """Whether XLA has a fast grouped convolution where `x` is: everywhere but on a CPU."""
    return _platform(x) != "cpu"


def rematerialize(function, *args):
    """`function(*args)`, of which the arguments alone are kept for the backward pass."""
    return jax.checkpoint(function)(*args)


def _platform(x):
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
        return next(iter(x.devices())).platform
    default = jax.config.jax_default_device
    return getattr(default, "platform", default) or jax.default_backend()
