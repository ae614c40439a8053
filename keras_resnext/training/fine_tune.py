"""Training on from weights that are there: what is taken, what stays, and what learns slowly."""

import re

import keras

from keras_resnext.applications import create_model
from keras_resnext.errors import one_of
from keras_resnext.weights.files import is_ours

STAGES = 4


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
        source = keras.saving.load_model(weights)
    else:
        source = create_model(name, include_top=False, weights=weights, **contract)
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
    return target


def freeze(model, through):
    """Let the stem and the first stages of a network stay as they are.

    A frozen batch norm keeps its statistics too: it runs as in inference.

    Args:
        model: `keras.Model` of this package, before it is compiled.
        through: int, the last stage that is frozen: 0 freezes the stem alone, 4 all but the
            classifier; None freezes nothing.

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
            layer.trainable = False
    return model


def stage_of(name):
    """The stage that a layer's or a weight's name begins with: 0 for the stem, None for the top.

    Example:

    >>> stage_of("stage2_block1_conv2/kernel"), stage_of("stem_conv"), stage_of("predictions")
    (2, 0, None)
    """
    if name.startswith("stem"):
        return 0
    match = re.match(r"stage(\d+)_", name)
    if match:
        return int(match[1])
    return STAGES if name.startswith("features") else None


@keras.saving.register_keras_serializable("keras_resnext")
class StagewiseSGD(keras.optimizers.SGD):
    """SGD whose learning rate falls from the classifier down to the stem.

    The classifier learns at the given rate, each stage below it at `stage_decay` times the rate
    of the one above (Howard and Ruder, 2018, call it discriminative fine-tuning).

    Args:
        learning_rate, **kwargs: as in `keras.optimizers.SGD`.
        stage_decay: float, 0 < stage_decay <= 1.

    Raises:
        ValueError: if `stage_decay` is out of its range, or on the PyTorch backend, where Keras
            updates all weights at once.

    Reference:
        [Howard and Ruder, 2018, section 3.2](https://arxiv.org/abs/1801.06146)

    Example:

    >>> optimizer = StagewiseSGD(0.1, stage_decay=0.5)
    >>> [optimizer.factor(name) for name in ("predictions/kernel", "stage4_block1_conv1/kernel")]
    [1.0, 0.5]
    """

    def __init__(self, learning_rate=0.01, stage_decay=1.0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        number = isinstance(stage_decay, (int, float)) and not isinstance(stage_decay, bool)
        if not number or not 0 < stage_decay <= 1:
            raise ValueError(f"`stage_decay` needs 0 < stage_decay <= 1. Received: {stage_decay!r}")
        if stage_decay != 1 and keras.backend.backend() == "torch":
            raise ValueError("`stage_decay` has no effect on the PyTorch backend: leave it at 1.")
        self.stage_decay = stage_decay

    def factor(self, name):
        """What the learning rate of the weight called `name` is multiplied with."""
        stage = stage_of(name)
        return 1.0 if stage is None else float(self.stage_decay) ** (STAGES + 1 - stage)

    def update_step(self, gradient, variable, learning_rate):
        # TensorFlow's optimizers hand over its own variable, which has the path as its name.
        name = getattr(variable, "path", variable.name)
        super().update_step(gradient, variable, learning_rate * self.factor(name))

    def get_config(self):
        return {**super().get_config(), "stage_decay": self.stage_decay}
