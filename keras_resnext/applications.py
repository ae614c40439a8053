"""Models by name, with the contract of keras.applications."""

import dataclasses
import functools
import inspect
import numbers

import keras
from keras import layers

from keras_resnext.errors import one_of
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
        model: str, a name that `list_models()` gives; a configuration, `ResNetConfig` or
            `InceptionConfig`; or `"keras:"` and the name of any network of keras.applications,
            such as `"keras:DenseNet201"`, with that function's own defaults and arguments.
        include_top: bool, whether to end in global average pooling and a classifier.
        weights: None for random weights; `"imagenet"` for a published checkpoint, or its tag
            at timm (`"a1_in1k"`); or the path of a file: a `.weights.h5` or `.keras` of the same
            network, a safetensors or PyTorch file by timm's or torchvision's names, or an
            `.h5` of keras.applications (the network then takes the form it has there).
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
    name,
    weights=None,
    include_top=True,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    strict=True,
    **overrides,
):
    """Build timm's network with its weights.

    Args:
        name: str, timm's name with or without a tag, such as `"seresnext50_32x4d.racm_in1k"`.
        weights: None for the published checkpoint, which is downloaded once; the path of a
            safetensors or PyTorch file; or a dict of tensors by timm's names.
        include_top, input_tensor, input_shape, pooling, classifier_activation: see
            `create_model`.
        classes: int; defaults to what the weights have.
        strict: bool, whether every weight must be found and every tensor used. With False what
            does not fit keeps its random values: a classifier of other classes, say.
        **overrides: fields of the configuration to change.

    Returns:
        A functional `keras.Model`.

    Raises:
        ValueError: for a name that timm's grammar does not have, a network or tag without a
            checkpoint (the nearest is named), a damaged file, or tensors that do not fit, in a
            table.

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
        # What is wrong is said before hundreds of megabytes have come.
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


def preprocessing(name, training=False):
    """Return the transform of the images that a network wants.

    Args:
        name: str, timm's name with or without a tag, as in `from_timm`; or a `keras.Model` that
            knows its images, as those with published weights and those of training runs do,
            loaded from their files too.
        training: bool, whether the size and crop are those of its training; otherwise they are
            those that its published accuracy was measured with. A model knows one, that of its
            input's size.

    Returns:
        A `keras_resnext.layers.Preprocessing` layer: in front of the network it makes a model
        of uint8 images, and its `for_tf_data()` is a function for `tf.data.Dataset.map`.

    Raises:
        ValueError: for a network or tag without a checkpoint, with the nearest; or a model that
            knows nothing of its images.

    Example:

    >>> layer = preprocessing("seresnext50_32x4d.racm_in1k")
    >>> layer.size, layer.crop, layer.interpolation
    (288, 0.95, 'bicubic')
    """
    if isinstance(name, keras.Model):
        known = description(name).preprocessing
        if known is None:
            raise ValueError(
                f'The model "{name.name}" does not know what images it wants: write it into it '
                "with `keras_resnext.describe`."
            )
        return Preprocessing(**known)
    source = source_by_name(name)
    return Preprocessing(**dataclasses.asdict(source.train if training else source.test))


def _describe_published(network, source):
    """Write the transform of a checkpoint into a network, in the size of its input.

    A transform gives squares: into a network of other images only its classes are written.
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


def _check(classes, pooling, activation):
    if not isinstance(classes, numbers.Integral) or isinstance(classes, bool) or classes < 1:
        raise ValueError(f"`classes` needs a positive integer. Received: classes={classes!r}")
    one_of("pooling", pooling, (None, "avg", "max"))
    keras.activations.get(activation)


def _input_shape(shape, tensor, default_size, config):
    """The image's shape, checked against the smallest that leaves a pixel at the end."""
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
        return ImageInput(shape, name="image").output
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


def _build(config, image, classifier, pooling, name):
    """The network; `classifier` makes its last layer, None leaves the top out."""
    x = build_features(image, config)
    if classifier:
        x = layers.GlobalAveragePooling2D(name="avg_pool")(x)
        if config.dropout:
            x = layers.Dropout(config.dropout, name="dropout")(x)
        x = classifier(name="predictions")(x)
    elif pooling:
        pool = {"avg": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}[pooling]
        x = pool(name=f"{pooling}_pool")(x)
    network = keras.Model(_source(image), x, name=name)
    return with_auxiliary_classifiers(network, config, classifier) if classifier else network


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
