"""Grouped convolution and its gradients in NumPy float64, by the definition."""

import numpy as np


def padding_pairs(padding, size, kernel, stride, dilation):
    reach = (kernel - 1) * dilation
    if padding == "valid":
        return (0, 0)
    if padding == "torch":
        return (reach // 2, reach // 2)
    total = max((-(-size // stride) - 1) * stride + reach + 1 - size, 0)
    return (total // 2, total - total // 2)


def grouped_conv(x, kernel, stride, padding, dilation, groups, dy=None):
    """The output, or with `dy` the gradients of `sum(output * dy)` by `x` and `kernel`.

    x (n, h, w, c), kernel (kh, kw, c / groups, f); everything float64.
    """
    kh, kw, width, filters = kernel.shape
    pairs = [
        padding_pairs(padding, size, k, stride, dilation)
        for size, k in zip(x.shape[1:3], (kh, kw), strict=True)
    ]
    padded = np.pad(x, [(0, 0), *pairs, (0, 0)])
    rows = (padded.shape[1] - (kh - 1) * dilation - 1) // stride + 1
    columns = (padded.shape[2] - (kw - 1) * dilation - 1) // stride + 1
    y = np.zeros((x.shape[0], rows, columns, filters))
    d_padded, d_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation, j * dilation
            window = np.s_[
                :, top : top + rows * stride : stride, left : left + columns * stride : stride
            ]
            for g in range(groups):
                ins = slice(g * width, (g + 1) * width)
                outs = slice(g * filters // groups, (g + 1) * filters // groups)
                patch = padded[(*window, ins)]
                y[..., outs] += patch @ kernel[i, j, :, outs]
                if dy is not None:
                    d_padded[(*window, ins)] += dy[..., outs] @ kernel[i, j, :, outs].T
                    d_kernel[i, j, :, outs] = np.tensordot(
                        patch, dy[..., outs], axes=((0, 1, 2), (0, 1, 2))
                    )
    if dy is None:
        return y
    (top, _), (left, _) = pairs
    dx = d_padded[:, top : top + x.shape[1], left : left + x.shape[2]]
    return dx, d_kernel
