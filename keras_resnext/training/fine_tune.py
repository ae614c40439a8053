"""Training from pretrained weights: copying them, and freezing stages."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import keras

from keras_resnext.applications import create_model
from keras_resnext.checks import check, integer, optional
from keras_resnext.model_files import load_file
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.training.optimizers import STAGES, stage_of
from keras_resnext.weights.files import find_weights, is_ours


def fine_tuned_model(
    name: str, weights: str | Path, classes: int, **contract: object
) -> keras.Model:
    """Build a network with pretrained weights and a new classifier with random weights.

    `contract` holds further arguments of `create_model`. Raise a `ValueError` unless all weights
    but the classifier's fit.
    """
    if is_ours(weights):
        source = load_file(weights)
    else:
        weights_of, contract = _published(name, weights, contract)
        source = create_model(name, include_top=False, weights=weights_of, **contract)
    target = create_model(name, classes=classes, **contract)
    _copy_weights(
        source, target, f'The weights in "{weights}" are those of another network than {name}'
    )
    return target


def _copy_weights(source: keras.Model, target: keras.Model, complaint: str) -> None:
    """Copy the weights of every layer but the classifier, or raise a `ValueError`."""
    layers = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in (layer for layer in target.layers if layer.weights):
        if layer.name == "predictions":
            continue
        values = layers[layer.name].get_weights() if layer.name in layers else []
        if [v.shape for v in values] != [tuple(w.shape) for w in layer.weights]:
            raise ValueError(f'{complaint}: "{layer.name}" does not fit.')
        layer.set_weights(values)
    names = {layer.name for layer in target.layers}
    for name in layers:
        if stage_of(name) is not None and name not in names:
            raise ValueError(f'{complaint}: it has no "{name}".')


def _published(name: str, weights: str | Path, contract: Mapping) -> tuple[object, Mapping]:
    """Return published weights, and the contract adapted to the form that they have."""
    if is_baseline(name):
        return weights, contract
    row = variants.get(name)
    fields = {field.name for field in dataclasses.fields(row.config)}
    overrides = {key: value for key, value in contract.items() if key in fields}
    source = find_weights(weights, row)
    return source, contract | vars(source.adapt(row.config.replace(**overrides)))


def freeze(model: keras.Model, through: int | None) -> keras.Model:
    """Freeze the stem and the stages up to `through`; 0 freezes the stem alone, None nothing.

    Frozen batch norms run as in inference. Unfreeze later stages that an earlier call froze.
    """
    check("through", through, optional(integer(0, STAGES)))
    for layer in model.layers:
        stage = stage_of(layer.name)
        if through is not None and stage is not None and stage <= through:
            layer.frozen_by_recipe = getattr(layer, "frozen_by_recipe", False) or layer.trainable
            layer.trainable = False
        elif getattr(layer, "frozen_by_recipe", False):
            layer.trainable, layer.frozen_by_recipe = True, False
    return model
