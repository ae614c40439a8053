"""The losses of recipes. They compute in float32, whatever the network's precision."""

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

# In binary cross entropy a class that a mixed image has more than this of counts as present.
PRESENT = 0.2


def find_loss(model: keras.Model, recipe: Recipe) -> keras.losses.Loss:
    """Return the loss of a recipe, for what the model ends in.

    Args:
        model: A `keras.Model` that ends in a softmax or in logits.
        recipe: Recipe, whose label smoothing is in the labels already.

    Returns:
        A `keras.losses.Loss` of one-hot or mixed labels and outputs, both (batch, classes).

    Raises:
        ValueError: For binary cross entropy of a model that ends in a softmax, which makes the
            classes depend on each other.
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
    """Return whether a classifier returns probabilities; otherwise it returns logits."""
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    return softmax or isinstance(last, keras.layers.Softmax)


@keras.saving.register_keras_serializable("keras_resnext")
class BinaryCrossentropy(keras.losses.Loss):
    """Compute the cross entropy of each class by itself: it is present, or it is not.

    The mean over images and classes. Labels may be mixed: those above 0.2 count as 1, the others
    as 0.

    Args:
        name: str, name of the loss.
        **kwargs: Arguments of `keras.losses.Loss`.

    Reference:
        [Wightman et al., 2021, section 2.1](https://arxiv.org/abs/2110.00476)

    Example:
    >>> labels, logits = [[0.7, 0.3, 0.0]], [[0.0, 0.0, 0.0]]
    >>> round(float(BinaryCrossentropy()(labels, logits)), 4)  # log 2
    0.6931
    """

    def __init__(self, name: str = "binary_cross_entropy", **kwargs: object) -> None:
        super().__init__(name=name, **kwargs)

    def call(self, labels: keras.KerasTensor, logits: keras.KerasTensor) -> keras.KerasTensor:
        present = ops.cast(ops.convert_to_tensor(labels) > PRESENT, "float32")
        return keras.losses.binary_crossentropy(present, logits, from_logits=True)
