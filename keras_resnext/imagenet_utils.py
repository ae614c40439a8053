"""The steps before and after a network, as in `keras.applications.imagenet_utils`."""

import contextlib
import functools
import sys
from collections.abc import Sequence

import keras
import numpy as np

from keras_resnext import imagenet
from keras_resnext.checks import check, choice
from keras_resnext.errors import DownloadError
from keras_resnext.layers.image_input import IMAGENET, is_imagenet
from keras_resnext.layers.preprocessing import warn_unlike_pixels
from keras_resnext.models.description import description


def preprocess_input(
    x: np.ndarray | keras.KerasTensor,
    data_format: str | None = None,
    model: keras.Model | None = None,
) -> np.ndarray | keras.KerasTensor:
    """Normalize images of the right size, like the functions of this name in keras.applications.

    Use `keras_resnext.preprocessing` for images that must be resized and cropped first.

    Args:
        x: array or tensor, one image or a batch, with values from 0 to 255.
        data_format: `"channels_first"`, `"channels_last"`, or None for Keras's data format.
        model: `keras.Model` whose mean and standard deviation are used. None means ImageNet's,
            which most published networks of the family expect.

    Returns:
        A new float array or tensor like `x`.

    Raises:
        ValueError: If the data format is unknown, or the images do not have 3 channels.

    Warns:
        UserWarning: If the values of an array seem to be normalized already.

    Example:
    >>> import numpy as np
    >>> [round(v, 2) for v in preprocess_input(np.full((1, 1, 1, 3), 255.0)).ravel().tolist()]
    [2.25, 2.43, 2.64]
    """
    warn_unlike_pixels(x)
    own = (model and description(model).preprocessing) or {}
    mean, std = own.get("mean", imagenet.MEAN), own.get("std", imagenet.STD)
    data_format = data_format or keras.config.image_data_format()
    check("data_format", data_format, choice(("channels_last", "channels_first")))
    first = data_format == "channels_first"
    shape = tuple(x.shape if hasattr(x, "shape") else np.shape(x))
    if len(shape) not in (3, 4) or shape[-3 if first else -1] != 3:
        raise ValueError(
            f"Invalid value for `x`. Expected images of 3 channels, one or a batch, {data_format}. "
            f"Received: x of shape {shape}"
        )
    axes = (3, 1, 1) if first else (3,)
    scale, shift = (np.reshape(np.array(v, "float32"), axes) for v in (std, mean))
    if isinstance(x, np.ndarray):
        return ((x / np.float32(255) - shift) / scale).astype("float32")
    x = keras.ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(x.dtype):
        x = keras.ops.cast(x, "float32")
    return (x / 255 - keras.ops.cast(shift, x.dtype)) / keras.ops.cast(scale, x.dtype)


def decode_predictions(
    preds: np.ndarray | keras.KerasTensor,
    top: int = 5,
    class_names: Sequence[str] | keras.Model | None = None,
) -> list[list[tuple]]:
    """Name the best classes of each image.

    Args:
        preds: array or tensor `(batch, classes)` of probabilities or logits.
        top: int, number of classes per image.
        class_names: sequence of str in the order of the outputs; or the `keras.Model` that made
            `preds` and knows them (see `describe`). None means ImageNet's 1000 classes, whose
            names Keras downloads once.

    Returns:
        A list per image, the best first, of tuples `(class_id, class_name, score)`; the id is
        WordNet's for ImageNet, such as `"n02123045"`, or else the index of the output.

    Raises:
        ValueError: If `preds` is not a batch with one column per class.
        DownloadError: If ImageNet's names are needed and cannot be downloaded.

    Example:
    >>> import numpy as np
    >>> decode_predictions(np.array([[0.25, 0.75]]), top=1, class_names=["cat", "dog"])
    [[(1, 'dog', 0.75)]]
    """
    preds = np.asarray(keras.ops.convert_to_numpy(preds))
    if isinstance(class_names, keras.Model):
        class_names = _known_names(class_names)
    if class_names is None:
        class_names = IMAGENET
    pairs = imagenet_classes() if is_imagenet(class_names) else tuple(enumerate(class_names))
    if preds.ndim != 2 or preds.shape[1] != len(pairs):
        raise ValueError(
            f"Invalid value for `preds`. Expected the shape (batch, {len(pairs)}), one column per "
            "class name (`class_names`; ImageNet's 1000 by default). Received: preds of shape "
            f"{preds.shape}"
        )
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [
        [(*pairs[index], scores[index].item()) for index in order]
        for order, scores in zip(best, preds, strict=True)
    ]


@functools.cache
def imagenet_classes() -> tuple[tuple[str, str], ...]:
    """Return WordNet's ids and names of ImageNet's classes, or raise a `DownloadError`."""
    falling = -np.arange(1000.0)[None]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # the progress bar
            (rows,) = keras.applications.imagenet_utils.decode_predictions(falling, top=1000)
    except Exception as error:  # Keras raises no narrower one
        raise DownloadError(
            "The names of ImageNet's classes are missing and cannot be downloaded: give "
            f"`class_names`, or connect to a network once. Keras says: {error}"
        ) from error
    return tuple((identifier, name) for identifier, name, _ in rows)


def _known_names(model: keras.Model) -> Sequence[str] | None:
    names = description(model).class_names
    if names is None and model.output_shape[-1] != 1000:
        raise ValueError(
            f'The model "{model.name}" does not know the names of its classes: give them, or write '
            "them into the model with `keras_resnext.describe`."
        )
    return names
