"""A part of a network that is computed again for its gradient."""

import keras
from keras import ops

from keras_resnext.layers import backends


class Rematerialized(keras.layers.Layer):
    """A model with lists of inputs and outputs that stores only its inputs in training.

    It is computed again for the gradient, with the same weights, batch statistics and random
    numbers (Chen et al., 2016).
    """

    def __init__(self, part: keras.Model, **kwargs) -> None:
        super().__init__(autocast=False, **kwargs)
        self.part = part

    def call(self, inputs: list, training: bool = False) -> list:
        if not training:
            return keras.tree.flatten(self.part(inputs, training=False))
        variables = self.part.non_trainable_variables
        weights = [ops.convert_to_tensor(v) for v in self.part.trainable_variables]
        # Copies: PyTorch changes variables in place, and both times begin with the same values.
        before = [ops.copy(v) for v in variables]
        outputs, after = backends.current().rematerialize(self._run, weights, before, inputs)
        for variable, value in zip(variables, after, strict=True):
            variable.assign(value)
        return outputs

    def _run(self, weights: list, state: list, inputs: list) -> tuple[list, list]:
        """Call the part without side effects, or the batch's statistics would count twice."""
        outputs, after = self.part.stateless_call(weights, state, inputs, training=True)
        return keras.tree.flatten(outputs), after

    def compute_output_spec(self, inputs: list, training: bool = False) -> list:
        return self.part.compute_output_spec(inputs)
