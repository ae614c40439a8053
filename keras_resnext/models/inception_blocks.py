"""Inception modules: paths of convolutions and poolings, side by side on one input."""

from keras import layers

from keras_resnext.layers import ScaledAdd
from keras_resnext.models.inception_config import module_paths
from keras_resnext.models.primitives import channel_axis, convolution, norm

_POOLINGS = {"max": layers.MaxPooling2D, "avg": layers.AveragePooling2D}


def inception(x, config, module, name):
    """[path, path, ...](x), concatenated."""
    return concatenate(paths(x, config, module_paths(module), name), f"{name}_out")


def inception_residual(x, config, module, name, scale, activation=True):
    """ReLU(x + scale * [paths, concatenation, 1x1](x)); the 1x1 has a bias and no BN."""
    y = concatenate(paths(x, config, module_paths(module), name), f"{name}_concat")
    filters = x.shape[channel_axis()]
    y = convolution(y, config.replace(use_bias=True), filters, 1, f"{name}_expansion")
    if not activation:
        return ScaledAdd(scale, name=f"{name}_out")([x, y])
    x = ScaledAdd(scale, name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_out")(x)


def paths(x, config, module, name):
    """Return the outputs of all the paths of a module, in order."""
    return [output for path in module for output in chain(x, config, path, name)]


def chain(x, config, path, name):
    """Return what a path ends in: one tensor, or those of the fork at its end."""
    outputs = [x]
    for position in path:
        (x,) = outputs
        outputs = [_layer(x, config, step, f"{name}_{step.name}") for step in position]
    return outputs


def concatenate(tensors, name):
    """The channels of all tensors."""
    return layers.Concatenate(axis=channel_axis(), name=name)(tensors)


def convolution_unit(x, config, filters, kernel_size, name, strides=1, padding="torch"):
    """convolution, BN if the network has it, ReLU."""
    x = convolution(x, config, filters, kernel_size, name, strides, padding=padding)
    if config.norm:
        x = norm(x, config, f"{name}_norm", scale=config.norm_scale)
    return layers.ReLU(name=f"{name}_relu")(x)


def pooling(x, config, step, name):
    """A max or average pooling.

    It follows a ReLU, so that zeros around the image are as good as minus infinity.
    """
    padding = step.padding
    if padding == "ceil":
        x = layers.ZeroPadding2D(((0, 1), (0, 1)), name=f"{name}_pad")(x)
        padding = "valid"
    elif step.operation == "avg" and padding == "same" and config.pool_padding == "counted":
        borders = tuple(size // 2 for size in step.kernel)
        x = layers.ZeroPadding2D(borders, name=f"{name}_pad")(x)
        padding = "valid"
    return _POOLINGS[step.operation](step.kernel, step.stride, padding, name=name)(x)


def _layer(x, config, step, name):
    if step.operation != "conv":
        return pooling(x, config, step, name)
    padding = "torch" if step.padding == "same" else step.padding
    return convolution_unit(x, config, step.filters, step.kernel, name, step.stride, padding)
