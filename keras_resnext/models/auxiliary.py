"""A functional model that trains with auxiliary classifiers."""

from collections.abc import Sequence
from typing import Any

import keras


@keras.saving.register_keras_serializable("keras_resnext")
class AuxiliaryModel(keras.Model):
    """A functional model whose further outputs only help to train it.

    In `fit` and `train_on_batch` the loss is that of the first output, plus `auxiliary_weight`
    times that of every other one (Szegedy et al., 2014, section 5). Everywhere else there is only
    the first output. `keras.Model(model.input, model.output)` has no auxiliary classifiers.
    """

    def __init__(
        self,
        inputs: Any,
        outputs: Sequence[keras.KerasTensor],
        name: str | None = None,
        *,
        auxiliary_weight: float = 0.3,
        **kwargs,
    ):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.auxiliary_weight = auxiliary_weight
        self._in_train_step = False

    @property
    def output(self) -> keras.KerasTensor:
        """The output of a call; `outputs` lists the auxiliary ones as well."""
        return self.outputs[0]

    @property
    def output_shape(self) -> tuple:
        """The shape of `output`."""
        return self.output.shape

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None, **kwargs) -> Any:
        """Return the first output, in a training step all of them."""
        outputs = super().call(inputs, training=training, mask=mask, **kwargs)
        return outputs if self._in_train_step else outputs[0]

    def compute_output_spec(
        self, inputs: Any, training: bool | None = None, mask: Any = None
    ) -> keras.KerasTensor:
        """Return the shape and dtype of the first output."""
        return super().compute_output_spec(inputs, training=training, mask=mask)[0]

    def train_step(self, *args) -> Any:
        """Train with all outputs."""
        # Not by the `training` argument, which a call also gets as part of another model that
        # expects one output.
        self._in_train_step = True
        try:
            return super().train_step(*args)
        finally:
            self._in_train_step = False

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Return the loss of the first output, in training with the auxiliary losses."""
        output, *auxiliary = y_pred if isinstance(y_pred, list) else [y_pred]
        loss = super().compute_loss(x, y, output, sample_weight, training)
        for prediction in auxiliary:
            # Keras has no public name for the compiled loss without the regularization.
            loss += self.auxiliary_weight * self._compile_loss(y, prediction, sample_weight)
        return loss

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict:
        """Return the metrics of the first output."""
        output = y_pred[0] if isinstance(y_pred, list) else y_pred
        return super().compute_metrics(x, y, output, sample_weight)

    def get_config(self) -> dict:
        """Return the model's configuration."""
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}
