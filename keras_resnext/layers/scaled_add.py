"""The sum that ends a scaled residual block."""

import keras


@keras.saving.register_keras_serializable("keras_resnext")
class ScaledAdd(keras.layers.Layer):
    """Add a scaled residual branch to its shortcut: `x + scale * y`.

    With more than a thousand filters the residual branches of an Inception-ResNet make
    training diverge early unless they are scaled down before they are added.

    Args:
        scale: float, factor of the second input.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape:
        Pair of tensors of the same shape, the shortcut and the branch.

    Output shape:
        Same as the first input.

    Reference:
        [Szegedy et al., 2016, section 3.3](https://arxiv.org/abs/1602.07261)

    Example:
    >>> import numpy as np
    >>> y = ScaledAdd(0.5)([np.ones((1, 2)), np.ones((1, 2))])
    >>> float(y[0, 0])
    1.5
    """

    def __init__(self, scale: float, **kwargs) -> None:
        super().__init__(**kwargs)
        self.scale = float(scale)

    def build(self, input_shape: list) -> None:
        self.built = True

    def call(self, inputs: list) -> keras.KerasTensor:
        x, y = inputs
        return x + y * self.scale

    def compute_output_shape(self, input_shape: list) -> tuple:
        return tuple(input_shape[0])

    def get_config(self) -> dict:
        return {**super().get_config(), "scale": self.scale}
