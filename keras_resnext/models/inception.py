"""Inception networks, from the image to the last feature map. Nothing here imports Keras."""

from keras_resnext.models.inception_blocks import (
    chain,
    convolution_unit,
    inception,
    inception_residual,
    paths,
    pooling,
)
from keras_resnext.models.inception_config import (
    HEADS,
    RESIDUAL_MODULES,
    Module,
    head_path,
    parse,
    stem_modules,
)
from keras_resnext.models.primitives import Map, Primitives


def inception_features(net: Primitives, x: Map) -> Map:
    """Describe an Inception network from the image to its last feature map."""
    config = net.config
    x = _stem(net, x)
    names = iter(config.modules)
    for stage, modules in enumerate(config.stages, start=2):
        if stage > 2 and config.pools:
            ((step,),) = parse(config.pools[stage - 3])
            x = pooling(net, x, step, f"stage{stage}_pool")
        for module in modules:
            name = next(names)
            x = net.ends[name] = _module(net, x, module, name, stage)
    if config.final_filters:
        x = convolution_unit(net, x, config.final_filters, 1, "features_conv")
    return x


def _stem(net: Primitives, x: Map) -> Map:
    for number, module in enumerate(stem_modules(net.config), start=1):
        maps = paths(net, x, module, "stem")
        x = maps[0] if len(maps) == 1 else net.concatenate(maps, f"stem_concat{number}")
    return x


def _module(net: Primitives, x: Map, module: Module, name: str, stage: int) -> Map:
    config = net.config
    if module.kind not in RESIDUAL_MODULES:
        return inception(net, x, module, name)
    last = f"stage{len(config.stages) + 1}_block{len(config.stages[-1])}"
    if config.linear_last and name == last:
        return inception_residual(net, x, module, name, 1.0, activation=False)
    return inception_residual(net, x, module, name, config.residual_scales[stage - 2])


def auxiliary_head(net: Primitives, x: Map, name: str) -> Map:
    """Describe an auxiliary classifier up to the input of its last layer."""
    head = HEADS[net.config.auxiliary_head]
    (x,) = chain(net, x, head_path(net.config), name)
    if head.hidden:
        x = net.dense(net.flatten(x, f"{name}_flatten"), head.hidden, f"{name}_dense", "relu")
    else:
        x = net.mean(x, f"{name}_avg_pool")
    return net.dropout(x, head.dropout, f"{name}_dropout") if head.dropout else x
