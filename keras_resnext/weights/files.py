"""What `weights=` may be: ours, timm's, PyTorch's, keras.applications', or the name of a tag."""

import dataclasses
import pathlib
import warnings
import zipfile

import h5py

from keras_resnext.weights import keras_names
from keras_resnext.weights.download import fetch
from keras_resnext.weights.grammar import timm_form
from keras_resnext.weights.load import blocks_of, classes_of, load_layers, load_tensors
from keras_resnext.weights.readers import read_tensors
from keras_resnext.weights.sources import Source, source_of


@dataclasses.dataclass(frozen=True)
class KerasFile:
    """A file that Keras saved of one of our networks."""

    path: pathlib.Path
    classes: int | None = None
    source = None

    def adapt(self, config):
        """The configuration of the network that the weights were made for."""
        return config

    def load(self, network, config):
        """Give the network its weights."""
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
    """A file of keras.applications."""

    path: pathlib.Path
    layers: dict
    classes: int | None = None
    source = None

    def adapt(self, config):
        """The configuration of keras.applications' network."""
        return keras_names.keras_form(config)

    def load(self, network, config):
        """Give the network its weights."""
        load_layers(network, config, self.layers, f'"{self.path}"')


@dataclasses.dataclass(frozen=True)
class Tensors:
    """Tensors by timm's or torchvision's names; `source` is their row of the table, if any."""

    where: str
    tensors: dict
    source: Source | None = None

    def adapt(self, config):
        """The configuration of timm's network."""
        return timm_form(config)

    def load(self, network, config, strict=True, advice=""):
        """Give the network its weights; see `load_tensors`."""
        load_tensors(network, config, self.tensors, strict, self.where, advice)

    @property
    def classes(self):
        """The number of classes of the classifier; None without one."""
        return classes_of(self.tensors)

    @property
    def blocks(self):
        """The blocks of each stage, of a residual network."""
        return blocks_of(self.tensors)


def find_weights(weights, row):
    """Return the weights that the argument of an application means; a tag is downloaded.

    Args:
        weights: None; the path of a `.keras` or `.weights.h5` file of ours, of a file of
            keras.applications, of a safetensors or of a PyTorch file by timm's or torchvision's
            names; or `"imagenet"` or another tag of a published checkpoint. What was found
            before is given back.
        row: the `Variant` that is built.

    Returns:
        `KerasFile`, `ApplicationsFile` or `Tensors`; or None.

    Raises:
        ValueError: if it is none of these, before anything is built.
    """
    if weights is None or isinstance(weights, (KerasFile, ApplicationsFile, Tensors)):
        return weights
    path = pathlib.Path(weights).expanduser()
    if path.is_file():
        return weights_in(path)
    if path.suffix or len(path.parts) > 1:
        raise ValueError(f'`weights` names a file that is not there: "{weights}".')
    return published(source_of(row, str(weights)))


def is_ours(weights):
    """Whether `weights` is the path of a `.keras` file."""
    path = pathlib.Path(weights).expanduser()
    return path.is_file() and _is_keras_archive(path)


def _is_keras_archive(path):
    return zipfile.is_zipfile(path) and "model.weights.h5" in zipfile.ZipFile(path).namelist()


def published(source):
    """Return the tensors of a published checkpoint, downloading its file unless it is there."""
    if source.noncommercial:
        warnings.warn(
            f"{source.name} is licensed {source.licence}: not for commercial use.", stacklevel=3
        )
    path = fetch(source.url, source.file_name, source.sha256)
    return Tensors(source.name, read_tensors(path), source)


def given_tensors(given, source=None):
    """Return the tensors of a file or a dict, which are those of a row of the table, or unknown."""
    where = "the given dict" if isinstance(given, dict) else f'"{given}"'
    return Tensors(where, read_tensors(given), source)


def weights_in(path):
    """Return the weights in a file, by what it begins with, whatever it is called.

    Raises:
        ValueError: if it is none of weights, or damaged, or not there.
    """
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
