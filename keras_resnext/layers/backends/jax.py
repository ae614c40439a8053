"""Convolution on JAX."""

from collections.abc import Callable

import jax


def conv2d(
    x: jax.Array,
    kernel: jax.Array,
    strides: tuple,
    padding: str | list,
    dilation: tuple,
    data_format: str,
) -> jax.Array:
    """Convolve `x` with `kernel`, grouped if the kernel has fewer input channels."""
    layout, channels = ("NHWC", 3) if data_format == "channels_last" else ("NCHW", 1)
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=strides,
        padding=padding.upper() if isinstance(padding, str) else padding,
        rhs_dilation=dilation,
        dimension_numbers=(layout, "HWIO", layout),
        feature_group_count=x.shape[channels] // kernel.shape[2],
    )


def native_groups_are_fast(x: jax.Array) -> bool:
    """Return whether XLA is fast at groups on the device of `x`: anywhere but on a CPU."""
    return _platform(x) != "cpu"


def rematerialize(function: Callable, *args: list) -> tuple[list, list]:
    """Return `function(*args)`, computed again for the backward pass."""
    return jax.checkpoint(function)(*args)


def _platform(x: jax.Array) -> str:
    if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
        return next(iter(x.devices())).platform
    default = jax.config.jax_default_device
    return getattr(default, "platform", default) or jax.default_backend()
