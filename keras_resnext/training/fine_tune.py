"""Training on from weights that are there: what is taken, and what stays."""

import dataclasses

from keras_resnext.applications import create_model
from keras_resnext.errors import one_of
from keras_resnext.model_files import load_file
from keras_resnext.models import variants
from keras_resnext.models.baselines import is_baseline
from keras_resnext.training.optimizers import STAGES, stage_of
from keras_resnext.weights.files import find_weights, is_ours


def fine_tuned_model(name, weights, classes, **contract):
    """Build a network with pretrained weights and a new classifier.

    Everything but the classifier must fit; that begins with random weights, however many classes
    the weights had.

    Args:
        name: str, a name that `list_models()` gives.
        weights: as in `create_model`; of ours a `.keras` file.
        classes: int, the classes of the new task.
        **contract: further arguments of `create_model`.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: if the weights are not there, or are those of another network.

    Example:

    >>> import keras_resnext, pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = pathlib.Path(folder) / "model.keras"
    ...     keras_resnext.ResNeXt35(classes=10).save(file)
    ...     model = fine_tuned_model("ResNeXt35", file, classes=3)
    >>> model.output_shape
    (None, 3)
    """
    if is_ours(weights):
        source = load_file(weights)
    else:
        found, contract = _found(name, weights, contract)
        source = create_model(name, include_top=False, weights=found, **contract)
    target = create_model(name, classes=classes, **contract)
    taken = {layer.name: layer for layer in source.layers if layer.weights}
    for layer in (layer for layer in target.layers if layer.weights):
        if layer.name == "predictions":
            continue
        values = taken[layer.name].get_weights() if layer.name in taken else []
        if [v.shape for v in values] != [tuple(w.shape) for w in layer.weights]:
            raise ValueError(
                f'The weights in "{weights}" are those of another network than {name}: '
                f'"{layer.name}" does not fit.'
            )
        layer.set_weights(values)
    ours = {layer.name for layer in target.layers}
    for layer in taken:
        if stage_of(layer) is not None and layer not in ours:
            raise ValueError(
                f'The weights in "{weights}" are those of another network than {name}: it has no '
                f'"{layer}".'
            )
    return target


def _found(name, weights, contract):
    """The weights that are meant, and the contract of a network of the form that they have."""
    if is_baseline(name):
        return weights, contract
    row = variants.get(name)
    fields = {field.name for field in dataclasses.fields(row.config)}
    overrides = {key: value for key, value in contract.items() if key in fields}
    found = find_weights(weights, row)
    return found, contract | vars(found.adapt(row.config.replace(**overrides)))


def freeze(model, through):
    """Let the stem and the first stages of a network stay as they are.

    A frozen batch norm keeps its statistics too: it runs as in inference.

    Args:
        model: `keras.Model` of this package, before it is compiled.
        through: int, the last stage that is frozen: 0 freezes the stem alone, 4 all but the
            classifier; None freezes nothing. What an earlier call froze beyond it is trained again.

    Returns:
        `model`.

    Raises:
        ValueError: if there is no such stage.

    Example:

    >>> import keras_resnext
    >>> model = freeze(keras_resnext.ResNeXt35(), 1)
    >>> [model.get_layer(f"stage{s}_block1_conv1").trainable for s in (1, 2)]
    [False, True]
    """
    one_of("through", through, (None, *range(STAGES + 1)))
    for layer in model.layers:
        stage = stage_of(layer.name)
        if through is not None and stage is not None and stage <= through:
            layer.frozen_by_recipe = getattr(layer, "frozen_by_recipe", False) or layer.trainable
            layer.trainable = False
        elif getattr(layer, "frozen_by_recipe", False):
            layer.trainable, layer.frozen_by_recipe = True, False
    return model
