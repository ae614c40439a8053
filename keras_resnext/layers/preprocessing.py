"""The preprocessing of a network's images: resized, cropped, normalized."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
from keras import KerasTensor, ops

from keras_resnext import imagenet
from keras_resnext.checks import Rule, check, choice, flag, integer, number
from keras_resnext.layers.image_layer import ImageLayer

_THREE = Rule("3 numbers, one per channel", lambda values: len(values) == 3)
_THREE_POSITIVE = Rule(
    "3 numbers above 0, one per channel", lambda values: len(values) == 3 and min(values) > 0
)


@keras.saving.register_keras_serializable("keras_resnext")
class Preprocessing(ImageLayer):
    """Resize the shorter side, crop the middle, normalize: from any picture to a network's input.

    This is what published networks are tested with, pixel for pixel as Pillow resizes (within one
    level of 256 here and there, from rounding). In front of a network it makes a model that takes
    uint8 images; it consists of matrix products, which every backend and export format supports.

    Args:
        size: int, height and width of the resulting images, in pixels.
        crop: float above 0, at most 1, share of the shorter side that the crop keeps. The shorter
            side is resized to `floor(size / crop)` pixels first.
        interpolation: `"bilinear"` or `"bicubic"`, antialiased.
        mean: sequence of 3 floats, mean of each channel, of pixels scaled to 0..1.
        std: sequence of 3 floats, standard deviation of each channel.
        resize_fitting: bool, whether pictures of `size` by `size` pixels are resized and cropped
            like all others, as published networks were tested. False leaves them as they are.
        **kwargs: Arguments of `ImageLayer` and `keras.layers.Layer`.

    Input shape:
        `(batch, height, width, 3)`, or channels first, depending on `data_format`; uint8, or any
        other type with values from 0 to 255. Height and width may differ from call to call.

    Output shape:
        `(batch, size, size, 3)`, in the layer's compute dtype; channels first likewise.

    Warns:
        UserWarning: If it is called with images whose values cannot be from 0 to 255.

    Example:
    >>> import numpy as np
    >>> photo = np.full((1, 375, 500, 3), 128, "uint8")
    >>> tuple(Preprocessing(224, crop=0.875)(photo).shape)
    (1, 224, 224, 3)
    """

    FIELDS = ("size", "crop", "interpolation", "mean", "std", "resize_fitting")

    def __init__(
        self,
        size: int,
        crop: float = 0.875,
        interpolation: str = "bilinear",
        mean: Sequence[float] = imagenet.MEAN,
        std: Sequence[float] = imagenet.STD,
        resize_fitting: bool = True,
        **kwargs,
    ) -> None:
        # Pixels need more digits than bfloat16 has: nothing is cast before the end.
        super().__init__(autocast=False, **kwargs)
        self.size = size
        self.crop = crop
        self.interpolation = interpolation
        self.mean = tuple(map(float, mean))
        self.std = tuple(map(float, std))
        self.resize_fitting = resize_fitting
        check("size", size, integer(1))
        check("crop", crop, number(most=1, above=0))
        check("interpolation", interpolation, choice(KERNELS))
        check("mean", self.mean, _THREE)
        check("std", self.std, _THREE_POSITIVE)
        check("resize_fitting", resize_fitting, flag())

    @property
    def edge(self) -> int:
        """Length of the shorter side before the crop, in pixels."""
        return int(self.size / self.crop + 1e-6)  # a crop of size / edge gives that edge

    def __call__(self, inputs: KerasTensor, **kwargs) -> KerasTensor:
        warn_unlike_pixels(inputs)
        return super().__call__(inputs, **kwargs)

    def call(self, inputs: KerasTensor) -> KerasTensor:
        x = inputs
        if self.data_format == "channels_last":
            x = ops.transpose(x, (0, 3, 1, 2))
        x = self._resized(ops.cast(x, "float32"))
        x = x * self._by_channel(1 / (255 * s) for s in self.std)
        x = x - self._by_channel(m / s for m, s in zip(self.mean, self.std, strict=True))
        if self.data_format == "channels_last":
            x = ops.transpose(x, (0, 2, 3, 1))
        return ops.cast(x, self.compute_dtype)

    def for_tf_data(self) -> Callable:
        """Return the same as a function for `tf.data.Dataset.map`, on any backend of Keras.

        Returns:
            Function from one image, a tensor `(height, width, 3)`, to a float32 tensor
            `(size, size, 3)`.
        """
        import tensorflow as tf

        def preprocess(image: tf.Tensor) -> tf.Tensor:
            shape = tf.shape(image)[:2]
            edge = tf.where(self._fits(shape[0], shape[1]), self.size, self.edge)
            target = edge * shape // tf.reduce_min(shape)
            corner = tf.cast(tf.round((target - self.size) / 2), "int32")
            for size in ((shape[0], target[1]), target):  # the width first, as Pillow does
                image = tf.image.resize(image, size, self.interpolation, antialias=True)
                image = tf.clip_by_value(tf.floor(image + 0.5), 0, 255)
            middle = tf.slice(image, tf.concat([corner, [0]], 0), (self.size, self.size, 3))
            return (middle / 255 - self.mean) / self.std

        return preprocess

    def compute_output_spec(self, inputs: KerasTensor) -> KerasTensor:
        shape = self.compute_output_shape(inputs.shape)
        return KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        if self.data_format == "channels_last":
            return (input_shape[0], self.size, self.size, 3)
        return (input_shape[0], 3, self.size, self.size)

    def get_config(self) -> dict:
        return {**super().get_config(), **{name: getattr(self, name) for name in self.FIELDS}}

    def _resized(self, x: KerasTensor) -> KerasTensor:
        """Return the middle of the resized image: one matrix per direction, the width first."""
        height, width = ops.shape(x)[2:]  # tensors, in an exported model
        if x.shape[2:] == (self.size, self.size) and (
            self.size == self.edge or not self.resize_fitting
        ):
            return x
        edge = ops.where(self._fits(height, width), self.size, self.edge)
        short = ops.minimum(height, width)
        # Pillow rounds to whole levels after each direction, halves upward.
        x = _whole(ops.matmul(x, ops.transpose(self._matrix(width, edge * width // short))))
        return _whole(ops.matmul(self._matrix(height, edge * height // short), x))

    def _fits(self, height: int, width: int) -> bool:
        """Return whether a picture of that size, also given as tensors, is left as it is."""
        edge = -1 if self.resize_fitting else self.size
        return (height == edge) & (width == edge)

    def _matrix(self, length: int, target: int) -> KerasTensor:
        """Return the share of each of `length` pixels in each cropped one of `target`.

        Its shape is `(size, length)`.
        """
        pixels = ops.arange(length, dtype="float32") + 0.5
        length, target = ops.cast(length, "float32"), ops.cast(target, "float32")
        first = ops.round((target - self.size) / 2)  # to even, as Python rounds
        scale = length / target
        centers = (ops.arange(self.size, dtype="float32") + first + 0.5) * scale
        distances = ops.expand_dims(pixels, 0) - ops.expand_dims(centers, 1)
        nearness = ops.absolute(distances) / ops.maximum(scale, 1.0)
        shares = KERNELS[self.interpolation](nearness)
        return shares / ops.sum(shares, axis=1, keepdims=True)

    def _by_channel(self, values: Iterable[float]) -> KerasTensor:
        return ops.reshape(ops.convert_to_tensor(list(values), "float32"), (1, 3, 1, 1))


def warn_unlike_pixels(images: np.ndarray | KerasTensor) -> None:
    """Warn of images whose values should be from 0 to 255 and cannot be.

    Integers, symbolic tensors and tensors on another device are not checked.
    """
    low, high = _range(images)
    if low < 0 or 0 < high <= 1:
        warnings.warn(
            f"Expected images of values from 0 to 255. These go from {low:.3g} to {high:.3g}, as "
            "if they had been scaled or normalized already.",
            stacklevel=3,
        )


def warn_unlike_normalized(
    images: np.ndarray | KerasTensor,
    mean: Sequence[float] = imagenet.MEAN,
    std: Sequence[float] = imagenet.STD,
) -> None:
    """Warn of images that should be normalized and cannot be."""
    highest = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    low, high = _range(images)
    if high > 8 * highest:
        warnings.warn(
            f"This network expects normalized images, of values up to {highest:.3g}. These go from "
            f"{low:.3g} to {high:.3g}, as pixels do: normalize them with "
            "`keras_resnext.preprocessing` or `preprocess_input`.",
            stacklevel=3,
        )


def _range(images: np.ndarray | KerasTensor) -> tuple[float, float]:
    """Return the smallest and the largest value; NaN if finding out would cost something."""
    unknown = np.nan, np.nan
    if "float" not in str(getattr(images, "dtype", "")):
        return unknown
    try:
        values = images if isinstance(images, np.ndarray) else images.numpy()
    except Exception:  # symbolic, differentiated or on another device: each framework has its own
        return unknown
    return (float(values.min()), float(values.max())) if values.size else unknown


def _triangle(x: KerasTensor) -> KerasTensor:
    return ops.relu(1.0 - x)


def _cubic(x: KerasTensor) -> KerasTensor:
    """Return Keys's kernel with a = -1/2, which is Pillow's."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x < 1.0, near, ops.where(x < 2.0, far, 0.0))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def _whole(x: KerasTensor) -> KerasTensor:
    return ops.clip(ops.floor(x + 0.5), 0.0, 255.0)
