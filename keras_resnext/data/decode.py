"""Decoding of image files: most by tf.io, several times as fast as Pillow, the rest by Pillow."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_resnext.data.lazy import tf

if TYPE_CHECKING:
    import numpy as np

# By orientation, from 0: whether stored rows are columns, and whether then top and bottom, left and
# right change places. Section 4.6.4 of the Exif standard.
TURNS = tuple(
    tuple(digit == "1" for digit in turn)
    for turn in ("000", "000", "001", "011", "010", "100", "101", "111", "110")
)
ORIENTATION_TAG = 0x0112
RATIOS = (1, 2, 4, 8)
# Bilinear sampling sees two pixels in each direction: beyond this factor it would skip some.
LEAST_ANTIALIASED = 2.0


@dataclass(frozen=True)
class Crop:
    """The bounds of a random crop: share of the image's area, and width over height."""

    area: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)


def decode(contents: tf.Tensor) -> tf.Tensor:
    """Decode a JPEG, PNG, GIF (first frame), BMP or WebP to uint8 (height, width, 3), upright."""
    image = tf.cond(
        tf.io.is_jpeg(contents),
        lambda: upright(tf.io.decode_jpeg(contents, channels=3), orientation(contents)),
        lambda: _decode_other(contents),
    )
    return tf.ensure_shape(image, [None, None, 3])


def decode_crop(contents: tf.Tensor, relative: tf.Tensor, size: int) -> tf.Tensor:
    """Decode only the window of `relative_windows`, and resize it to a square."""

    def plain() -> tf.Tensor:
        window = pixel_windows(relative, tf.io.extract_jpeg_shape(contents)[:2])
        return _shrunk(_decode_window(contents, window, size), size)

    @_apart
    def any_other() -> tf.Tensor:
        return tf.cond(
            tf.io.is_jpeg(contents),
            lambda: _decode_turned_crop(contents, relative, size),
            lambda: _crop_whole(_decode_other(contents), relative, size),
        )

    return tf.ensure_shape(tf.cond(_is_plain(contents), plain, any_other), [size, size, 3])


def _apart(function: Callable) -> Callable:
    """Turn a rarely taken branch into a single operation, so that skipping it costs little."""
    return tf.function(function, experimental_attributes={"_noinline": True})


def _is_plain(contents: tf.Tensor) -> tf.Tensor:
    """Return whether a JPEG certainly has no EXIF, at little cost."""
    begin = _text(contents, 2, 4)
    after_jfif = (begin == b"\xff\xe0\x00\x10") & (_text(contents, 20, 2) != b"\xff\xe1")
    return tf.io.is_jpeg(contents) & (after_jfif | (tf.strings.substr(begin, 0, 2) == b"\xff\xdb"))


def _decode_turned_crop(contents: tf.Tensor, relative: tf.Tensor, size: int) -> tf.Tensor:
    turn = orientation(contents)
    stored_shape = tf.io.extract_jpeg_shape(contents)[:2]
    transposed = tf.gather(TURNS, turn)[0]
    shape = tf.where(transposed, stored_shape[::-1], stored_shape)
    window = _stored_window(pixel_windows(relative, shape), turn, shape)
    return upright(_shrunk(_decode_window(contents, window, size), size), turn)


def _crop_whole(image: tf.Tensor, relative: tf.Tensor, size: int) -> tf.Tensor:
    return crop_image(image, pixel_windows(relative, tf.shape(image)[:2]), size)


def crop_image(image: tf.Tensor, window: tf.Tensor, size: int) -> tf.Tensor:
    """Crop a part of an image, a row of `pixel_windows`, and resize it to a square."""
    begin, extent = (tf.pad(part, [[0, 1]]) for part in (window[:2], window[2:]))
    part = tf.slice(image, begin, extent + [0, 0, image.shape[-1]])
    if None not in image.shape and max(image.shape[:2]) <= LEAST_ANTIALIASED * size:
        cropped = _shrunk(part, size)
    else:
        factor = tf.cast(tf.reduce_max(window[2:]), tf.float32) / size
        skips = _apart(lambda: _antialiased(part, size))
        cropped = tf.cond(factor > LEAST_ANTIALIASED, skips, lambda: _shrunk(part, size))
    return tf.ensure_shape(cropped, [size, size, image.shape[-1]])


def relative_windows(draws: tf.Tensor, crop: Crop) -> tf.Tensor:
    """Turn numbers (4, ...) in [0, 1) into windows (..., 4) for images of any size.

    A window has its height and width as shares of the square root of the image's area, then its
    vertical and horizontal position from 0 to 1. As in "Going Deeper with Convolutions", section 6,
    the area and the logarithm of width over height are uniform.
    """
    import numpy as np

    draw = tf.unstack(draws)
    edge = tf.sqrt(crop.area[0] + draw[0] * (crop.area[1] - crop.area[0]))
    low, high = np.log(np.float32(crop.ratio))
    stretch = tf.exp((low + draw[1] * (high - low)) / 2)
    return tf.stack([edge / stretch, edge * stretch, draw[2], draw[3]], -1)


def fit_windows(relative: tf.Tensor, shape: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the corners and extents of `relative_windows`, clipped to images of shape (..., 2)."""
    shape = tf.cast(shape, tf.float32)
    extent = tf.round(relative[..., :2] * tf.sqrt(tf.reduce_prod(shape, -1, keepdims=True)))
    extent = tf.clip_by_value(extent, 1.0, shape)
    corner = tf.floor(relative[..., 2:] * (shape - extent + 1))
    return tf.minimum(corner, shape - extent), extent


def pixel_windows(relative: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return the windows of `fit_windows` as int32 (..., 4): top, left, height, width."""
    return tf.cast(tf.concat(fit_windows(relative, shape), -1), tf.int32)


def _stored_window(window: tf.Tensor, turn: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Convert a window of the upright image to one of the stored image."""
    transposed, *flipped = tf.unstack(tf.gather(TURNS, turn))
    corner, extent = window[:2], window[2:]
    corner = tf.where(tf.stack(flipped), shape - corner - extent, corner)
    whole = tf.stack([corner, extent])
    return tf.reshape(tf.where(transposed, whole[:, ::-1], whole), [4])


def upright(image: tf.Tensor, turn: tf.Tensor) -> tf.Tensor:
    """Turn a stored image (height, width, channels) upright, given its orientation from 1 to 8."""

    def turned() -> tf.Tensor:
        transposed, vertical, horizontal = tf.unstack(tf.gather(TURNS, turn))
        result = tf.cond(transposed, lambda: tf.transpose(image, [1, 0, 2]), lambda: image)
        result = tf.cond(vertical, lambda: result[::-1], lambda: result)
        return tf.cond(horizontal, lambda: result[:, ::-1], lambda: result)

    return tf.cond(turn > 1, turned, lambda: image)


def orientation(contents: tf.Tensor) -> tf.Tensor:
    """Return the EXIF orientation of a JPEG, 1 to 8; 1 (upright) by default."""
    place = tf.where(_text(contents, 2, 2) == b"\xff\xe0", 4 + _big_endian(_raw(contents, 4, 2)), 2)
    is_exif = (_text(contents, place, 2) == b"\xff\xe1") & (
        _text(contents, place + 4, 6) == b"Exif\0\0"
    )
    return tf.cond(is_exif, lambda: _orientation(contents, place), lambda: 1)


def _orientation(contents: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
    length = _big_endian(_raw(contents, place + 2, 2))
    little = _text(contents, place + 10, 2) == b"II"
    data = tf.cast(_raw(contents, place + 10, length), tf.int32)

    def number(pair: tf.Tensor) -> tf.Tensor:
        first, second = pair[..., 0], pair[..., 1]
        return tf.where(little, first + 256 * second, 256 * first + second)

    offset = number(tf.where(little, data[4:6], data[6:8]))
    count = number(data[offset : offset + 2])
    entries = data[offset + 2 : offset + 2 + 12 * count]
    entries = tf.reshape(entries[: tf.size(entries) // 12 * 12], [-1, 12])
    ours = number(entries[:, :2]) == ORIENTATION_TAG
    value = tf.reduce_sum(tf.where(ours, number(entries[:, 8:10]), 0))
    return tf.where((value >= 1) & (value <= 8), value, 1)


def _text(contents: tf.Tensor, place: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    """Return a slice of a string, without an error if the string is too short."""
    last = tf.maximum(tf.strings.length(contents) - 1, 0)
    return tf.strings.substr(contents, tf.minimum(place, last), length)


def _raw(contents: tf.Tensor, place: tf.Tensor | int, length: tf.Tensor | int) -> tf.Tensor:
    return tf.io.decode_raw(_text(contents, place, length), tf.uint8)


def _big_endian(pair: tf.Tensor) -> tf.Tensor:
    pair = tf.cast(tf.concat([pair, tf.zeros([2], tf.uint8)], 0), tf.int32)
    return 256 * pair[0] + pair[1]


def _decode_window(contents: tf.Tensor, window: tf.Tensor, size: int) -> tf.Tensor:
    """Decode a window of a JPEG at the coarsest ratio that still has `size` pixels each way."""

    def at(ratio: int) -> Callable:
        def decoded() -> tf.Tensor:
            begin = window[:2] // ratio
            extent = tf.maximum(window[2:] // ratio, 1)
            return tf.image.decode_and_crop_jpeg(
                contents,
                tf.concat([begin, extent], 0),
                channels=3,
                ratio=ratio,
                dct_method="INTEGER_FAST",
                fancy_upscaling=False,
            )

        return decoded

    room = tf.reduce_min(window[2:]) // size

    @_apart
    def coarser() -> tf.Tensor:
        level = tf.reduce_sum(tf.cast(room >= RATIOS[2:], tf.int32))
        return tf.switch_case(level, [at(ratio) for ratio in RATIOS[1:]])

    return tf.cond(room < RATIOS[1], at(1), coarser)


def _shrunk(image: tf.Tensor, size: int) -> tf.Tensor:
    # TensorFlow resizes float32 so much faster than uint8 that the cast pays twice over. Between
    # pixels no value is beyond theirs: nothing to clip.
    resized = tf.image.resize(tf.cast(image, tf.float32), [size, size])
    return tf.cast(resized + 0.5, tf.uint8)


def _antialiased(image: tf.Tensor, size: int) -> tf.Tensor:
    """Resize an image bilinearly, without skipping pixels."""
    result = tf.image.resize(image, [size, size], antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(result), 0, 255), tf.uint8)


def _decode_other(contents: tf.Tensor) -> tf.Tensor:
    by_tensorflow = (_text(contents, 0, 4) == b"\x89PNG") | (_text(contents, 0, 4) == b"GIF8")
    image = tf.cond(
        by_tensorflow,
        lambda: tf.io.decode_image(contents, channels=3, expand_animations=False),
        lambda: tf.numpy_function(
            # As numbers: a NumPy string loses the zeros at its end.
            _by_pillow,
            [tf.io.decode_raw(contents, tf.uint8)],
            tf.uint8,
        ),
    )
    return tf.ensure_shape(image, [None, None, 3])


def _by_pillow(contents: np.ndarray) -> np.ndarray:
    import numpy as np
    from PIL import BmpImagePlugin, Image, ImageOps, WebPImagePlugin  # noqa: F401 they register

    try:
        with Image.open(io.BytesIO(contents.tobytes()), formats=("BMP", "WEBP")) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, ValueError) as error:
        raise ValueError(f"neither JPEG, PNG, GIF, BMP, WebP, or broken: {error}") from error
