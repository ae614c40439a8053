"""The handwritten digits that come with scikit-learn; needs no download."""

import numpy as np

from keras_resnext.data.parts import TEST_FRACTION, Dataset, Part, stratified_split
from keras_resnext.data.sources import DataSource, Request


def load(request: Request) -> Dataset:
    """Return scikit-learn's 1,797 digits; the test part does not depend on the seed."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = _enlarge(data.images * (255 / 16), request.image_size or 32)[..., None]
    labels = data.target.astype(np.int64)
    train, test = (Part(images[i], labels[i]) for i in stratified_split(labels, TEST_FRACTION, 0))
    return Dataset(
        name="digits",
        source=request.source,
        train=train,
        test=test,
        class_names=tuple("0123456789"),
        image_size=images.shape[1],
        augmentation="shift",  # a mirrored 2 is no digit
        epochs=10,
        batch_size=32,
        mean=(0.305,) * 3,
        std=(0.324,) * 3,
    )


def _enlarge(images: np.ndarray, size: int) -> np.ndarray:
    """Resize (count, height, width) to (count, size, size), bilinearly, rounded to uint8."""

    def weights(length: int) -> np.ndarray:
        centers = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
        return np.clip(1 - np.abs(centers[:, None] - np.arange(length)), 0, None)

    rows, columns = (weights(length) for length in images.shape[1:])
    return np.rint(rows @ images @ columns.T).astype(np.uint8)


SOURCE = DataSource(
    "digits",
    lambda source: source == "digits",
    load,
    "handwritten digits that come with scikit-learn",
)
