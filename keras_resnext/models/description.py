"""What a network says of its use: the images it wants and the names of its classes."""

import dataclasses

import keras

from keras_resnext.layers.image_input import Description, ImageInput, is_imagenet
from keras_resnext.layers.preprocessing import (
    Preprocessing,
    warn_unlike_normalized,
    warn_unlike_pixels,
)


def describe(model, preprocessing=None, class_names=None):
    """Write into a network what images it wants and what its classes are called.

    It is saved with the model, by Keras itself, and read by `keras_resnext.preprocessing`,
    `keras_resnext.decode_predictions` and `keras-resnext predict` and `export`. Training runs and
    published checkpoints do it by themselves.

    Args:
        model: `keras.Model` that `create_model` or another function of this package built, or
            that begins with a `keras_resnext.layers.ImageInput`.
        preprocessing: a `keras_resnext.layers.Preprocessing` layer; None leaves what is there.
        class_names: sequence of str in the order of the outputs, or `"imagenet"`; None leaves
            what is there.

    Returns:
        `model`.

    Raises:
        ValueError: for a model that begins with another input, or a number of names that is not
            that of the outputs.

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


def can_be_described(model):
    """Whether a model has an input that keeps a description."""
    return any(True for _ in _image_inputs(model))


def description(model):
    """Return the description of a model, or of the network that it was built around.

    Args:
        model: `keras.Model`.

    Returns:
        `Description`, of which the fields that nothing is known of are None. Names that are
        more or fewer than the outputs are those of a classifier that was taken off.
    """
    found = [layer.description for layer in _image_inputs(model)]
    first = Description(
        next((d.preprocessing for d in found if d.preprocessing), None),
        next((d.class_names for d in found if d.class_names), None),
    )
    if first.class_names and _count(first.class_names) != _classes(model):
        return dataclasses.replace(first, class_names=None)
    return first


def warn_of_range(model, images):
    """Warn of images whose values cannot be what a model wants, as far as it is known.

    Args:
        model: `keras.Model`.
        images: array or tensor, as they are given to it.
    """
    known = description(model).preprocessing
    if model.inputs[0].dtype == "uint8":
        warn_unlike_pixels(images)
    elif known:
        warn_unlike_normalized(images, known["mean"], known["std"])


def image_inputs_like(model):
    """New inputs for a copy of a model, with the descriptions of its own."""
    made_by = {id(x.output): x for x in model.layers if isinstance(x, keras.layers.InputLayer)}

    def like(tensor):
        layer = made_by[id(tensor)]
        return type(layer).from_config(layer.get_config()).output

    return keras.tree.map_structure(like, model.input)


def _image_inputs(model):
    for layer in model.layers:
        if isinstance(layer, ImageInput):
            yield layer
        elif isinstance(layer, keras.Model):
            yield from _image_inputs(layer)


def _names(model, names):
    names = names if is_imagenet(names) else tuple(map(str, names))
    if _count(names) != _classes(model):
        raise ValueError(
            f"`class_names` needs one name an output of {model.name}, which are {_classes(model)}. "
            f"Received: {_count(names)} names"
        )
    return names


def _count(names):
    return 1000 if is_imagenet(names) else len(names)


def _classes(model):
    return model.output_shape[-1] if isinstance(model.output_shape, tuple) else None
