"""Weights from one file to another: timm's to Keras's, and back."""

import pathlib

import keras

from keras_resnext.applications import create_model, from_timm
from keras_resnext.errors import one_of
from keras_resnext.models import variants
from keras_resnext.weights.files import is_ours
from keras_resnext.weights.grammar import timm_config
from keras_resnext.weights.load import save_safetensors


def convert(source, target, model, classes=None, **overrides):
    """Write the weights of a file in another format.

    Args:
        source: path: a safetensors or PyTorch file by timm's or torchvision's names, an `.h5` of
            keras.applications, or a `.keras` file of ours.
        target: path: `.keras` or `.weights.h5` for Keras, `.safetensors` for timm.
        model: str, the network's name in our table or at timm.
        classes: int; defaults to those of the source.
        **overrides: fields of the configuration to change.

    Returns:
        The `keras.Model` that was written.

    Raises:
        ValueError: for an unknown name or suffix, or a source that does not fit; no file is
            written then.
    """
    target = pathlib.Path(target)
    suffix = ".weights.h5" if target.name.endswith(".weights.h5") else target.suffix
    one_of("target", suffix, (".keras", ".weights.h5", ".safetensors"))
    if not target.absolute().parent.is_dir():
        raise ValueError(f'The folder of the target "{target}" does not exist.')
    config = _config(model).replace(**overrides)
    network = _read(source, model, config, classes, overrides)
    if suffix == ".safetensors":
        save_safetensors(network, config, target)
    elif suffix == ".keras":
        network.save(target)
    else:
        network.save_weights(target, overwrite=True)
    return network


def _config(name):
    """By our table, else by timm's grammar."""
    try:
        return variants.get(name).config
    except ValueError as unknown:
        try:
            return timm_config(name)
        except ValueError:
            raise unknown from None


def _read(source, name, config, classes, overrides):
    if is_ours(source):
        network = keras.saving.load_model(source)
        expected = create_model(config, classes=classes or network.output_shape[-1])
        if [w.path for w in network.weights] != [w.path for w in expected.weights]:
            raise ValueError(f'"{source}" holds another network than {name}: {network.name}.')
        return network
    try:
        timm_config(name)
    except ValueError:
        return create_model(name, weights=source, classes=classes, **overrides)
    return from_timm(name, source, classes=classes, **overrides)
