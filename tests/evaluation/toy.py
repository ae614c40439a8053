"""The toy pictures' classes, and the preprocessing of their run by Pillow."""

import numpy as np
from PIL import Image

NAMES = ("dark", "bright", "red")
SIZE = 32


def transformed(path):
    """The run's preprocessing, by Pillow."""
    image = Image.open(path).convert("RGB")
    width, height = image.size
    width, height = (int(37 * edge / min(image.size)) for edge in (width, height))
    left, top = round((width - SIZE) / 2), round((height - SIZE) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    cropped = np.asarray(resized.crop((left, top, left + SIZE, top + SIZE)), "float32")
    return (cropped / 255 - 0.4) / 0.25
