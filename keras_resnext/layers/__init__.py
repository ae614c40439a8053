"""The layers that the models are made of, one per file."""

from keras_resnext.layers.attention import (
    EfficientChannelAttention,
    SelectiveKernel,
    SqueezeExcite,
)
from keras_resnext.layers.batch_norm import BatchNormalization
from keras_resnext.layers.blur_pool import BlurPool2D
from keras_resnext.layers.drop_block import DropBlock2D
from keras_resnext.layers.drop_path import DropPath
from keras_resnext.layers.grouped_conv import GroupedConv2D
from keras_resnext.layers.image_input import ImageInput
from keras_resnext.layers.preprocessing import Preprocessing
from keras_resnext.layers.scaled_add import ScaledAdd
from keras_resnext.layers.scheduled_drop import set_schedule_steps
from keras_resnext.layers.upsample_add import UpsampleAdd

__all__ = [
    "BatchNormalization",
    "BlurPool2D",
    "DropBlock2D",
    "DropPath",
    "EfficientChannelAttention",
    "GroupedConv2D",
    "ImageInput",
    "Preprocessing",
    "ScaledAdd",
    "SelectiveKernel",
    "SqueezeExcite",
    "UpsampleAdd",
    "set_schedule_steps",
]
