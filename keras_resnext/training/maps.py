"""Class activation maps during training, by which SnapMix weights labels."""

from collections.abc import Callable

import keras
import numpy as np


def activation_maps(model: keras.Model) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Return a function from images and labels to class activation maps (batch, rows, columns).

    The maps are at least 0 and use the model's current weights, which backends other than
    TensorFlow hide during an epoch. The model must end in global average pooling and a dense layer.
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
