"""Grouped convolution, the split-transform-merge of ResNeXt, as fast as the machine allows."""

import math
from collections.abc import Callable

import keras
from keras import KerasTensor, ops

from keras_resnext.checks import check, choice
from keras_resnext.layers import backends

FORMULATIONS = ("auto", "native", "split", "merged", "dense")
# Least width of merged groups, in channels. Measured on CPUs: narrower ones leave the vector
# units idle, wider ones multiply more zeros than they save.
MERGED_WIDTH = 16


@keras.saving.register_keras_serializable("keras_resnext")
class GroupedConv2D(keras.layers.Conv2D):
    """2D convolution whose grouped form trains fast on every backend and device.

    Arguments, weights and saved weights are those of `keras.layers.Conv2D(groups=...)`, which
    TensorFlow sends through XLA, hundreds of times slower on a CPU than needed. Here the
    formulation is chosen when the layer is traced: the native grouped kernel if it is fast
    forward and backward (TensorFlow with oneDNN outside XLA, any GPU, PyTorch), otherwise form
    (b) of the ResNeXt paper's figure 3: convolutions side by side, their outputs concatenated.

    Args:
        filters: int, number of output channels, divisible by `groups`.
        kernel_size: int or pair of ints, height and width of the kernel.
        strides: int or pair of ints, as in `keras.layers.Conv2D`.
        padding: `"valid"` or `"same"` as in Keras, or `"torch"`: the same number of zeros on
            both sides, `dilation * (kernel - 1) / 2`, as in PyTorch's networks. At stride 1
            that is `"same"`; at stride 2 it is not.
        data_format: `"channels_last"`, `"channels_first"` or None for Keras's data format.
        dilation_rate: int or pair of ints, as in `keras.layers.Conv2D`.
        groups: int, number of groups; it divides the filters and the input's channels.
        activation: Activation function, its name or None.
        use_bias: bool, whether a bias is added.
        formulation: `"auto"`, `"native"`, `"split"`, `"merged"` or `"dense"`, how groups are
            computed; the numbers are the same up to rounding. `"auto"` chooses. `"native"` is
            the grouped kernel of the backend. `"split"` is one convolution per group.
            `"merged"` joins neighboring groups through a block-diagonal kernel until each has
            at least 16 channels, then splits. `"dense"` joins them all.
        **kwargs: Arguments of `keras.layers.Conv2D`.

    Input shape:
        `(batch, height, width, channels)`, or `(batch, channels, height, width)` with
        `data_format="channels_first"`, where the backend supports it.

    Output shape:
        `(batch, new_height, new_width, filters)`, or with the channels first.

    Raises:
        ValueError: If `groups` does not divide the filters or the channels of the input, or
            if `"torch"` padding cannot be symmetric.

    Reference:
        [Xie et al., 2017, section 3.3](https://arxiv.org/abs/1611.05431)

    Example:
    >>> import numpy as np
    >>> layer = GroupedConv2D(64, 3, strides=2, padding="torch", groups=32)
    >>> tuple(layer(np.ones((1, 14, 14, 64), "float32")).shape)
    (1, 7, 7, 64)
    """

    def __init__(
        self,
        filters: int,
        kernel_size: int | tuple[int, int],
        strides: int | tuple[int, int] = (1, 1),
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | tuple[int, int] = (1, 1),
        groups: int = 1,
        activation: Callable | str | None = None,
        use_bias: bool = True,
        *,
        formulation: str = "auto",
        **kwargs,
    ) -> None:
        padding = padding.lower() if isinstance(padding, str) else padding
        check("padding", padding, choice(("valid", "same", "torch")))
        check("formulation", formulation, choice(FORMULATIONS))
        super().__init__(
            filters,
            kernel_size,
            strides=strides,
            padding="valid" if padding == "torch" else padding,
            data_format=data_format,
            dilation_rate=dilation_rate,
            groups=groups,
            activation=activation,
            use_bias=use_bias,
            **kwargs,
        )
        self.padding = padding
        self.formulation = formulation
        if padding == "torch":
            self._check_symmetric()

    def convolution_op(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        if not keras.backend.is_float_dtype(inputs.dtype):  # or the kernel would become integers
            inputs = ops.cast(inputs, self.compute_dtype)
        kernel = ops.cast(ops.convert_to_tensor(kernel), inputs.dtype)
        formulation = self._formulation_for(inputs)
        if formulation == "native":
            return self._convolve(inputs, kernel)
        channels = 3 if self.data_format == "channels_last" else 1
        joined = self._groups_joined(formulation, inputs.shape[channels])
        kernel = _block_diagonal(kernel, self.groups, joined)
        parts = self.groups // joined
        outputs = [
            self._convolve(*part)
            for part in zip(
                ops.split(inputs, parts, axis=channels),
                ops.split(kernel, parts, axis=3),
                strict=True,
            )
        ]
        return ops.concatenate(outputs, axis=channels)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.padding != "torch":
            return super().compute_output_shape(input_shape)
        first = 1 if self.data_format == "channels_last" else 2
        shape = [input_shape[0], None, None, None]
        shape[3 if self.data_format == "channels_last" else 1] = self.filters
        for axis, stride in enumerate(self.strides, start=first):
            size = input_shape[axis]
            shape[axis] = None if size is None else -(-size // stride)
        return tuple(shape)

    def get_config(self) -> dict:
        return {**super().get_config(), "formulation": self.formulation}

    def _check_symmetric(self) -> None:
        for size, rate in zip(self.kernel_size, self.dilation_rate, strict=True):
            if (size - 1) * rate % 2:
                raise ValueError(
                    "Invalid value for `kernel_size`. Expected odd sizes with the symmetric "
                    f'padding="torch". Received: kernel_size={self.kernel_size}'
                )

    def _formulation_for(self, inputs: KerasTensor) -> str:
        if self.groups == 1:
            return "native"
        if self.formulation == "auto":
            return "native" if backends.current().native_groups_are_fast(inputs) else "merged"
        return self.formulation

    def _groups_joined(self, formulation: str, channels: int) -> int:
        if formulation == "merged":
            width = min(channels, self.filters) // self.groups
            wanted = math.ceil(MERGED_WIDTH / width)
            return next(n for n in range(1, self.groups + 1) if self._divides(n, wanted))
        return {"split": 1, "dense": self.groups}[formulation]

    def _divides(self, joined: int, wanted: int) -> bool:
        return self.groups % joined == 0 and (joined >= wanted or joined == self.groups)

    def _convolve(self, inputs: KerasTensor, kernel: KerasTensor) -> KerasTensor:
        padding = self.padding
        if padding == "torch":
            reach = zip(self.kernel_size, self.dilation_rate, strict=True)
            padding = [((size - 1) * rate // 2,) * 2 for size, rate in reach]
        return backends.current().conv2d(
            inputs, kernel, self.strides, padding, self.dilation_rate, self.data_format
        )


# Keras addresses a layer in a weights file by its class name: with the name of Keras's own layer,
# each loads the files of the other.
GroupedConv2D.__name__ = "Conv2D"


def _block_diagonal(kernel: KerasTensor, groups: int, joined: int) -> KerasTensor:
    """Join every `joined` neighboring groups of a kernel into one, with zeros between them.

    The result has the shape `(height, width, joined * inputs, outputs)`.
    """
    if joined == 1:
        return kernel
    height, width, inputs, outputs = kernel.shape
    kernel = ops.reshape(
        kernel, (height, width, inputs, groups // joined, joined, outputs // groups)
    )
    # The gradient of padding is a slice; that of a mask is a sum over seven axes, which crashes XLA
    # (JAX 0.10, on a CPU with AVX2).
    none = (0, 0)
    rows = [
        ops.pad(kernel[..., row : row + 1, :], [none] * 4 + [(row, joined - row - 1), none])
        for row in range(joined)
    ]
    return ops.reshape(ops.concatenate(rows, axis=2), (height, width, joined * inputs, outputs))
