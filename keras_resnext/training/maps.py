"""Class activation maps of a model while it trains: what SnapMix weights labels by."""

from collections.abc import Callable

import keras
import numpy as np


def activation_maps(model: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function that computes the class activation maps of images for their labels.

    "Learning Deep Features for Discriminative Localization", section 2: the last feature maps,
    weighted by the classifier's kernel. The weights are those of the model when it is called;
    batches are prepared ahead, so they are a few steps old.

    Args:
        model: A `keras.Model` whose last layers are global average pooling and one dense layer.

    Returns:
        A function from images (batch, height, width, 3) and labels (batch, classes), both arrays,
        to float32 maps (batch, rows, columns) of at least 0.

    Raises:
        ValueError: For a model that ends otherwise, and on other backends than TensorFlow, where
            a model's weights are out of reach during an epoch.
    """
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "SnapMix needs the TensorFlow backend of Keras. Received: "
            f"{keras.backend.backend()}. CutMix needs none."
        )
    pools = [x for x in model.layers if isinstance(x, keras.layers.GlobalAveragePooling2D)]
    dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
    if not pools or not dense:
        raise ValueError(
            f'SnapMix needs a model that ends in GlobalAveragePooling2D and Dense; "{model.name}" '
            "does not. CutMix needs no such end."
        )
    features = keras.Model(model.inputs[0], pools[-1].input)
    kernel = dense[-1].kernel

    def maps(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        outputs = keras.ops.convert_to_numpy(features(images, training=False)).astype("float32")
        weights = keras.ops.convert_to_numpy(kernel).astype("float32")[:, labels.argmax(1)]
        scores = np.einsum("byxc,cb->byx", outputs, weights)
        return scores - scores.min((1, 2), keepdims=True)

    return maps
