"""Files of tensors: what is read, and that nothing in them runs."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
import safetensors.numpy

from keras_resnext.weights.readers import read_tensors

TENSORS = {
    "conv1.weight": np.arange(12, dtype="float32").reshape(2, 2, 1, 3),
    "fc.bias": np.array([0.5, -1.0], "float32"),
}


def _assert_equal(found):
    assert set(found) == set(TENSORS)
    for name, values in TENSORS.items():
        assert found[name].dtype == "float32"
        np.testing.assert_array_equal(found[name], values)


def test_safetensors_whatever_its_name(tmp_path):
    for name in ("a.safetensors", "b.bin", "c"):
        safetensors.numpy.save_file(TENSORS, tmp_path / name)
        _assert_equal(read_tensors(tmp_path / name))
        _assert_equal(read_tensors(str(tmp_path / name)))


def test_safetensors_whose_header_is_as_long_as_a_pickle_begins(tmp_path):
    """One length in 32 has the first byte of a pickle."""
    path = tmp_path / "a.safetensors"
    for padding in range(0, 300, 8):
        safetensors.numpy.save_file(TENSORS, path, metadata={"note": " " * padding})
        if path.read_bytes()[:1] == b"\x80":
            break
    assert path.read_bytes()[:1] == b"\x80"
    _assert_equal(read_tensors(path))


def test_half_precision_is_widened(tmp_path):
    half = {name: values.astype("float16") for name, values in TENSORS.items()}
    safetensors.numpy.save_file(half, tmp_path / "a.safetensors")
    _assert_equal(read_tensors(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", "model_ema", None])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "_orig_mod.module."])
def test_wrappers_and_prefixes_are_taken_off(wrapper, prefix):
    tensors = {prefix + name: values for name, values in TENSORS.items()}
    tensors[f"{prefix}bn1.num_batches_tracked"] = np.array(3)
    _assert_equal(read_tensors({wrapper: tensors, "epoch": 3} if wrapper else tensors))


def test_averages_are_taken_only_where_there_is_nothing_else():
    averages = {name: values + 1 for name, values in TENSORS.items()}
    _assert_equal(read_tensors({"model_ema": averages, "model": TENSORS}))


@pytest.mark.parametrize("new_format", [True, False])
def test_pytorch_files(tmp_path, new_format):
    torch = pytest.importorskip("torch")
    path = tmp_path / "a.pth"
    state = {name: torch.tensor(values) for name, values in TENSORS.items()}
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=new_format)
    _assert_equal(read_tensors(path))


class _Malicious:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def _as_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


def _as_torch_archive(path, content):
    """The layout of torch.save, with the pickle that it is given."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(content, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")


@pytest.mark.parametrize("write", [_as_pickle, _as_torch_archive])
def test_code_in_a_file_does_not_run(tmp_path, write):
    pytest.importorskip("torch")
    trace, path = tmp_path / "it ran".replace(" ", "_"), tmp_path / "model.pth"
    write(path, {"state_dict": _Malicious(trace)})
    with pytest.raises(ValueError, match="model.pth.*can run code"):
        read_tensors(path)
    assert not trace.exists()
    if write is _as_pickle:  # the trap itself works
        pickle.loads(path.read_bytes())
        assert trace.exists()


def _truncated(path):
    buffer = io.BytesIO(safetensors.numpy.save(TENSORS))
    path.write_bytes(buffer.getvalue()[:-5])


def _huge_header(path):
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def _lying_header(path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}})
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())


def _truncated_archive(path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(1000)}, path)
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    "damage, said",
    [
        (_truncated, "cut off, damaged"),
        (_huge_header, "cut off, damaged"),
        (_lying_header, "cut off, damaged"),
        (_truncated_archive, "cut off, damaged"),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(b"hello, world, this is text"), "cut off, damaged"),
        (lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50), "Keras weights file"),
        (lambda path: None, "no file of weights"),
    ],
)
def test_damaged_files_give_one_clear_error(tmp_path, damage, said):
    path = tmp_path / "weights.bin"
    damage(path)
    with pytest.raises(ValueError, match=said) as raised:
        read_tensors(path)
    assert "weights.bin" in str(raised.value)


def test_what_is_no_tensor_is_named():
    with pytest.raises(ValueError, match='not a tensor: "names"'):
        read_tensors({"names": np.array(["cat"])})
    with pytest.raises(ValueError, match="holds no tensors"):
        read_tensors({})
