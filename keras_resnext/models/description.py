"""The description of a network: its preprocessing and the names of its classes."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import keras

from keras_resnext.layers.image_input import Description, ImageInput, is_imagenet
from keras_resnext.layers.preprocessing import (
    Preprocessing,
    warn_unlike_normalized,
    warn_unlike_pixels,
)


def describe(
    model: keras.Model,
    preprocessing: Preprocessing | None = None,
    class_names: Sequence[str] | str | None = None,
) -> keras.Model:
    """Write the preprocessing and the class names of a network into it.

    Keras saves them with the model, and `keras_resnext.preprocessing`,
    `keras_resnext.decode_predictions` and `keras-resnext predict` and `export` read them. Training
    runs and published checkpoints do it by themselves.

    Args:
        model: `keras.Model` that `create_model` or another function of this package built, or
            that begins with a `keras_resnext.layers.ImageInput`.
        preprocessing: `keras_resnext.layers.Preprocessing`; None changes nothing.
        class_names: sequence of str in the order of the outputs, or `"imagenet"`; None changes
            nothing.

    Returns:
        `model`.

    Raises:
        ValueError: If the model begins with another input, or has another number of outputs.

    Example:
    >>> import keras_resnext
    >>> model = keras_resnext.ResNeXt35(classes=2)
    >>> model = describe(model, keras_resnext.layers.Preprocessing(32), ["cat", "dog"])
    >>> keras_resnext.preprocessing(model).size
    32
    """
    layers = list(_image_inputs(model))
    if not layers:
        raise ValueError(
            f'The model "{model.name}" has no place for a description: its input is not a '
            "`keras_resnext.layers.ImageInput`. Build it with `create_model`."
        )
    new = {}
    if preprocessing is not None:
        new["preprocessing"] = {name: getattr(preprocessing, name) for name in Preprocessing.FIELDS}
    if class_names is not None:
        new["class_names"] = _names(model, class_names)
    layers[0].description = dataclasses.replace(layers[0].description, **new)
    return model


def can_be_described(model: keras.Model) -> bool:
    """Return whether a model has an input that holds a description."""
    return any(True for _ in _image_inputs(model))


def description(model: keras.Model) -> Description:
    """Return the description of a model, or of the network inside it.

    Unknown fields are None. Class names whose number differs from that of the outputs are left
    out: they belong to a classifier that was removed.
    """
    descriptions = [layer.description for layer in _image_inputs(model)]
    first = Description(
        next((d.preprocessing for d in descriptions if d.preprocessing), None),
        next((d.class_names for d in descriptions if d.class_names), None),
    )
    if first.class_names and _count(first.class_names) != _classes(model):
        return dataclasses.replace(first, class_names=None)
    return first


def warn_of_range(model: keras.Model, images: Any) -> None:
    """Warn if the values of images do not fit the model's preprocessing, if that is known."""
    known = description(model).preprocessing
    if model.inputs[0].dtype == "uint8":
        warn_unlike_pixels(images)
    elif known:
        warn_unlike_normalized(images, known["mean"], known["std"])


def image_inputs_like(model: keras.Model) -> Any:
    """Return new inputs for a copy of a model, with the descriptions of the old ones."""
    made_by = {id(x.output): x for x in model.layers if isinstance(x, keras.layers.InputLayer)}

    def like(tensor: keras.KerasTensor) -> keras.KerasTensor:
        layer = made_by[id(tensor)]
        return type(layer).from_config(layer.get_config()).output

    return keras.tree.map_structure(like, model.input)


def _image_inputs(model: keras.Model) -> Iterator[ImageInput]:
    for layer in model.layers:
        if isinstance(layer, ImageInput):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _image_inputs(layer)


def _names(model: keras.Model, names: Sequence[str] | str) -> tuple[str, ...] | str:
    names = names if is_imagenet(names) else tuple(map(str, names))
    if _count(names) != _classes(model):
        raise ValueError(
            f"`class_names` needs one name per output of {model.name}, which has "
            f"{_classes(model)}. Received: {_count(names)} names"
        )
    return names


def _count(names: Sequence[str] | str) -> int:
    return 1000 if is_imagenet(names) else len(names)


def _classes(model: keras.Model) -> int | None:
    return model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
