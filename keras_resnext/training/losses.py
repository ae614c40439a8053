"""The losses of recipes. They compute in float32, whatever the network's precision."""

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

# In binary cross entropy, a class with a greater share of a mixed image counts as present.
PRESENT = 0.2


def find_loss(model: keras.Model, recipe: Recipe) -> keras.losses.Loss:
    """Return the loss of a recipe, for a model that ends in a softmax or in logits.

    Raise a `ValueError` for binary cross entropy after a softmax, which couples the classes.
    """
    if recipe.loss == "binary_cross_entropy":
        if ends_in_softmax(model):
            raise ValueError(
                f'loss="binary_cross_entropy" is of each class by itself, and "{model.name}" ends '
                "in a softmax. Build it with `classifier_activation=None`."
            )
        return BinaryCrossentropy()
    return keras.losses.CategoricalCrossentropy(from_logits=not ends_in_softmax(model))


def ends_in_softmax(model: keras.Model) -> bool:
    """Return whether a classifier returns probabilities instead of logits."""
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    return softmax or isinstance(last, keras.layers.Softmax)


@keras.saving.register_keras_serializable("keras_resnext")
class BinaryCrossentropy(keras.losses.Loss):
    """The mean binary cross entropy of images and classes, from logits (arXiv 2110.00476).

    Mixed labels above 0.2 count as 1, the others as 0.
    """

    def __init__(self, name: str = "binary_cross_entropy", **kwargs: object) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        """Return the loss of each image."""
        present = ops.cast(ops.convert_to_tensor(labels) > PRESENT, "float32")
        return keras.losses.binary_crossentropy(present, logits, from_logits=True)
