"""Folders of real images."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(name="make_folder")
def _make_folder():
    return make_folder


def make_folder(root, classes=("cat", "dog"), count=5, size=(16, 16), suffix="png"):
    """Images whose red channel is the number of the file and green that of the class."""
    for label, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.zeros((*size, 3), np.uint8)
            pixels[..., 0], pixels[..., 1] = number, label
            Image.fromarray(pixels).save(root / name / f"{number}.{suffix}")
    return root
