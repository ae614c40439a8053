"""Weights from one file to another: timm's to Keras's, and back."""

import pathlib

from keras_resnext.applications import create_model
from keras_resnext.errors import one_of
from keras_resnext.model_files import load_file
from keras_resnext.models import variants
from keras_resnext.weights.files import ApplicationsFile, is_ours, weights_in
from keras_resnext.weights.grammar import split_tag, timm_config
from keras_resnext.weights.load import save_safetensors


def convert(source, target, model, classes=None, **overrides):
    """Write the weights of a file in another format.

    Args:
        source: path: a safetensors or PyTorch file by timm's or torchvision's names, an `.h5` of
            keras.applications, or a `.keras` file of ours.
        target: path: `.keras` or `.weights.h5` for Keras, `.safetensors` for timm, which has no
            network of the form of keras.applications.
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
    if is_ours(source):
        network = _ours(source, model, config, classes)
    else:
        found = weights_in(source)
        if suffix == ".safetensors" and isinstance(found, ApplicationsFile):
            raise ValueError(
                f'"{source}" has the form of keras.applications, which no network of timm has: '
                "give a target that ends in .keras or .weights.h5."
            )
        network = create_model(
            config, weights=found, classes=classes or found.classes, name=split_tag(model)[0]
        )
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


def _ours(source, name, config, classes):
    network = load_file(source)
    expected = create_model(
        config, classes=classes or network.output_shape[-1], input_shape=network.input_shape[1:]
    )
    if _shapes(network) != _shapes(expected):
        raise ValueError(
            f'"{source}" holds another network than {name}: {network.name}. Check the name, '
            "`classes` and the overrides."
        )
    return network


def _shapes(network):
    return [(weight.path, tuple(weight.shape)) for weight in network.weights]
