"""Inception modules: paths of convolutions and poolings, side by side on one input.

Nothing here imports Keras.
"""

from keras_resnext.models.inception_config import Module, Step, module_paths
from keras_resnext.models.primitives import Map, Primitives, Size


def inception(net: Primitives, x: Map, module: Module, name: str) -> Map:
    """Concatenate [path(x), path(x), ...]."""
    return net.concatenate(paths(net, x, module_paths(module), name), f"{name}_out")


def inception_residual(
    net: Primitives, x: Map, module: Module, name: str, scale: float, activation: bool = True
) -> Map:
    """ReLU(x + scale * [paths, concatenation, 1x1](x)); the 1x1 has a bias and no BN."""
    y = net.concatenate(paths(net, x, module_paths(module), name), f"{name}_concat")
    y = net.convolution(y, net.channels(x), 1, f"{name}_expansion", use_bias=True)
    if not activation:
        return net.scaled_add(x, y, scale, f"{name}_out")
    return net.relu(net.scaled_add(x, y, scale, f"{name}_add"), f"{name}_out")


def paths(net: Primitives, x: Map, module: tuple, name: str) -> list[Map]:
    """Return the outputs of all paths of a module, in order."""
    return [output for path in module for output in chain(net, x, path, name)]


def chain(net: Primitives, x: Map, path: tuple, name: str) -> list[Map]:
    """Return the outputs of a path: one feature map, or those of the fork at its end."""
    outputs = [x]
    for position in path:
        (x,) = outputs
        outputs = [_layer(net, x, step, f"{name}_{step.name}") for step in position]
    return outputs


def convolution_unit(
    net: Primitives,
    x: Map,
    filters: int,
    kernel_size: Size,
    name: str,
    strides: int = 1,
    padding: str = "torch",
) -> Map:
    """[convolution, BN if the network has it, ReLU](x)."""
    x = net.convolution(x, filters, kernel_size, name, strides, padding=padding)
    if net.config.norm:
        x = net.norm(x, f"{name}_norm", scale=net.config.norm_scale)
    return net.relu(x, f"{name}_relu")


def pooling(net: Primitives, x: Map, step: Step, name: str) -> Map:
    """Apply a max or average pooling.

    It follows a ReLU, so zeros around the image serve as well as minus infinity.
    """
    padding = step.padding
    if padding == "ceil":
        x = net.zero_pad(x, ((0, 1), (0, 1)), f"{name}_pad")
        padding = "valid"
    elif step.operation == "avg" and padding == "same" and net.config.pool_padding == "counted":
        x = net.zero_pad(x, tuple(size // 2 for size in step.kernel), f"{name}_pad")
        padding = "valid"
    pool = net.max_pool if step.operation == "max" else net.average_pool
    return pool(x, step.kernel, step.stride, name, padding)


def _layer(net: Primitives, x: Map, step: Step, name: str) -> Map:
    if step.operation != "conv":
        return pooling(net, x, step, name)
    padding = "torch" if step.padding == "same" else step.padding
    return convolution_unit(net, x, step.filters, step.kernel, name, step.stride, padding)
