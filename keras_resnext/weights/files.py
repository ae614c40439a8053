"""The weights that `weights=` may name: this package's, timm's, PyTorch's, keras.applications'."""

import dataclasses
import pathlib
import warnings
import zipfile
from collections.abc import Mapping
from typing import Any

import h5py
import keras

from keras_resnext.models.variants import Variant
from keras_resnext.weights import keras_names
from keras_resnext.weights.download import fetch
from keras_resnext.weights.grammar import timm_form
from keras_resnext.weights.load import Config, blocks_of, classes_of, load_layers, load_tensors
from keras_resnext.weights.readers import read_tensors
from keras_resnext.weights.sources import Checkpoint, source_of


@dataclasses.dataclass(frozen=True)
class KerasFile:
    """A file that Keras saved of one of our networks; `classes` is None if unknown."""

    path: pathlib.Path
    classes: int | None = None
    source = None

    def adapt(self, config: Config) -> Config:
        """Return the configuration of the network that the weights were made for."""
        return config

    def load(self, network: keras.Model, config: Config) -> None:
        """Load the weights into a network."""
        try:
            network.load_weights(self.path)
        except Exception as error:
            raise ValueError(
                f'The weights in "{self.path}" do not fit this {network.name}: check the model, '
                "`classes`, `include_top` and the overrides against those it was saved with. "
                f"Keras says: {error}"
            ) from error


@dataclasses.dataclass(frozen=True)
class ApplicationsFile:
    """A file of keras.applications: the arrays of each layer by its name."""

    path: pathlib.Path
    layers: dict
    classes: int | None = None
    source = None

    def adapt(self, config: Config) -> Config:
        """Return the configuration of keras.applications' network."""
        return keras_names.keras_config(config)

    def load(self, network: keras.Model, config: Config) -> None:
        """Load the weights into a network."""
        load_layers(network, config, self.layers, f'"{self.path}"')


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Tensors by timm's or torchvision's names; `where` names them in errors."""

    where: str
    tensors: dict
    source: Checkpoint | None = None

    def adapt(self, config: Config) -> Config:
        """Return the configuration of timm's network."""
        return timm_form(config)

    def load(
        self, network: keras.Model, config: Config, strict: bool = True, advice: str = ""
    ) -> None:
        """Load the tensors into a network; see `load_tensors`."""
        load_tensors(network, config, self.tensors, strict, self.where, advice)

    @property
    def classes(self) -> int | None:
        """Number of classes of the classifier; None without one."""
        return classes_of(self.tensors)

    @property
    def blocks(self) -> tuple[int, ...] | None:
        """Number of blocks per stage; None if the network is not residual."""
        return blocks_of(self.tensors)


Weights = KerasFile | ApplicationsFile | Tensors


def find_weights(weights: str | pathlib.Path | Weights | None, row: Variant) -> Weights | None:
    """Return the weights that the argument of an application names, downloading a tag's."""
    if weights is None or isinstance(weights, Weights):
        return weights
    path = pathlib.Path(weights).expanduser()
    if path.is_file():
        return weights_in(path)
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f'`weights` names a file that does not exist: "{weights}".')
    return published(source_of(row, str(weights)))


def is_ours(weights: str | pathlib.Path) -> bool:
    """Return whether `weights` is the path of a `.keras` file."""
    path = pathlib.Path(weights).expanduser()
    return path.is_file() and _is_keras_archive(path)


def _is_keras_archive(path: pathlib.Path) -> bool:
    return zipfile.is_zipfile(path) and "model.weights.h5" in zipfile.ZipFile(path).namelist()


def published(source: Checkpoint) -> Tensors:
    """Return the tensors of a published checkpoint, downloading its file if missing."""
    if source.noncommercial:
        warnings.warn(
            f"{source.name} is licensed {source.license}: not for commercial use.", stacklevel=3
        )
    path = fetch(source.url, source.file_name, source.sha256)
    return Tensors(source.name, read_tensors(path), source)


def given_tensors(
    given: str | pathlib.Path | Mapping[str, Any], source: Checkpoint | None = None
) -> Tensors:
    """Return the tensors of a file or a dict; `source` is their row of the table, if known."""
    where = "the given dict" if isinstance(given, dict) else f'"{given}"'
    return Tensors(where, read_tensors(given), source)


def weights_in(path: str | pathlib.Path) -> Weights:
    """Return the weights in a file, recognized by its first bytes, whatever its name."""
    path = pathlib.Path(path).expanduser()
    if h5py.is_hdf5(path):
        layers = keras_names.read_layers(path)
        classes = keras_names.classes_of(layers)
        if any(keras_names.is_published(name) for name in layers):
            return ApplicationsFile(path, layers, classes)
        return KerasFile(path, classes)
    if _is_keras_archive(path):
        return KerasFile(path)
    return given_tensors(path)
