"""A trained network with the preprocessing and the class names that belong to it."""

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
    """A trained network with what it takes to show it a picture and to read its answer.

    Args:
        model: `keras.Model` whose outputs are probabilities or logits, one per class.
        transform: Function from a uint8 image (height, width, 3) to what the model takes.
        preprocessing: `Preprocessing`, the same as a layer.
        class_names: Tuple of str, in the order of the outputs.
    """

    model: keras.Model
    transform: Callable
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def read(self, path: str | Path) -> np.ndarray:
        """Return an image file as the model takes it; a `ValueError` says why it is unreadable."""
        return np.asarray(self.transform(tf.constant(read_image(path))))

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Return the model's outputs as probabilities, whether they are logits or not."""
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
    """Load a trained network with its class names and the preprocessing that belongs to it.

    Models that were trained here or came with published weights hold all three (see `describe`);
    for others that were trained here, the config.json of the run does. For the rest, images are
    resized and cropped as published networks are tested: the shorter side to 8/7 of the size, the
    middle, ImageNet's mean and standard deviation. If ImageNet's class names cannot be downloaded,
    the classes are numbers.

    Args:
        source: str, path of a run's folder or of a .keras file (beside its config.json or alone),
            or a name that `list_models` returns.
        weights: str, weights of a named network: the path of their file, or the tag of a published
            checkpoint.
        image_size: int, height and width of the images in pixels. Defaults to the run's or the
            model's own.

    Returns:
        The `Classifier`.

    Raises:
        ValueError: If there is no such model, or it cannot be loaded.
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
    """Return a function from images of the pipeline to probabilities, and a data set for it.

    The data set is the given one, normalized as the model expects it.

    Raises:
        ValueError: If the classes differ.
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
    """Return what the config.json of a run says, if there is one."""
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
    """Return the function that prepares an image, and the layer that does the same."""
    if model.inputs[0].dtype == "uint8":  # it has a layer for that
        return (lambda image: image), Preprocessing(224, mean=(0,) * 3, std=(1,) * 3)
    fields = fields or {}
    size = image_size or model.input_shape[2] or fields.get("size") or 224
    layer = Preprocessing(**{**fields, "size": size})
    return layer.for_tf_data(), layer
