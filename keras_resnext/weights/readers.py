"""Readers of files of tensors, which never run code from a file."""

import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

# Keys under which training scripts store a state dict.
_WRAPPERS = ("state_dict", "state_dict_ema", "model_state_dict", "model", "model_ema", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")


def read_tensors(source: str | pathlib.Path | Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors or PyTorch file, or of a dict, by name.

    Half precision is widened to float32; prefixes of wrappers (`module.`) and counters of batches
    are removed.
    """
    if isinstance(source, dict):
        return _clean(source, "the given dict")
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f'There is no file of weights at "{path}".')
    if path.stat().st_size == 0:
        raise ValueError(f'"{path}" is empty: was its download cut off?')
    return _clean(_reader(path)(path), f'"{path}"')


def _reader(path: pathlib.Path) -> Callable[[pathlib.Path], dict]:
    """Return the reader for a file, by its first bytes."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # after the header's length, whose first byte may be any
        return _read_safetensors
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        return _read_pytorch
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        raise ValueError(
            f'"{path}" is a Keras weights file, which has no tensors by PyTorch\'s names: give it '
            "as `weights` to the function that builds its network."
        )
    return _read_safetensors


def _read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: _safetensor(file, name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, MemoryError, OverflowError) as error:
        raise ValueError(
            f'"{path}" cannot be read as safetensors: it is cut off, damaged or of another kind. '
            f"safetensors says: {error}"
        ) from error


def _safetensor(file: Any, name: str) -> np.ndarray:
    if file.get_slice(name).get_dtype() == "BF16":
        import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy
    return file.get_tensor(name)


def _read_pytorch(path: pathlib.Path) -> dict:
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f'"{path}" is a PyTorch file. Install PyTorch to read it (pip install torch), or '
            "convert it to safetensors elsewhere."
        ) from error
    try:
        # weights_only: tensors and plain containers, never the code of a pickle.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f'"{path}" was not read: it is cut off, damaged, or holds more than tensors. A pickle '
            f"can run code, so only tensors are read. PyTorch says: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:300]


def _clean(tensors: Any, where: str) -> dict[str, np.ndarray]:
    """Unwrap, remove common prefixes, and convert to NumPy."""
    for wrapper in _WRAPPERS:
        if isinstance(tensors, dict) and isinstance(tensors.get(wrapper), dict):
            tensors = tensors[wrapper]
    if not isinstance(tensors, dict) or not tensors:
        raise ValueError(f"{where} holds no tensors by name.")
    tensors = {str(name): value for name, value in tensors.items()}
    while prefix := _common_prefix(tensors):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return {
        name: _array(name, value, where)
        for name, value in tensors.items()
        if not name.endswith("num_batches_tracked")
    }


def _common_prefix(names: Iterable[str]) -> str | None:
    """Return the wrapper's prefix that every name begins with, if there is one."""
    return next((p for p in _PREFIXES if all(name.startswith(p) for name in names)), None)


def _array(name: str, value: Any, where: str) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "OUSV" and array.dtype.name != "bfloat16":
        raise ValueError(f'{where} holds something that is not a tensor: "{name}".')
    return array.astype("float32")
