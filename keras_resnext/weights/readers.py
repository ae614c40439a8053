"""Files of tensors, read without running anything that they hold."""

import pathlib

import numpy as np

# What training scripts wrap a state dict in.
_WRAPPERS = ("state_dict", "state_dict_ema", "model_state_dict", "model", "model_ema", "ema")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")


def read_tensors(source):
    """Return the tensors of a file, or of a dict of them, by name.

    Args:
        source: path of a `.safetensors`, or of a `.pth`, `.pt`, `.bin` or `.tar` of PyTorch (with
            the `torch` extra); or a dict of arrays or tensors.

    Returns:
        dict of NumPy arrays. Half-precision tensors are widened to float32; the prefixes of
        wrappers (`module.`) are taken off, and counters of batches left out.

    Raises:
        ValueError: naming the file, if it is missing, empty, cut off, of an unknown kind, or
            holds code.

    Example:

    >>> sorted(read_tensors({"module.fc.weight": np.zeros((2, 3))}))
    ['fc.weight']
    """
    if isinstance(source, dict):
        return _clean(source, "the given dict")
    path = pathlib.Path(source).expanduser()
    if not path.is_file():
        raise ValueError(f'There is no file of weights at "{path}".')
    if path.stat().st_size == 0:
        raise ValueError(f'"{path}" is empty: was its download cut off?')
    return _clean(_reader(path)(path), f'"{path}"')


def _reader(path):
    """By what the file begins with, whatever its name is."""
    with path.open("rb") as file:
        start = file.read(16)
    if start[8:9] == b"{":  # after the length of its header, which may begin with any byte
        return _read_safetensors
    if start[:1] == b"\x80" or start[:4] == b"PK\x03\x04":
        return _read_pytorch
    if start[:8] == b"\x89HDF\r\n\x1a\n":
        raise ValueError(
            f'"{path}" is a Keras weights file, which has no tensors by PyTorch\'s names: give it '
            "as `weights` to the function that builds its network."
        )
    return _read_safetensors


def _read_safetensors(path):
    import safetensors

    try:
        with safetensors.safe_open(path, framework="np") as file:
            return {name: _safetensor(file, name) for name in file.keys()}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, MemoryError, OverflowError) as error:
        raise ValueError(
            f'"{path}" cannot be read as safetensors: it is cut off, damaged or of another kind. '
            f"safetensors says: {error}"
        ) from error


def _safetensor(file, name):
    if file.get_slice(name).get_dtype() == "BF16":
        import ml_dtypes  # noqa: F401  registers bfloat16 with NumPy, which the reader needs
    return file.get_tensor(name)


def _read_pytorch(path):
    try:
        import torch
    except ImportError as error:
        raise ValueError(
            f'"{path}" is a PyTorch file. Install PyTorch to read it (pip install '
            "torch), or bring it as safetensors."
        ) from error
    try:
        # weights_only: tensors and plain containers, never the code of a pickle.
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(
            f'"{path}" was not read: it is cut off, damaged, or holds more than tensors. A pickle '
            f"can run code, so nothing but tensors is taken. PyTorch says: {_first_line(error)}"
        ) from error


def _first_line(error):
    return str(error).strip().split("\n")[0][:300]


def _clean(tensors, where):
    """Unwrap, take common prefixes off, and turn into NumPy."""
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


def _common_prefix(names):
    """The wrapper that every name begins with, if there is one."""
    return next((p for p in _PREFIXES if all(name.startswith(p) for name in names)), None)


def _array(name, value, where):
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    array = np.asarray(value)
    if array.dtype.kind in "OUSV" and array.dtype.name != "bfloat16":
        raise ValueError(f'{where} holds something that is no tensor: "{name}".')
    return array.astype("float32")
