"""Models by name, with the contract of keras.applications."""

import contextlib
import functools
import inspect
import pathlib
import sys

import keras
from keras import layers

from keras_resnext.errors import one_of
from keras_resnext.models import variants
from keras_resnext.models.builders import build_features, finish
from keras_resnext.models.config import NetworkConfig


def create_model(
    model,
    include_top=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    **overrides,
):
    """Build a network from its name or its configuration.

    Args:
        model: str, a name that `list_models()` gives, or a configuration such as
            `ResNetConfig` or `InceptionConfig`.
        include_top: bool, whether to end in global average pooling and a classifier.
        weights: None for random weights, or the path of a `.weights.h5` or `.keras` file that
            was saved from the same network. Published checkpoints are not offered yet.
        input_tensor: Keras tensor to use as the image input.
        input_shape: tuple `(height, width, channels)`, or channels first where Keras is set
            so. Height and width may be None; where they are given, the last feature map must
            keep at least one pixel. Defaults to the size the network was published at.
        pooling: what ends a network without its top: None for the 4D feature map, `"avg"` or
            `"max"` for a global pooling to `(batch, channels)`.
        classes: int, the number of classes; defaults to that of the published network.
        classifier_activation: activation of the classifier; None returns logits.
        name: str, the model's name.
        **overrides: fields of the configuration to change, such as `cardinality=16`.

    Returns:
        A functional `keras.Model`. The classifier computes in float32 under every dtype
        policy.

    Raises:
        ValueError: for an unknown name or field (the nearest is named), an impossible
            configuration, an input too small, or weights that are not there or do not fit;
            before anything is built, but for the last.

    Example:

    >>> model = create_model("ResNeXt20", classes=3, cardinality=4, width_per_group=32)
    >>> model.output_shape
    (None, 3)
    """
    config, variant = _configuration(model, overrides)
    one_of("pooling", pooling, (None, "avg", "max"))
    classes = _classes(variant.classes if classes is None else classes)
    weights = _weights_file(weights)
    shape = _input_shape(input_shape, input_tensor, variant.input_size, config)

    image = _image(input_tensor, shape)
    x = build_features(image, config)
    classifier = functools.partial(_classifier, config, classes, classifier_activation)
    if include_top:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="dropout")(x)
        x = classifier(name="predictions")(x)
    elif pooling:
        pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
        x = pool(name=f"{pooling}_pool")(x)
    with _room_for_recursion(config.depth):
        network = keras.Model(_source(image), x, name=name or variant.name)
        if include_top:
            network = finish(network, config, classifier)
    if weights:
        _load(network, weights)
    return network


def _configuration(model, overrides):
    """The configuration to build, and a row of the table for its defaults."""
    if isinstance(model, NetworkConfig):
        return _unnamed(model.replace(**overrides))
    variant = variants.get(model)
    return variant.config.replace(**overrides), variant


def _unnamed(config):
    size = config.native_size
    name = type(config).__name__.removesuffix("Config").lower()
    classes = 10 if size == 32 else 1000
    return config, variants.Variant(name, config, 0, 0, 0.0, input_size=size, classes=classes)


def _classes(classes):
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"`classes` needs a positive integer. Received: classes={classes!r}")
    return classes


def _weights_file(weights):
    if weights is None:
        return None
    path = pathlib.Path(weights).expanduser()
    if path.is_file():
        return path
    raise ValueError(
        "`weights` needs None or the path of a .weights.h5 or .keras file; no published "
        f'checkpoint is offered yet, "imagenet" included. Received: weights="{weights}", '
        "which is no file."
    )


def _input_shape(shape, tensor, default_size, config):
    """The image's shape, checked against the smallest that leaves a pixel at the end."""
    first = keras.config.image_data_format() == "channels_first"
    if tensor is not None:
        shape = tuple(tensor.shape[1:])
    if shape is None:
        shape = (3, default_size, default_size) if first else (default_size, default_size, 3)
    shape = tuple(shape)
    if len(shape) != 3 or shape[0 if first else 2] is None:
        layout = "(channels, height, width)" if first else "(height, width, channels)"
        raise ValueError(f"`input_shape` needs {layout}. Received: input_shape={shape}")
    smallest = config.smallest_input
    sizes = shape[1:] if first else shape[:2]
    if any(size is not None and size < smallest for size in sizes):
        raise ValueError(
            f"`input_shape` must be at least {smallest} pixels high and wide for this network "
            f"to keep a pixel at its end. Received: input_shape={shape}"
        )
    return shape


def _image(tensor, shape):
    if tensor is None:
        return layers.Input(shape=shape, name="image")
    if keras.utils.is_keras_tensor(tensor):
        return tensor
    return layers.Input(tensor=tensor, shape=shape, name="image")


def _source(image):
    """The input that an image tensor was computed from."""
    sources = keras.utils.get_source_inputs(image)
    return sources[0] if len(sources) == 1 else sources


def _classifier(config, classes, activation, name):
    return layers.Dense(
        classes,
        activation=activation,
        kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
        dtype="float32",
        name=name,
    )


@contextlib.contextmanager
def _room_for_recursion(depth):
    """Keras follows a model's graph by recursion, some four calls a layer (ResNet-1202)."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 1000 + 6 * depth))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


def _load(network, path):
    try:
        network.load_weights(path)
    except Exception as error:
        raise ValueError(
            f'The weights in "{path}" do not fit this {network.name}: check the model, '
            "`classes`, `include_top` and the overrides against those it was saved with. "
            f"Keras says: {error}"
        ) from error


def application(name):
    """Return the function that builds one row of the table, as keras.applications has it."""
    variant = variants.get(name)

    def build(
        include_top=True,
        weights=None,
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=variant.classes,
        classifier_activation="softmax",
        name=None,
        **overrides,
    ) -> keras.Model:
        """Build a network of the family with the contract of keras.applications.

        See `keras_resnext.create_model` for the arguments.
        """
        return create_model(
            variant.name,
            include_top=include_top,
            weights=weights,
            input_tensor=input_tensor,
            input_shape=input_shape,
            pooling=pooling,
            classes=classes,
            classifier_activation=classifier_activation,
            name=name,
            **overrides,
        )

    build.__name__ = build.__qualname__ = variant.name
    build.__module__ = __name__
    build.__doc__ = _docstring(variant)
    return build


def _docstring(variant):
    arguments = inspect.cleandoc(create_model.__doc__)
    arguments = arguments[arguments.index("Args:") : arguments.index("Example:")]
    arguments = arguments.replace(
        arguments[arguments.index("    model: str") : arguments.index("    include_top:")], ""
    )
    error = "" if variant.top1_error is None else f" Published top-1 error: {variant.top1_error} %."
    return (
        f"Build {variant.name} ({variant.paper}).\n\n"
        f"{variant.total / 1e6:.1f} million parameters, {variant.gmacs:.2f} billion multiply-adds "
        f"at {variant.input_size}x{variant.input_size}.{error}\n\n"
        f"{arguments.strip()}\n\nExample:\n\n"
        f">>> model = keras_resnext.{variant.name}(weights=None)\n"
    )


globals().update({name: application(name) for name in variants.VARIANTS})
