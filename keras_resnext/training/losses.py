"""The losses of recipes. They compute in float32, whatever the network's precision."""

import keras
from keras import ops

from keras_resnext.training.recipe import Recipe

# A class that a mixed image has this much of counts as there, in binary cross entropy.
THERE = 0.2


def find_loss(model: keras.Model, recipe: Recipe) -> keras.losses.Loss:
    """Give the loss that a recipe names, for what the model ends in.

    Args:
        model: Ends in a softmax or in logits.
        recipe: Its label smoothing is in the labels already.

    Returns:
        A loss of one-hot or mixed labels (batch, classes) and outputs (batch, classes).

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
    """Say whether a model gives probabilities; otherwise it gives logits.

    Args:
        model: A classifier.
    """
    last = model.layers[-1]
    softmax = getattr(last, "activation", None) is keras.activations.softmax
    return softmax or isinstance(last, keras.layers.Softmax)


@keras.saving.register_keras_serializable("keras_resnext")
class BinaryCrossentropy(keras.losses.Loss):
    """Each class for itself: it is there, or it is not.

    The mean over images and classes. Labels may be mixed: those above 0.2 count as 1, the others
    as 0.

    Reference:
        [Wightman et al., 2021, section 2.1](https://arxiv.org/abs/2110.00476)

    Example:

    >>> labels, logits = [[0.7, 0.3, 0.0]], [[0.0, 0.0, 0.0]]
    >>> round(float(BinaryCrossentropy()(labels, logits)), 4)  # log 2
    0.6931
    """

    def __init__(self, name="binary_cross_entropy", **kwargs):
        super().__init__(name=name, **kwargs)

    def call(self, labels, logits):
        there = ops.cast(ops.convert_to_tensor(labels) > THERE, "float32")
        return keras.losses.binary_crossentropy(there, logits, from_logits=True)
