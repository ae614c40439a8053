"""A trained network with its preprocessing and class names."""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import to_pixels
from keras_resnext.errors import DownloadError
from keras_resnext.evaluation.image_files import read_image
from keras_resnext.imagenet_utils import imagenet_classes
from keras_resnext.layers import Preprocessing
from keras_resnext.layers.image_input import IMAGENET, Description
from keras_resnext.model_files import find_trained_model, open_model
from keras_resnext.models.description import description
from keras_resnext.training.build import test_preprocessing
from keras_resnext.training.run_folder import CONFIG


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network, its preprocessing and its class names.

    `transform` maps a uint8 image (height, width, 3) to the model's input; `preprocessing` is the
    same as a layer. The model's outputs may be probabilities or logits.
    """

    model: keras.Model
    transform: Callable
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def read(self, path: str | Path) -> np.ndarray:
        """Return an image file as the model takes it, or raise a `ValueError`."""
        return np.asarray(self.transform(tf.constant(read_image(path))))

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the model's outputs as probabilities, whether or not they are logits."""
        last = self.model
        while isinstance(last, keras.Model):  # one with preprocessing in front of it
            last = last.layers[-1]
        if getattr(last, "activation", None) is keras.activations.softmax:
            return outputs
        exponents = np.exp(outputs - outputs.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)


def load_classifier(
    source: str | Path, weights: str | Path | None = None, image_size: int | None = None
) -> Classifier:
    """Load a trained network, from a run's folder, a .keras file or by name, as a classifier.

    If neither the model nor the run's config.json describes the preprocessing, it is that of
    published networks. Without class names, classes are numbered.
    """
    path = find_trained_model(source, weights)
    model, run = open_model(path, weights, image_size), Description()
    if isinstance(path, Path):
        run = _run_description(path.with_name(CONFIG))
    if len(model.inputs) != 1 or len(model.output_shape) != 2:
        raise ValueError(
            f'"{source}" is no classifier of images: its outputs have the shape '
            f"{model.output_shape}"
        )
    own = description(model)
    names = _names(own.class_names or run.class_names, model.output_shape[-1])
    if len(names) != model.output_shape[-1]:
        raise ValueError(
            f"{path.with_name(CONFIG)} has {len(names)} class names, the model "
            f"{model.output_shape[-1]} outputs."
        )
    transform, layer = _transform(model, own.preprocessing or run.preprocessing, image_size)
    return Classifier(model, transform, layer, names)


def as_predictor(classifier: Classifier, dataset: Dataset) -> tuple[Callable, Dataset]:
    """Return a function from the pipeline's images to probabilities, and the data set for it.

    The data set is normalized as the model expects. Raise a `ValueError` if its classes differ.
    """
    if classifier.class_names != dataset.class_names and (
        classifier.class_names != tuple(map(str, range(dataset.classes)))
    ):
        raise ValueError(
            f"The model knows the {len(classifier.class_names)} classes "
            f"{_few(classifier.class_names)}, the data has {dataset.classes}: "
            f"{_few(dataset.class_names)}."
        )
    layer = classifier.preprocessing
    dataset = replace(dataset, mean=tuple(layer.mean), std=tuple(layer.std))
    raw = classifier.model.inputs[0].dtype == "uint8"

    def probabilities(images: np.ndarray) -> np.ndarray:
        inputs = to_pixels(images, dataset) if raw else images
        return classifier.probabilities(np.asarray(classifier.model.predict_on_batch(inputs)))

    return probabilities, dataset


def _few(names: Sequence[str]) -> str:
    return ", ".join((*names[:3], "...") if len(names) > 4 else names)


def _run_description(path: Path) -> Description:
    """Return the description in a run's config.json, if there is one."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Description()
    except ValueError as error:
        raise ValueError(f'"{path}" is no JSON: {error}') from error
    images = config.get("preprocessing")
    if images:
        size, edge = images["image_size"], images["resize_shorter_side"]
        layer = test_preprocessing(size, edge, images["mean"], images["std"])
        images = {name: getattr(layer, name) for name in Preprocessing.FIELDS}
    return Description(images, tuple(config.get("class_names") or ()))


def _names(names: tuple[str, ...] | str, classes: int) -> tuple[str, ...]:
    if names == IMAGENET:
        with suppress(DownloadError):
            return tuple(name for _, name in imagenet_classes())
    if not names or names == IMAGENET:
        return tuple(map(str, range(classes)))
    return names


def _transform(
    model: keras.Model, fields: dict | None, image_size: int | None
) -> tuple[Callable, Preprocessing]:
    """Return the preprocessing of an image as a function and as a layer."""
    if model.inputs[0].dtype == "uint8":  # it has a layer for that
        return (lambda image: image), Preprocessing(224, mean=(0,) * 3, std=(1,) * 3)
    fields = fields or {}
    size = image_size or model.input_shape[2] or fields.get("size") or 224
    layer = Preprocessing(**{**fields, "size": size})
    return layer.for_tf_data(), layer
