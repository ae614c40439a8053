"""What a trained network says of image files."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnext.applications import create_model
from keras_resnext.data.images import SUFFIXES, image_fault
from keras_resnext.data.parts import Dataset
from keras_resnext.data.pipeline import decode, to_pixels
from keras_resnext.errors import DownloadError
from keras_resnext.evaluation.source import find_model
from keras_resnext.imagenet_utils import imagenet_classes
from keras_resnext.layers import Preprocessing
from keras_resnext.layers.image_input import IMAGENET, Description
from keras_resnext.models.description import description
from keras_resnext.training.build import test_preprocessing
from keras_resnext.training.run_folder import CONFIG


@dataclass(frozen=True, eq=False)
class Classifier:
    """A trained network with what it takes to show it a picture and to read its answer.

    Args:
        model: Gives probabilities or logits, one a class.
        transform: From a uint8 image (height, width, 3) to what the model takes.
        preprocessing: The same as a layer.
        class_names: In the order of the outputs.
    """

    model: keras.Model
    transform: Callable
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    def read(self, path: str | Path) -> np.ndarray:
        """Decode an image file and give what the model takes.

        Raises:
            ValueError: If it cannot be read, with its name and why.
        """
        return np.asarray(self.transform(tf.constant(read_image(path))))

    def probabilities(self, outputs: np.ndarray) -> np.ndarray:
        """Turn the model's outputs into probabilities, if they are logits."""
        last = self.model
        while isinstance(last, keras.Model):  # one with preprocessing in front of it
            last = last.layers[-1]
        if getattr(last, "activation", None) is keras.activations.softmax:
            return outputs
        exponents = np.exp(outputs - outputs.max(-1, keepdims=True))
        return exponents / exponents.sum(-1, keepdims=True)


def read_image(path: str | Path) -> np.ndarray:
    """Decode a JPEG, PNG, BMP, WebP or GIF (its first frame).

    Args:
        path: Of the file.

    Returns:
        uint8 of shape (height, width, 3).

    Raises:
        ValueError: If it cannot be, with its name and why.
    """
    fault = image_fault(path)
    if not fault:
        try:
            return decode(tf.io.read_file(str(path))).numpy()
        except (tf.errors.OpError, ValueError) as error:
            fault = str(error).split("} ", 1)[-1].split(" [Op:")[0]
    raise ValueError(f"Unreadable image {path}: {fault}.")


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """Give the image files among files and folders; of folders, those below them too.

    Args:
        sources: Files, whatever their names, and folders.

    Returns:
        Their paths, those of a folder in the order of their names.

    Raises:
        ValueError: For a path that is not there, and a folder without an image.
    """
    found = []
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f'There is no image or folder "{source}".')
        below = [source]
        if source.is_dir():
            below = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not below:
            raise ValueError(f'The folder "{source}" has no {", ".join(SUFFIXES)} in it.')
        found += below
    return found


class ImageBatches(Sequence):
    """Image files as batches of one, read when they are asked for.

    Args:
        paths: Of the files.
        read: From a path to an image.

    Raises:
        ValueError: If a file is no whole image, by its ends.
    """

    def __init__(self, paths: Sequence[str | Path], read: Callable):
        self.paths, self.read = list(paths), read
        for path in self.paths:
            if fault := image_fault(path):
                raise ValueError(f"Unreadable image {path}: {fault}. Replace or remove it.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.paths[index])[None]


def load_classifier(
    source: str | Path, weights: str | Path | None = None, image_size: int | None = None
) -> Classifier:
    """Load a trained network with its class names and the preprocessing that belongs to it.

    Models that were trained here or came with published weights say all three themselves (see
    `describe`); of others that were trained here, the config.json of the run does. For all the
    rest images are resized and cropped as published networks are tested: the shorter side to 8/7
    of the size, the middle, ImageNet's mean and standard deviation. Where ImageNet's names are not
    to be had, the classes are numbers.

    Args:
        source: A run's folder, a .keras file (beside its config.json or alone), or a name that
            ``list_models`` gives.
        weights: The file of a named network's weights, or the tag of a published checkpoint.
        image_size: Edge of the square images, in pixels. Default: the run's or the model's own.

    Returns:
        A Classifier.

    Raises:
        ValueError: If there is no such thing, or it cannot be loaded.
    """
    found = find_model(source, weights)
    if isinstance(found, Path):
        model, run = _load(found), _run_description(found.with_name(CONFIG))
    else:
        shape = (image_size, image_size, 3) if image_size else None
        model, run = create_model(found, weights=weights, input_shape=shape), Description()
    if len(model.inputs) != 1 or len(model.output_shape) != 2:
        raise ValueError(
            f'"{source}" is no classifier of images: it gives outputs of {model.output_shape}'
        )
    own = description(model)
    names = _names(own.class_names or run.class_names, model.output_shape[-1])
    if len(names) != model.output_shape[-1]:
        raise ValueError(
            f"{found.with_name(CONFIG)} has {len(names)} class names, the model "
            f"{model.output_shape[-1]} outputs."
        )
    transform, layer = _transform(model, own.preprocessing or run.preprocessing, image_size)
    return Classifier(model, transform, layer, names)


def as_predictor(classifier: Classifier, dataset: Dataset) -> tuple[Callable, Dataset]:
    """Bring a classifier and a data set together, for what knows no classifiers.

    Args:
        classifier: From ``load_classifier``.
        dataset: Of as many classes, in images of the size that the model takes.

    Returns:
        A function from images as the pipeline feeds them to probabilities, and the data set
        normalised as the model wants it.

    Raises:
        ValueError: If the classes are others.
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

    def probabilities(images):
        fed = to_pixels(images, dataset) if raw else images
        return classifier.probabilities(np.asarray(classifier.model.predict_on_batch(fed)))

    return probabilities, dataset


def _few(names: Sequence[str]) -> str:
    return ", ".join((*names[:3], "...") if len(names) > 4 else names)


def predict(
    classifier: Classifier, paths: Sequence[str | Path], top: int = 5, batch_size: int = 32
) -> Iterator[dict]:
    """Say what is on image files.

    Args:
        classifier: From ``load_classifier``.
        paths: Of the files.
        top: How many classes to give of each.
        batch_size: Images at a time.

    Yields:
        For each file, in order, ``image`` (its path) and either ``classes``, the best first, each
        with its ``index``, ``name`` and ``probability``, or ``error``.
    """
    paths = list(dict.fromkeys(paths))
    for start in range(0, len(paths), batch_size):
        some = paths[start : start + batch_size]
        images, faults = {}, {}
        for path in some:
            try:
                images[path] = classifier.read(path)
            except ValueError as error:
                faults[path] = str(error)
        answers = _answers(classifier, images)
        for path in some:
            if path in faults:
                yield {"image": str(path), "error": faults[path]}
            else:
                yield {"image": str(path), "classes": _best(answers[path], classifier, top)}


def _answers(classifier, images: dict) -> dict:
    """The probabilities of each image, those of one shape together."""
    answers, by_shape = {}, {}
    for path, image in images.items():
        by_shape.setdefault(image.shape, []).append(path)
    for paths in by_shape.values():
        batch = np.stack([images[path] for path in paths])
        outputs = np.asarray(classifier.model.predict_on_batch(batch))
        answers |= zip(paths, classifier.probabilities(outputs), strict=True)
    return answers


def _best(probabilities, classifier, top: int) -> list[dict]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {
            "index": int(index),
            "name": classifier.class_names[index],
            "probability": float(probabilities[index]),
        }
        for index in order
    ]


def _load(path: Path):
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever a broken zip, HDF5 or JSON raises
        raise ValueError(f'"{path}" cannot be loaded as a Keras model: {error}') from error


def _run_description(path: Path) -> Description:
    """What the config.json of a run says, if there is one."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Description()
    except ValueError as error:
        raise ValueError(f'"{path}" is no JSON: {error}') from error
    images = facts.get("preprocessing")
    if images:
        size, edge = images["image_size"], images["resize_shorter_side"]
        layer = test_preprocessing(size, edge, images["mean"], images["std"])
        images = {name: getattr(layer, name) for name in Preprocessing.FIELDS}
    return Description(images, tuple(facts.get("class_names") or ()))


def _names(known, classes: int) -> tuple[str, ...]:
    if known == IMAGENET:
        with suppress(DownloadError):
            return tuple(name for _, name in imagenet_classes())
    if not known or known == IMAGENET:
        return tuple(map(str, range(classes)))
    return known


def _transform(model, known: dict | None, image_size: int | None):
    """The function that prepares an image, and the layer that does the same."""
    if model.inputs[0].dtype == "uint8":  # it has a layer for that
        return (lambda image: image), Preprocessing(224, mean=(0,) * 3, std=(1,) * 3)
    known = known or {}
    size = image_size or model.input_shape[2] or known.get("size") or 224
    layer = Preprocessing(**{**known, "size": size})
    return layer.for_tf_data(), layer
