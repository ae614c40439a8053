"""Loading a trained model from a run's folder, a .keras file, or by name with weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from keras_resnext.errors import unknown
from keras_resnext.models import variants

if TYPE_CHECKING:
    import keras

# In the folder of a run.
MODEL = "model.keras"
NO_MODEL = 'There is no model file and no folder of a run "{}".'


def find_model(source: str | Path, weights: str | Path | None = None) -> Path | str:
    """Return the path of a model's file, or the name of a network in the table.

    Example:
    >>> find_model("resnext50_32x4d", weights="mine.weights.h5")
    'ResNeXt50'
    """
    path = Path(source)
    if path.exists():
        if weights is not None:
            raise ValueError(
                f'"{source}" has its own weights. Give the name of a network (see list) for those '
                f'of "{weights}".'
            )
        return _file_of(path)
    if len(path.parts) > 1 or path.suffix == ".keras":
        raise ValueError(NO_MODEL.format(source))
    try:
        return variants.get(source).name
    except ValueError:
        raise ValueError(
            f"{unknown('model', source, variants.list_models())} "
            "Expected the folder of a run, a .keras file or a name that list gives."
        ) from None


def find_trained_model(source: str | Path, weights: str | Path | None = None) -> Path | str:
    """Return what `find_model` returns, but raise a `ValueError` for a name without weights."""
    model = find_model(source, weights)
    if isinstance(model, str) and weights is None:
        raise ValueError(
            f"{model} without weights would guess. Give them (--weights: a file saved from the "
            "same network, or the tag of a checkpoint), or a trained model: the folder of a run or "
            "a .keras file."
        )
    return model


def open_model(
    source: str | Path, weights: str | Path | None = None, image_size: int | None = None
) -> "keras.Model":
    """Load or build what `find_model` returns; a name without weights has random ones."""
    model = find_model(source, weights)
    if isinstance(model, Path):
        return load_file(model)
    from keras_resnext.applications import create_model

    shape = (image_size, image_size, 3) if image_size else None
    return create_model(model, weights=weights, input_shape=shape)


def load_file(source: str | Path) -> "keras.Model":
    """Load the model in a file, or in a run's folder, without compiling it."""
    import keras

    path = _file_of(Path(source))
    if not path.is_file():
        raise ValueError(NO_MODEL.format(source))
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # whatever a broken zip, HDF5 or JSON raises
        raise ValueError(f'"{path}" cannot be loaded as a Keras model: {error}') from error


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    if not (path / MODEL).is_file():
        raise ValueError(f'The folder "{path}" holds no {MODEL}: it is not that of a run.')
    return path / MODEL
