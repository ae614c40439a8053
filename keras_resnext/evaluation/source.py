"""What a user means by a model: found, or refused, before anything heavy is imported."""

from pathlib import Path

from keras_resnext.errors import unknown
from keras_resnext.models import variants
from keras_resnext.training.run_folder import MODEL


def find_model(source: str | Path, weights: str | Path | None = None) -> Path | str:
    """Find a trained model.

    Args:
        source: The folder of a run, a model file, or the name of a network.
        weights: The file of a named network's weights.

    Returns:
        The path of a model file, or the name of a network as the table has it.

    Raises:
        ValueError: If there is no such thing, or a name comes without weights.

    Example:

    >>> find_model("resnext50_32x4d", weights="mine.weights.h5")
    'ResNeXt50'
    """
    path = Path(source)
    if path.is_dir() and not (path / MODEL).is_file():
        raise ValueError(f'The folder "{source}" holds no {MODEL}: it is not that of a run.')
    if path.exists() and weights is not None:
        raise ValueError(
            f'"{source}" has its own weights. Give the name of a network (see list) for those of '
            f'"{weights}".'
        )
    if path.exists():
        return path / MODEL if path.is_dir() else path
    if len(path.parts) > 1 or path.suffix == ".keras":
        raise ValueError(f'There is no model file and no folder of a run "{source}".')
    try:
        name = variants.get(source).name
    except ValueError:
        raise ValueError(
            f"{unknown('model', source, variants.list_models())} "
            "Expected the folder of a run, a .keras file or a name that list gives."
        ) from None
    if weights is None:
        raise ValueError(
            f"{name} without weights would guess. Give them (--weights: a file saved from the same "
            "network, or the tag of a checkpoint), or a trained model: the folder of a run or a "
            ".keras file."
        )
    return name
