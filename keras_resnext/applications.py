"""Models by name, with the contract of keras.applications."""

import dataclasses
import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_resnext.checks import check, choice, integer, optional
from keras_resnext.layers import ImageInput, Preprocessing
from keras_resnext.layers.image_input import IMAGENET
from keras_resnext.models import variants
from keras_resnext.models.baselines import baseline, is_baseline
from keras_resnext.models.builders import (
    build_features,
    undisturbed,
    with_auxiliary_classifiers,
)
from keras_resnext.models.config import NetworkConfig
from keras_resnext.models.description import can_be_described, describe, description
from keras_resnext.weights.files import find_weights, given_tensors, published
from keras_resnext.weights.grammar import split_tag, timm_config
from keras_resnext.weights.load import LOOSELY
from keras_resnext.weights.sources import SOURCES, source_by_name

# How a network without a top may end.
POOLINGS = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}


def create_model(
    model: str | NetworkConfig,
    include_top: bool = True,
    weights: str | None = None,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    name: str | None = None,
    **overrides: Any,
) -> keras.Model:
    """Build a network from its name or its configuration.

    Args:
        model: str, a name that `list_models()` lists; a `ResNetConfig` or `InceptionConfig`; or
            `"keras:"` and the name of any network of keras.applications, such as
            `"keras:DenseNet201"`, which takes that function's own arguments.
        include_top: bool, whether to end in global average pooling and a classifier.
        weights: None for random weights; `"imagenet"` or timm's tag (`"a1_in1k"`) for a published
            checkpoint; or str, path of a file: a `.weights.h5` or `.keras` file of the same
            network, a safetensors or PyTorch file with timm's or torchvision's names, or an
            `.h5` file of keras.applications (the network is then built as it is there).
        input_tensor: Keras tensor to use as the image input.
        input_shape: tuple, `(height, width, channels)` or, if Keras is set to channels first,
            `(channels, height, width)`. Height and width may be None. Defaults to the size that
            the network was published with.
        pooling: None, `"avg"` or `"max"`: without a top, whether to return the 4D feature map or
            to pool it globally to `(batch, channels)`.
        classes: int, number of classes. Defaults to that of the published network.
        classifier_activation: str or callable, activation of the classifier. None returns logits.
        name: str, name of the model.
        **overrides: Fields of the configuration to change, such as `cardinality=16`.

    Returns:
        A functional `keras.Model`. Its classifier computes in float32 under every dtype policy.

    Raises:
        ValueError: If a name or field is unknown (the message suggests the nearest), the
            configuration is impossible, the input is too small, or the weights are missing or do
            not fit. Except for weights that do not fit, nothing has been built by then.

    Example:
    >>> model = create_model("ResNeXt35", classes=3, cardinality=4, width_per_group=32)
    >>> model.output_shape
    (None, 3)
    """
    if is_baseline(model):
        return baseline(
            model,
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
    config, variant = _configuration(model, overrides)
    classes = variant.classes if classes is None else classes
    _check(classes, pooling, classifier_activation)
    shape = _input_shape(input_shape, input_tensor, variant.input_size, config)
    found = find_weights(weights, variant)
    config = found.adapt(config) if found else config

    classifier = functools.partial(_classifier, config, int(classes), classifier_activation)
    with undisturbed(config.depth):
        network = _build(
            config,
            _image(input_tensor, shape),
            classifier if include_top else None,
            pooling,
            name or variant.name,
        )
    if found:
        found.load(network, config)
        _describe_published(network, found.source)
    return network


def from_timm(
    name: str,
    weights: str | Mapping[str, np.ndarray] | None = None,
    include_top: bool = True,
    input_tensor: keras.KerasTensor | None = None,
    input_shape: tuple[int | None, ...] | None = None,
    pooling: str | None = None,
    classes: int | None = None,
    classifier_activation: str | Callable | None = "softmax",
    strict: bool = True,
    **overrides: Any,
) -> keras.Model:
    """Build timm's network with its weights.

    Args:
        name: str, timm's name with or without a tag, such as `"seresnext50_32x4d.racm_in1k"`.
        weights: None for the published checkpoint, which is downloaded once; str, path of a
            safetensors or PyTorch file; or a dict from timm's names to arrays.
        include_top: bool, see `create_model`.
        input_tensor: Keras tensor, see `create_model`.
        input_shape: tuple, see `create_model`.
        pooling: str, see `create_model`.
        classes: int, number of classes. Defaults to that of the weights.
        classifier_activation: str or callable, see `create_model`.
        strict: bool, whether every weight must be found and every tensor used. If False, what
            does not fit keeps its random values, such as a classifier of other classes.
        **overrides: Fields of the configuration to change.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: If timm's grammar does not have the name, the network or tag has no checkpoint
            (the message suggests the nearest), the file is damaged, or tensors do not fit (the
            message lists them in a table).

    Example:
    >>> from keras_resnext.weights.grammar import timm_config
    >>> from keras_resnext.weights.load import to_timm
    >>> config = timm_config("resnet10t")
    >>> tensors = to_timm(create_model(config, classes=5), config)
    >>> from_timm("resnet10t", tensors).output_shape
    (None, 5)
    """
    if weights is None:
        source = source_by_name(name)
        # Check everything before hundreds of megabytes are downloaded.
        config, variant = _unnamed(timm_config(name).replace(**overrides))
        _check(source.classes if classes is None else classes, pooling, classifier_activation)
        _input_shape(input_shape, input_tensor, variant.input_size, config)
        found = published(source)
    else:
        found = given_tensors(weights, SOURCES.get(name.removeprefix("timm/")))
    config = timm_config(name, found.blocks).replace(**overrides)
    network = create_model(
        config,
        include_top=include_top,
        input_tensor=input_tensor,
        input_shape=input_shape,
        pooling=pooling,
        classes=found.classes if classes is None else classes,
        classifier_activation=classifier_activation,
        name=split_tag(name)[0],
    )
    found.load(network, config, strict, LOOSELY)
    _describe_published(network, found.source)
    return network


def preprocessing(name: str | keras.Model, training: bool = False) -> Preprocessing:
    """Return the layer that prepares images for a network.

    Args:
        name: str, timm's name with or without a tag, as in `from_timm`; or a `keras.Model` that
            knows its images, as models with published weights and models of training runs do,
            also after they were saved and loaded.
        training: bool, whether to use the size and crop of the training instead of those that
            the published accuracy was measured with. For a name only.

    Returns:
        A `keras_resnext.layers.Preprocessing` layer. In front of the network it makes a model
        that takes uint8 images; its `for_tf_data()` is a function for `tf.data.Dataset.map`.

    Raises:
        ValueError: If the network or tag has no checkpoint (the message suggests the nearest), or
            the model does not know its images.

    Example:
    >>> layer = preprocessing("seresnext50_32x4d.racm_in1k")
    >>> layer.size, layer.crop, layer.interpolation
    (288, 0.95, 'bicubic')
    """
    if isinstance(name, keras.Model):
        known = description(name).preprocessing
        if known is None:
            raise ValueError(
                f'The model "{name.name}" does not know how its images are prepared. Tell it with '
                "`keras_resnext.describe`."
            )
        return Preprocessing(**known)
    source = source_by_name(name)
    return Preprocessing(**dataclasses.asdict(source.train if training else source.test))


def _describe_published(network: keras.Model, source: Any) -> None:
    """Write the transform of a checkpoint, at the size of its input, into a network.

    A transform makes squares: if the input is not square, only the class names are written.
    """
    if source is None or not can_be_described(network):
        return
    first = keras.config.image_data_format() == "channels_first"
    height, width = network.input_shape[2:] if first else network.input_shape[1:3]
    images = source.train if width == source.train.size != source.test.size else source.test
    images = dataclasses.replace(images, size=width or images.size)
    named = network.output_shape[1:] == (source.classes,)
    describe(
        network,
        Preprocessing(**dataclasses.asdict(images)) if height == width else None,
        IMAGENET if named else None,
    )


def _configuration(
    model: str | NetworkConfig, overrides: Mapping[str, Any]
) -> tuple[NetworkConfig, variants.Variant]:
    """Return the configuration to build, and a row of the table for its defaults."""
    if isinstance(model, NetworkConfig):
        return _unnamed(model.replace(**overrides))
    variant = variants.get(model)
    return variant.config.replace(**overrides), variant


def _unnamed(config: NetworkConfig) -> tuple[NetworkConfig, variants.Variant]:
    size = config.native_size
    name = type(config).__name__.removesuffix("Config").lower()
    classes = 10 if size == 32 else 1000
    return config, variants.Variant(name, config, 0, 0, 0.0, input_size=size, classes=classes)


def _check(classes: int, pooling: str | None, activation: str | Callable | None) -> None:
    # NumPy's integers are welcome.
    whole = isinstance(classes, numbers.Integral) and not isinstance(classes, bool)
    check("classes", int(classes) if whole else classes, integer(1))
    check("pooling", pooling, optional(choice(POOLINGS)))
    keras.activations.get(activation)


def _input_shape(
    shape: Any, tensor: keras.KerasTensor | None, default_size: int, config: NetworkConfig
) -> tuple[int | None, ...]:
    """Return the shape of the images, after checking that a pixel is left of them at the end."""
    first = keras.config.image_data_format() == "channels_first"
    if tensor is not None:
        shape = tuple(tensor.shape[1:])
    if shape is None:
        shape = (3, default_size, default_size) if first else (default_size, default_size, 3)
    shape = tuple(shape) if hasattr(shape, "__iter__") else (shape,)
    known = [size for size in shape if size is not None]
    whole = all(isinstance(size, numbers.Integral) and size > 0 for size in known)
    if len(shape) != 3 or not whole or shape[0 if first else 2] is None:
        layout = "(channels, height, width)" if first else "(height, width, channels)"
        raise ValueError(
            f"Invalid value for `input_shape`. Expected {layout}. Received: input_shape={shape}"
        )
    smallest = config.smallest_input
    sizes = shape[1:] if first else shape[:2]
    if any(size is not None and size < smallest for size in sizes):
        raise ValueError(
            f"Invalid value for `input_shape`. Expected at least {smallest} pixels in height and "
            "width, so that this network has a pixel left at its end. Received: "
            f"input_shape={shape}"
        )
    return shape


def _image(tensor: Any, shape: tuple[int | None, ...]) -> keras.KerasTensor:
    if tensor is None:
        return ImageInput(shape, name="image").output
    if keras.utils.is_keras_tensor(tensor):
        return tensor
    return layers.Input(tensor=tensor, shape=shape, name="image")


def _source(image: keras.KerasTensor) -> Any:
    """Return the input that an image tensor was computed from."""
    sources = keras.utils.get_source_inputs(image)
    return sources[0] if len(sources) == 1 else sources


def _classifier(
    config: NetworkConfig, classes: int, activation: str | Callable | None, name: str
) -> layers.Dense:
    return layers.Dense(
        classes,
        activation=activation,
        kernel_regularizer=keras.regularizers.L2(config.l2) if config.l2 else None,
        dtype="float32",
        name=name,
    )


def _build(
    config: NetworkConfig,
    image: keras.KerasTensor,
    classifier: Callable[..., layers.Dense] | None,
    pooling: str | None,
    name: str,
) -> keras.Model:
    """Return the network; without a `classifier`, which makes its last layer, it has no top."""
    x = build_features(image, config)
    if classifier:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="dropout")(x)
        x = classifier(name="predictions")(x)
    elif pooling:
        x = POOLINGS[pooling](name=f"{pooling}_pool")(x)
    network = keras.Model(_source(image), x, name=name)
    return with_auxiliary_classifiers(network, config, classifier) if classifier else network


def _application(name: str) -> Callable[..., keras.Model]:
    """Return the function that builds a row of the table, with keras.applications' arguments."""
    variant = variants.get(name)

    def build(
        include_top: bool = True,
        weights: str | None = None,
        input_tensor: keras.KerasTensor | None = None,
        input_shape: tuple[int | None, ...] | None = None,
        pooling: str | None = None,
        classes: int = variant.classes,
        classifier_activation: str | Callable | None = "softmax",
        name: str | None = None,
        **overrides: Any,
    ) -> keras.Model:
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


def _docstring(variant: variants.Variant) -> str:
    arguments = inspect.cleandoc(create_model.__doc__)
    arguments = arguments[arguments.index("Args:") : arguments.index("Example:")]
    model = slice(arguments.index("    model: str"), arguments.index("    include_top:"))
    arguments = arguments.replace(arguments[model], "")
    error = "" if variant.top1_error is None else f" Published top-1 error: {variant.top1_error} %."
    return (
        f"Build {variant.name} ({variant.paper}).\n\n"
        f"{variant.total / 1e6:.1f} million parameters, {variant.gmacs:.2f} billion multiply-adds "
        f"at {variant.input_size}x{variant.input_size}.{error}\n\n"
        f"{arguments.strip()}\n\nExample:\n\n"
        f">>> model = keras_resnext.{variant.name}(weights=None)\n"
    )


globals().update({name: _application(name) for name in variants.VARIANTS})
