"""A functional model that trains with auxiliary classifiers."""

import keras


@keras.saving.register_keras_serializable("keras_resnext")
class AuxiliaryModel(keras.Model):
    """A functional model whose further outputs only help to train it.

    In `fit` and `train_on_batch` the loss is that of the first output and `auxiliary_weight`
    times that of every other one with the same labels and sample weights. Everywhere else
    (calls, `predict`, `evaluate`, metrics, `model.output`, another model that this one is
    part of) there is the first output alone. `keras.Model(model.input, model.output)` is the
    trained network without the auxiliary ones.

    Args:
        inputs: as in `keras.Model`.
        outputs: list of symbolic tensors, the output and the auxiliary ones.
        name: str, the model's name.
        auxiliary_weight: float, the weight of each auxiliary loss.
        **kwargs: as in `keras.Model`.

    Reference:
        [Szegedy et al., 2014, section 5](https://arxiv.org/abs/1409.4842)

    Example:

    >>> x = keras.Input((4,))
    >>> hidden = keras.layers.Dense(3)(x)
    >>> model = AuxiliaryModel(x, [keras.layers.Dense(2)(hidden), keras.layers.Dense(2)(hidden)])
    >>> model.output_shape, len(model.outputs)
    ((None, 2), 2)
    """

    def __init__(self, inputs, outputs, name=None, *, auxiliary_weight=0.3, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        self.auxiliary_weight = auxiliary_weight
        self._in_train_step = False

    @property
    def output(self):
        """The symbolic output that a call gives; `outputs` lists the auxiliary ones as well."""
        return self.outputs[0]

    @property
    def output_shape(self):
        return self.output.shape

    def call(self, inputs, training=None, mask=None, **kwargs):
        outputs = super().call(inputs, training=training, mask=mask, **kwargs)
        return outputs if self._in_train_step else outputs[0]

    def compute_output_spec(self, inputs, training=None, mask=None):
        return super().compute_output_spec(inputs, training=training, mask=mask)[0]

    def train_step(self, *args):
        # What a call returns must not depend on its `training` argument, which it also gets
        # as a part of another model: that one would not know what to do with the others.
        self._in_train_step = True
        try:
            return super().train_step(*args)
        finally:
            self._in_train_step = False

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        output, *auxiliary = y_pred if isinstance(y_pred, list) else [y_pred]
        loss = super().compute_loss(x, y, output, sample_weight, training)
        for prediction in auxiliary:
            # Keras has no public name for the compiled loss without the regularization.
            loss += self.auxiliary_weight * self._compile_loss(y, prediction, sample_weight)
        return loss

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        output = y_pred[0] if isinstance(y_pred, list) else y_pred
        return super().compute_metrics(x, y, output, sample_weight)

    def get_config(self):
        return {**super().get_config(), "auxiliary_weight": self.auxiliary_weight}
