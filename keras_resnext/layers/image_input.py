"""The input of a network, with its preprocessing and its class names."""

import dataclasses
from collections.abc import Sequence

import keras

IMAGENET = "imagenet"


@dataclasses.dataclass(frozen=True)
class Description:
    """What the file of a network says about its use.

    `preprocessing` are the arguments of a `Preprocessing` layer; `class_names` follow the order of
    the outputs, or are `"imagenet"`.
    """

    preprocessing: dict | None = None
    class_names: tuple[str, ...] | str | None = None


def is_imagenet(class_names: Sequence[str] | str | None) -> bool:
    """Return whether class names are `"imagenet"`; safe for arrays, which compare by element."""
    return isinstance(class_names, str) and class_names == IMAGENET


@keras.saving.register_keras_serializable("keras_resnext")
class ImageInput(keras.layers.InputLayer):
    """`keras.layers.InputLayer` with a description of the network, which is saved with it.

    A file of the network, or a model of its features, begins with the same input layer and so
    keeps the description; `keras.models.clone_model` gives a copy an input of its own, without.
    `keras_resnext.describe` writes it.

    Args:
        shape: tuple, shape of an image.
        preprocessing: dict, arguments of a `Preprocessing` layer; or None.
        class_names: sequence of str, one per output; `"imagenet"`; or None.
        **kwargs: Arguments of `keras.layers.InputLayer`.

    Example:
    >>> layer = ImageInput((32, 32, 3), class_names=("cat", "dog"))
    >>> ImageInput.from_config(layer.get_config()).description.class_names
    ('cat', 'dog')
    """

    def __init__(
        self,
        shape: tuple | None = None,
        *,
        preprocessing: dict | None = None,
        class_names: Sequence[str] | str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(shape, **kwargs)
        if class_names is not None and not is_imagenet(class_names):
            class_names = tuple(map(str, class_names))
        # A dataclass, as Keras would track the layers within a dict.
        self.description = Description(preprocessing, class_names)

    def get_config(self) -> dict:
        preprocessing, names = self.description.preprocessing, self.description.class_names
        own = {
            "preprocessing": preprocessing and dict(preprocessing),
            "class_names": list(names) if isinstance(names, tuple) else names,
        }
        return {**super().get_config(), **own}
