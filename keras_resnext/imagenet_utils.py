"""What comes before and after a network, as `keras.applications.imagenet_utils` has it."""

import contextlib
import functools
import sys

import keras
import numpy as np

from keras_resnext import imagenet
from keras_resnext.errors import DownloadError, one_of
from keras_resnext.layers.image_input import IMAGENET, is_imagenet
from keras_resnext.layers.preprocessing import warn_unlike_pixels
from keras_resnext.models.description import description


def preprocess_input(x, data_format=None, model=None):
    """Normalize images of the right size, as the functions of that name in keras.applications do.

    Where they must be resized and cropped first, `keras_resnext.preprocessing` is for all of it.

    Args:
        x: array or tensor of images, of one or a batch, of values from 0 to 255.
        data_format: `"channels_first"` or `"channels_last"`; None for Keras's setting.
        model: the `keras.Model` that they are for, whose own mean and standard deviation are
            taken. None takes ImageNet's, which most published networks of the family want.

    Returns:
        A float array or tensor like `x`, which is not changed.

    Raises:
        ValueError: for an unknown data format, or images of other than 3 channels.

    Warns:
        UserWarning: if the values of an array cannot be from 0 to 255: if they are normalized
            already.

    Example:

    >>> import numpy as np
    >>> [round(v, 2) for v in preprocess_input(np.full((1, 1, 1, 3), 255.0)).ravel().tolist()]
    [2.25, 2.43, 2.64]
    """
    warn_unlike_pixels(x)
    own = (model and description(model).preprocessing) or {}
    mean, std = own.get("mean", imagenet.MEAN), own.get("std", imagenet.STD)
    data_format = data_format or keras.config.image_data_format()
    one_of("data_format", data_format, ("channels_last", "channels_first"))
    first = data_format == "channels_first"
    given = tuple(x.shape if hasattr(x, "shape") else np.shape(x))
    if len(given) not in (3, 4) or given[-3 if first else -1] != 3:
        raise ValueError(
            f"`x` needs images of 3 channels, one or a batch, {data_format}. "
            f"Received: x of shape {given}"
        )
    shape = (3, 1, 1) if first else (3,)
    scale, shift = (np.reshape(np.array(v, "float32"), shape) for v in (std, mean))
    if isinstance(x, np.ndarray):
        return ((x / np.float32(255) - shift) / scale).astype("float32")
    x = keras.ops.convert_to_tensor(x)
    if not keras.backend.is_float_dtype(x.dtype):
        x = keras.ops.cast(x, "float32")
    return (x / 255 - keras.ops.cast(shift, x.dtype)) / keras.ops.cast(scale, x.dtype)


def decode_predictions(preds, top=5, class_names=None):
    """Name the best classes of each image.

    Args:
        preds: array or tensor `(batch, classes)` of probabilities or logits.
        top: int, how many classes to give.
        class_names: sequence of str in the order of the outputs; or the `keras.Model` that gave
            `preds` and knows them (see `describe`). None takes those of ImageNet's 1000 classes,
            which Keras downloads once.

    Returns:
        A list for each image, the best first, of tuples `(class_id, class_name, score)`: for
        ImageNet WordNet's identifier, such as `"n02123045"`, else the index of the output.

    Raises:
        ValueError: if `preds` is no batch of that many classes, or, a `DownloadError`, if the
            names of ImageNet are needed and not to be had.

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
            f"`preds` needs the shape (batch, {len(pairs)}), one column for each of the class "
            f"names (`class_names`; ImageNet's 1000 by default). Received: {preds.shape}"
        )
    best = np.argsort(-preds, axis=1, kind="stable")[:, :top]
    return [
        [(*pairs[index], scores[index].item()) for index in order]
        for order, scores in zip(best, preds, strict=True)
    ]


@functools.cache
def imagenet_classes():
    """Return ImageNet's classes in the order of the outputs, by Keras's list of them.

    Returns:
        tuple of 1000 pairs of WordNet's identifier and a name.

    Raises:
        DownloadError: if Keras cannot download its list.
    """
    falling = -np.arange(1000.0)[None]
    try:
        with contextlib.redirect_stdout(sys.stderr):  # of its progress
            (rows,) = keras.applications.imagenet_utils.decode_predictions(falling, top=1000)
    except Exception as error:  # Keras raises no narrower one
        raise DownloadError(
            "The names of ImageNet's classes are not here and cannot be downloaded: give "
            f"`class_names`, or see to a network once. Keras says: {error}"
        ) from error
    return tuple((identifier, name) for identifier, name, _ in rows)


def _known_names(model):
    names = description(model).class_names
    if names is None and model.output_shape[-1] != 1000:
        raise ValueError(
            f'The model "{model.name}" does not know the names of its classes: give them, or write '
            "them into it with `keras_resnext.describe`."
        )
    return names
