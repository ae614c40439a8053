"""Grad-CAM: the parts of an image that speak for a class (arXiv 1610.02391)."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import keras
import numpy as np

from keras_resnext.evaluation.classifier import Classifier
from keras_resnext.models.description import warn_of_range
from keras_resnext.models.features import feature_extractor
from keras_resnext.plots import plot_explanation


def grad_cam(
    model: keras.Model, images: np.ndarray, classes: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return Grad-CAM maps (batch, rows, columns), from 0 to 1, and the model's outputs.

    Classes default to those with the highest outputs. Since the last feature map goes through
    global average pooling into a dense layer, its gradient is the layer's weight divided by the
    number of pixels.
    """
    return GradCAM(model)(images, classes)


class GradCAM:
    """`grad_cam` of one model, for many batches."""

    def __init__(self, model: keras.Model) -> None:
        self.kernel = keras.ops.convert_to_numpy(_last_layer(model).kernel)
        features = list(feature_extractor(model).output.values())[-1]
        self.both = keras.Model(model.inputs, {"map": features, "outputs": model.output})

    def __call__(
        self, images: np.ndarray, classes: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what `grad_cam` returns."""
        warn_of_range(self.both, images)
        results = self.both.predict_on_batch(images)
        outputs = np.asarray(results["outputs"])
        feature_map = np.asarray(results["map"]).astype("float32")
        if keras.config.image_data_format() == "channels_first":
            feature_map = np.moveaxis(feature_map, 1, -1)
        if classes is None:
            classes = outputs.argmax(-1)
        weights = self.kernel[:, classes] / np.prod(feature_map.shape[1:3])
        maps = np.maximum(np.einsum("bhwk,kb->bhw", feature_map, weights), 0)
        highest = maps.max((1, 2), keepdims=True)
        return np.divide(maps, highest, out=np.zeros_like(maps), where=highest > 0), outputs


def explain_files(
    classifier: Classifier, answers: Iterable[dict], folder: str | Path
) -> Iterator[dict]:
    """Add `explanation`, the path of a picture for the best class, to each row of `predict`."""
    explainer = GradCAM(classifier.model)
    layer = classifier.preprocessing
    Path(folder).mkdir(parents=True, exist_ok=True)
    for answer in answers:
        if "error" in answer:
            yield answer
            continue
        best = answer["classes"][0]
        image = classifier.read(answer["image"])
        (heat,), _ = explainer(image[None], np.array([best["index"]]))
        path = _first_free(Path(folder, f"{Path(answer['image']).stem}.png"))
        title = f"{best['name']}: {best['probability']:.1%}"
        plot_explanation(np.clip(image * layer.std + layer.mean, 0, 1), heat, path, title)
        yield answer | {"explanation": str(path)}


def _first_free(path: Path) -> Path:
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
    return next(p for p in itertools.chain([path], numbered) if not p.exists())


def _last_layer(model: keras.Model) -> keras.Layer:
    layers = keras.layers
    kinds = [type(layer) for layer in model.layers if not isinstance(layer, layers.Dropout)]
    if kinds[-2:] != [layers.GlobalAveragePooling2D, layers.Dense]:
        raise ValueError(
            "Grad-CAM explains networks of this package that end in global average pooling and a "
            f"classifier. Received: {model.name}, which ends in "
            f"{' and '.join(kind.__name__ for kind in kinds[-2:])}"
        )
    return model.layers[-1]
