"""Conversion of weights between files: timm's to Keras's, and back."""

import pathlib

import keras

from keras_resnext.applications import create_model
from keras_resnext.checks import check, choice
from keras_resnext.model_files import load_file
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.inception_config import InceptionConfig
from keras_resnext.weights.files import ApplicationsFile, is_ours, weights_in
from keras_resnext.weights.grammar import split_tag, timm_config
from keras_resnext.weights.load import save_safetensors


def convert(
    source: str | pathlib.Path,
    target: str | pathlib.Path,
    model: str,
    classes: int | None = None,
    **overrides,
) -> keras.Model:
    """Write the weights of a file in another format, and return the network.

    The suffix of `target` decides: `.keras` or `.weights.h5` for Keras, `.safetensors` for timm,
    which has no network in the form of keras.applications. Nothing is written if `source` does not
    fit the network `model`.
    """
    target = pathlib.Path(target)
    suffix = ".weights.h5" if target.name.endswith(".weights.h5") else target.suffix
    check("target", suffix, choice((".keras", ".weights.h5", ".safetensors")))
    if not target.absolute().parent.is_dir():
        raise ValueError(f'The folder of the target "{target}" does not exist.')
    config = _config(model).replace(**overrides)
    if is_ours(source):
        network = _ours(source, model, config, classes)
    else:
        weights = weights_in(source)
        if suffix == ".safetensors" and isinstance(weights, ApplicationsFile):
            raise ValueError(
                f'"{source}" has the form of keras.applications, which no network of timm has: '
                "give a target that ends in .keras or .weights.h5."
            )
        network = create_model(
            config, weights=weights, classes=classes or weights.classes, name=split_tag(model)[0]
        )
    if suffix == ".safetensors":
        save_safetensors(network, config, target)
    elif suffix == ".keras":
        network.save(target)
    else:
        network.save_weights(target, overwrite=True)
    return network


def _config(name: str) -> ResNetConfig | InceptionConfig:
    """Return the configuration by our table, or by timm's grammar."""
    try:
        return variants.get(name).config
    except ValueError as unknown:
        try:
            return timm_config(name)
        except ValueError:
            raise unknown from None


def _ours(
    source: str | pathlib.Path,
    name: str,
    config: ResNetConfig | InceptionConfig,
    classes: int | None,
) -> keras.Model:
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


def _shapes(network: keras.Model) -> list:
    return [(weight.path, tuple(weight.shape)) for weight in network.weights]
