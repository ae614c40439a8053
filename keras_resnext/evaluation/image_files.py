"""Finding and reading image files."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from keras_resnext.data.decode import decode
from keras_resnext.data.images import SUFFIXES, image_fault


def read_image(path: str | Path) -> np.ndarray:
    """Decode an image file to uint8 (height, width, 3), or raise a `ValueError` with its name."""
    fault = image_fault(path)
    if not fault:
        try:
            return decode(tf.io.read_file(str(path))).numpy()
        except (tf.errors.OpError, ValueError) as error:
            fault = str(error).split("} ", 1)[-1].split(" [Op:")[0]
    raise ValueError(f"Unreadable image {path}: {fault}.")


def find_images(sources: Sequence[str | Path]) -> list[Path]:
    """Return the given files, and all images below the given folders, in order of their names."""
    images = []
    for source in map(Path, sources):
        if not source.exists():
            raise ValueError(f'There is no image or folder "{source}".')
        below = [source]
        if source.is_dir():
            below = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
        if not below:
            raise ValueError(f'The folder "{source}" has no {", ".join(SUFFIXES)} in it.')
        images += below
    return images


class ImageBatches(Sequence):
    """Image files as batches of one, each read when needed; a truncated file raises immediately."""

    def __init__(self, paths: Sequence[str | Path], read: Callable) -> None:
        self.paths, self.read = list(paths), read
        for path in self.paths:
            if fault := image_fault(path):
                raise ValueError(f"Unreadable image {path}: {fault}. Replace or remove it.")

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:
        return self.read(self.paths[index])[None]
