"""What a network's images go through before it: resized, cropped, normalized."""

import warnings

import keras
import numpy as np
from keras import ops

from keras_resnext import imagenet
from keras_resnext.errors import one_of
from keras_resnext.layers.image_layer import ImageLayer


@keras.saving.register_keras_serializable("keras_resnext")
class Preprocessing(ImageLayer):
    """Resize the shorter side, crop the middle, normalize: from any picture to a network's input.

    What published networks are tested with, pixel for pixel as Pillow resizes (within one level of
    256 here and there, from rounding). In front of a network it makes a model that takes uint8
    images; it is made of matrix products, which every backend and every export format has.

    Args:
        size: int, height and width of the images to give, in pixels.
        crop: float above 0, at most 1: the share of the shorter side that is kept. The shorter
            side is resized to `floor(size / crop)` pixels first.
        interpolation: `"bilinear"` or `"bicubic"`, antialiased.
        mean, std: sequences of 3 floats by channel, of pixels scaled to 0..1.
        resize_fitting: bool; whether pictures of `size` by `size` pixels are resized and cropped
            like all others, as published networks were tested. False leaves them as they are.
        **kwargs: of `ImageLayer`: `data_format`, and what every Keras layer takes.

    Input shape:
        `(batch, height, width, 3)`, or channels first by `data_format`; uint8, or any other
        type with values from 0 to 255. Height and width may differ from call to call.

    Output shape:
        `(batch, size, size, 3)`, in the layer's compute dtype; channels first likewise.

    Raises:
        ValueError: for a size, crop, interpolation, mean or std that describes no transform.

    Warns:
        UserWarning: if it is called with images whose values cannot be from 0 to 255.

    Example:

    >>> import numpy as np
    >>> photo = np.full((1, 375, 500, 3), 128, "uint8")
    >>> tuple(Preprocessing(224, crop=0.875)(photo).shape)
    (1, 224, 224, 3)
    """

    FIELDS = ("size", "crop", "interpolation", "mean", "std", "resize_fitting")

    def __init__(
        self,
        size,
        crop=0.875,
        interpolation="bilinear",
        mean=imagenet.MEAN,
        std=imagenet.STD,
        resize_fitting=True,
        **kwargs,
    ):
        # Pixels have more digits than bfloat16: nothing is cast before the end.
        super().__init__(autocast=False, **kwargs)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ValueError(f"`size` must be a positive integer. Received: size={size!r}")
        if not 0 < crop <= 1:
            raise ValueError(f"`crop` must be above 0, at most 1. Received: crop={crop!r}")
        one_of("interpolation", interpolation, KERNELS)
        self.size = size
        self.crop = crop
        self.interpolation = interpolation
        self.mean = _three("mean", mean)
        self.std = _three("std", std)
        if min(self.std) <= 0:
            raise ValueError(f"`std` must be above 0. Received: std={std!r}")
        self.resize_fitting = resize_fitting

    @property
    def edge(self):
        """The shorter side, in pixels, before the crop."""
        return int(self.size / self.crop + 1e-6)  # a crop of size / edge gives that edge

    def __call__(self, inputs, **kwargs):
        warn_unlike_pixels(inputs)
        return super().__call__(inputs, **kwargs)

    def call(self, inputs):
        x = inputs
        if self.data_format == "channels_last":
            x = ops.transpose(x, (0, 3, 1, 2))
        x = self._resized(ops.cast(x, "float32"))
        x = x * self._by_channel(1 / (255 * s) for s in self.std)
        x = x - self._by_channel(m / s for m, s in zip(self.mean, self.std, strict=True))
        if self.data_format == "channels_last":
            x = ops.transpose(x, (0, 2, 3, 1))
        return ops.cast(x, self.compute_dtype)

    def for_tf_data(self):
        """Return the same as a function for `tf.data.Dataset.map`, on any backend of Keras.

        Returns:
            A function from one image, a tensor `(height, width, 3)`, to a float32 tensor
            `(size, size, 3)`.
        """
        import tensorflow as tf

        def preprocess(image):
            shape = tf.shape(image)[:2]
            edge = tf.where(self._leaves(shape[0], shape[1]), self.size, self.edge)
            target = edge * shape // tf.reduce_min(shape)
            corner = tf.cast(tf.round((target - self.size) / 2), "int32")
            for size in ((shape[0], target[1]), target):  # the width first, as Pillow does
                image = tf.image.resize(image, size, self.interpolation, antialias=True)
                image = tf.clip_by_value(tf.floor(image + 0.5), 0, 255)
            middle = tf.slice(image, tf.concat([corner, [0]], 0), (self.size, self.size, 3))
            return (middle / 255 - self.mean) / self.std

        return preprocess

    def compute_output_spec(self, inputs):
        shape = self.compute_output_shape(inputs.shape)
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def compute_output_shape(self, input_shape):
        if self.data_format == "channels_last":
            return (input_shape[0], self.size, self.size, 3)
        return (input_shape[0], 3, self.size, self.size)

    def get_config(self):
        return {**super().get_config(), **{name: getattr(self, name) for name in self.FIELDS}}

    def _resized(self, x):
        """The middle of the resized image: one matrix a direction, the width first."""
        height, width = ops.shape(x)[2:]  # of which exported models know no numbers
        if x.shape[2:] == (self.size, self.size) and self.size in (self.edge, self._left_edge):
            return x
        edge = ops.where(self._leaves(height, width), self.size, self.edge)
        short = ops.minimum(height, width)
        # Pillow rounds to whole levels after each direction, halves upwards.
        x = _whole(ops.matmul(x, ops.transpose(self._matrix(width, edge * width // short))))
        return _whole(ops.matmul(self._matrix(height, edge * height // short), x))

    def _leaves(self, height, width):
        """Whether a picture of that size is left as it is."""
        return (height == self._left_edge) & (width == self._left_edge)

    @property
    def _left_edge(self):
        return -1 if self.resize_fitting else self.size

    def _matrix(self, length, target):
        """The share of each of `length` pixels in each cropped one of `target`: (size, length)."""
        pixels = ops.arange(length, dtype="float32") + 0.5
        length, target = ops.cast(length, "float32"), ops.cast(target, "float32")
        first = ops.round((target - self.size) / 2)  # to even, as Python rounds
        scale = length / target
        centres = (ops.arange(self.size, dtype="float32") + first + 0.5) * scale
        distances = ops.expand_dims(pixels, 0) - ops.expand_dims(centres, 1)
        nearness = ops.absolute(distances) / ops.maximum(scale, 1.0)
        shares = KERNELS[self.interpolation](nearness)
        return shares / ops.sum(shares, axis=1, keepdims=True)

    def _by_channel(self, values):
        return ops.reshape(ops.convert_to_tensor(list(values), "float32"), (1, 3, 1, 1))


def warn_unlike_pixels(images):
    """Warn of images that were meant to have values from 0 to 255 and cannot.

    Args:
        images: array or tensor. Whole numbers, and tensors that have no values yet or have them on
            another device, are not looked at.
    """
    low, high = _range(images)
    if low < 0 or 0 < high <= 1:
        warnings.warn(
            f"Images of values from 0 to 255 are wanted here. These go from {low:.3g} to "
            f"{high:.3g}, as if they had been scaled or normalized already.",
            stacklevel=3,
        )


def warn_unlike_normalized(images, mean=imagenet.MEAN, std=imagenet.STD):
    """Warn of images that were meant to be normalized and cannot be.

    Args:
        images: as for `warn_unlike_pixels`.
        mean, std: what they should have been normalized by, of values from 0 to 1.
    """
    highest = max((1 - m) / s for m, s in zip(mean, std, strict=True))
    low, high = _range(images)
    if high > 8 * highest:
        warnings.warn(
            f"This network wants normalized images, of values up to {highest:.3g}. These go from "
            f"{low:.3g} to {high:.3g}, as pixels do: `keras_resnext.preprocessing` or "
            "`preprocess_input` makes the one of the other.",
            stacklevel=3,
        )


def _range(images):
    """The least and the greatest value; not a number where looking would cost something."""
    unknown = np.nan, np.nan
    if "float" not in str(getattr(images, "dtype", "")):
        return unknown
    try:
        values = images if isinstance(images, np.ndarray) else images.numpy()
    except Exception:  # symbolic, differentiated or on another device: each framework has its own
        return unknown
    return (float(values.min()), float(values.max())) if values.size else unknown


def _triangle(x):
    return ops.relu(1.0 - x)


def _cubic(x):
    """Keys's kernel of a = -1/2, Pillow's."""
    near = (1.5 * x - 2.5) * x * x + 1.0
    far = ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0
    return ops.where(x < 1.0, near, ops.where(x < 2.0, far, 0.0))


KERNELS = {"bilinear": _triangle, "bicubic": _cubic}


def _whole(x):
    return ops.clip(ops.floor(x + 0.5), 0.0, 255.0)


def _three(name, values):
    values = tuple(float(value) for value in values)
    if len(values) != 3:
        raise ValueError(f"`{name}` needs 3 numbers, one a channel. Received: {name}={values}")
    return values
