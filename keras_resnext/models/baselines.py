"""The networks of keras.applications by name, for comparisons with ours."""

import inspect

import keras

from keras_resnext.errors import unknown

PREFIX = "keras:"


def is_baseline(model: object) -> bool:
    """Return whether `model` names a network of keras.applications, as in `"keras:VGG19"`."""
    return isinstance(model, str) and model.lower().startswith(PREFIX)


def baseline(model: str, **arguments: object) -> keras.Model:
    """Build a network of keras.applications, passing on the arguments that are not None.

    With random weights, preprocessing layers (EfficientNetV2, ConvNeXt) are left out, so that all
    networks of a comparison take the same images. EfficientNetB0 to B7 always rescale by 1/255.
    """
    functions = {
        name.lower(): value
        for name, value in vars(keras.applications).items()
        if inspect.isfunction(value)
    }
    name = model[len(PREFIX) :]
    if name.lower() not in functions:
        raise ValueError(unknown("network of keras.applications", name, _names(functions)))
    function = functions[name.lower()]
    valid = inspect.signature(function).parameters
    if "include_preprocessing" in valid and arguments.get("weights") is None:
        arguments = {"include_preprocessing": False} | arguments
    # weights=None is a value of its own: random weights.
    given = {k: v for k, v in arguments.items() if v is not None or k in _NONE_IS_A_VALUE}
    for argument in given:
        if argument not in valid:
            raise ValueError(unknown(f"argument of {model}", argument, valid))
    return function(**given)


_NONE_IS_A_VALUE = ("weights", "classifier_activation")


def _names(functions: dict) -> list[str]:
    return sorted(function.__name__ for function in functions.values())
