"""The builder of the Inception family. It only builds."""

import keras
from keras import layers

from keras_resnext.models.auxiliary import AuxiliaryModel
from keras_resnext.models.inception_blocks import (
    chain,
    concatenate,
    convolution_unit,
    inception,
    inception_residual,
    paths,
    pooling,
)
from keras_resnext.models.inception_config import (
    HEADS,
    RESIDUAL_MODULES,
    head_path,
    parse,
    stem_modules,
)


def inception_features(x, config):
    """Build an Inception network from the image to its last feature map.

    Args:
        x: symbolic tensor of images, `(batch, height, width, channels)`.
        config: `InceptionConfig`.

    Returns:
        Symbolic tensor `(batch, new_height, new_width, channels)`, about a thirty-second of
        the image.

    Raises:
        ValueError: if the auxiliary classifiers are on and look at all pixels of a feature
            map, but the size of the image is left open.
    """
    _check_size(x, config)
    x = _stem(x, config)
    names = iter(config.modules)
    for stage, modules in enumerate(config.stages, start=2):
        if stage > 2 and config.pools:
            ((step,),) = parse(config.pools[stage - 3])
            x = pooling(x, config, step, f"stage{stage}_pool")
        for module in modules:
            x = _module(x, config, module, next(names), stage)
    if config.final_filters:
        x = convolution_unit(x, config, config.final_filters, 1, "features_conv")
    return x


def with_auxiliary_classifiers(network, config, classifier):
    """Add the auxiliary classifiers to a network, if its configuration has them on.

    Args:
        network: functional `keras.Model` with its classifier, built by `inception_features`.
        config: `InceptionConfig`.
        classifier: function from a layer's name to the `keras.layers.Dense` that classifies.

    Returns:
        The network, or an `AuxiliaryModel` of the same layers and the auxiliary ones.
    """
    if not config.auxiliary:
        return network
    outputs = [
        _auxiliary(network.get_layer(f"{name}_out").output, config, classifier, name)
        for name in config.auxiliary_after
    ]
    return AuxiliaryModel(
        network.input,
        [network.output, *outputs],
        name=network.name,
        auxiliary_weight=config.auxiliary_weight,
    )


def _stem(x, config):
    for number, module in enumerate(stem_modules(config), start=1):
        tensors = paths(x, config, module, "stem")
        x = tensors[0] if len(tensors) == 1 else concatenate(tensors, f"stem_concat{number}")
    return x


def _module(x, config, module, name, stage):
    if module.kind not in RESIDUAL_MODULES:
        return inception(x, config, module, name)
    if config.linear_last and name == list(config.modules)[-1]:
        return inception_residual(x, config, module, name, 1.0, activation=False)
    return inception_residual(x, config, module, name, config.residual_scales[stage - 2])


def _auxiliary(x, config, classifier, name):
    head, name = HEADS[config.auxiliary_head], f"{name}_auxiliary"
    (x,) = chain(x, config, head_path(config), name)
    if head.hidden:
        x = layers.Flatten(name=f"{name}_flatten")(x)
        regularizer = keras.regularizers.L2(config.l2) if config.l2 else None
        x = layers.Dense(head.hidden, "relu", kernel_regularizer=regularizer, name=f"{name}_dense")(
            x
        )
    else:
        x = layers.GlobalAveragePooling2D(name=f"{name}_avg_pool")(x)
    if head.dropout:
        x = layers.Dropout(head.dropout, name=f"{name}_dropout")(x)
    return classifier(name=f"{name}_predictions")(x)


def _check_size(image, config):
    if config.auxiliary and HEADS[config.auxiliary_head].hidden and None in image.shape[1:]:
        raise ValueError(
            "`auxiliary=True` needs an `input_shape` with height and width, which the dense "
            f"layers of these auxiliary classifiers depend on. Received: {tuple(image.shape[1:])}"
        )
