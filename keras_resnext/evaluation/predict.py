"""Classification of image files."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_resnext.evaluation.classifier import Classifier


def predict(
    classifier: Classifier, paths: Sequence[str | Path], top: int = 5, batch_size: int = 32
) -> Iterator[dict]:
    """Yield for each file, in order, a dictionary with `image`, its path, and `classes` or `error`.

    `classes` are the `top` best, each with its `index`, `name` and `probability`.
    """
    paths = list(dict.fromkeys(paths))
    for start in range(0, len(paths), batch_size):
        batch = paths[start : start + batch_size]
        images, faults = {}, {}
        for path in batch:
            try:
                images[path] = classifier.read(path)
            except ValueError as error:
                faults[path] = str(error)
        probabilities = _probabilities(classifier, images)
        for path in batch:
            if path in faults:
                yield {"image": str(path), "error": faults[path]}
            else:
                classes = _best(probabilities[path], classifier, top)
                yield {"image": str(path), "classes": classes}


def _probabilities(
    classifier: Classifier, images: Mapping[str | Path, np.ndarray]
) -> dict[str | Path, np.ndarray]:
    """Return the probabilities of each image, in a batch per shape."""
    probabilities, by_shape = {}, {}
    for path, image in images.items():
        by_shape.setdefault(image.shape, []).append(path)
    for paths in by_shape.values():
        batch = np.stack([images[path] for path in paths])
        outputs = np.asarray(classifier.model.predict_on_batch(batch))
        probabilities |= zip(paths, classifier.probabilities(outputs), strict=True)
    return probabilities


def _best(probabilities: np.ndarray, classifier: Classifier, top: int) -> list[dict]:
    order = np.argsort(-probabilities, kind="stable")[:top]
    return [
        {
            "index": int(index),
            "name": classifier.class_names[index],
            "probability": float(probabilities[index]),
        }
        for index in order
    ]
