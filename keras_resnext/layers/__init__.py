"""The layers that the models are made of, one a file."""

from keras_resnext.layers.batch_norm import BatchNormalization
from keras_resnext.layers.grouped_conv import GroupedConv2D
from keras_resnext.layers.scaled_add import ScaledAdd

__all__ = ["BatchNormalization", "GroupedConv2D", "ScaledAdd"]
