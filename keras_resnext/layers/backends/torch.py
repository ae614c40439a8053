"""Convolution on PyTorch."""

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint


def conv2d(
    x: torch.Tensor,
    kernel: torch.Tensor,
    strides: tuple,
    padding: str | list,
    dilation: tuple,
    data_format: str,
) -> torch.Tensor:
    """Convolve `x` with `kernel`, grouped if the kernel has fewer input channels."""
    if data_format == "channels_last":
        x = x.permute(0, 3, 1, 2)  # a view: PyTorch calls this layout channels_last
    pairs = _pairs(padding, x.shape[2:], kernel.shape, strides, dilation)
    if any(before != after for before, after in pairs):
        (top, bottom), (left, right) = pairs
        x = functional.pad(x, (left, right, top, bottom))
        pairs = ((0, 0), (0, 0))
    y = functional.conv2d(
        x,
        kernel.permute(3, 2, 0, 1),
        stride=tuple(strides),
        padding=tuple(before for before, _ in pairs),
        dilation=tuple(dilation),
        groups=x.shape[1] // kernel.shape[2],
    )
    return y.permute(0, 2, 3, 1) if data_format == "channels_last" else y


def native_groups_are_fast(x: torch.Tensor) -> bool:
    """Return True: PyTorch is fast at groups, forward and backward, on every device."""
    return True


def rematerialize(function: Callable, *args: list) -> tuple[list, list]:
    """Return `function(*args)`, computed again for the backward pass."""
    return checkpoint(function, *args, use_reentrant=False)


def _pairs(
    padding: str | list, sizes: tuple, kernel_shape: tuple, strides: tuple, dilation: tuple
) -> Sequence:
    """Turn a named padding into ((top, bottom), (left, right)) for the size of the image."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        return padding
    totals = (
        max((-(-size // stride) - 1) * stride + (width - 1) * rate + 1 - size, 0)
        for size, width, stride, rate in zip(
            sizes, kernel_shape[:2], strides, dilation, strict=True
        )
    )
    return tuple((total // 2, total - total // 2) for total in totals)
