"""What layers need from the framework below Keras, one module per backend.

Each defines `conv2d`, `native_groups_are_fast` and `rematerialize`; TensorFlow's also batch norm.
"""

import importlib
import types

import keras

_BACKENDS = ("tensorflow", "jax", "torch")


def current() -> types.ModuleType:
    """Return the module for `keras.backend.backend()`."""
    name = keras.backend.backend()
    if name not in _BACKENDS:
        raise ImportError(
            f"keras_resnext runs on the Keras backends {', '.join(_BACKENDS)}. "
            f'Received: KERAS_BACKEND="{name}".'
        )
    return importlib.import_module(f"{__name__}.{name}")
