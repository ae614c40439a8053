import csv
import json
import os
import threading
from pathlib import Path

import pytest

from keras_resnext.training import run_folder
from keras_resnext.training.run_folder import (
    RUN_FILES,
    check_output,
    make_folder,
    write_json,
    write_rows,
    write_whole,
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", RUN_FILES)
def test_a_run_is_not_overwritten_unasked(tmp_path, name):
    (tmp_path / name).write_text("old")
    with pytest.raises(ValueError, match="already holds a run.*--overwrite"):
        check_output(tmp_path)
    check_output(tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == "old"


def test_checking_leaves_nothing(tmp_path):
    check_output(tmp_path / "a" / "b")
    check_output(None)
    assert not list(tmp_path.iterdir())


def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    for output in (tmp_path / "file", tmp_path / "file" / "below", "/proc/nothing", "/sys/run"):
        with pytest.raises(ValueError, match=f'"{output}" cannot be written: '):
            check_output(output)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written: Permission denied"):
        check_output(tmp_path / "run")


def test_default_folders_are_numbered():
    names = [make_folder(None, "ResNet20", "digits").as_posix() for _ in range(3)]
    assert names == [f"runs/ResNet20-digits{end}" for end in ("", "-2", "-3")]


def test_two_runs_that_start_together_get_two_folders():
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(make_folder(None, "a", "b"))) for _ in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16


def test_overwriting_removes_the_run_and_nothing_else(tmp_path):
    for name in (*RUN_FILES, "notes.txt"):
        (tmp_path / name).touch()
    assert make_folder(tmp_path, "a", "b") == tmp_path
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")

    def fail(part):
        assert part.suffix == ".keras" and part != path
        part.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_and_csv_are_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"x": float("nan"), "y": [1.5, float("inf")], "z": ("a",)})
    data = json.loads((tmp_path / "a.json").read_text(), parse_constant=pytest.fail)
    assert data == {"x": None, "y": [1.5, None], "z": ["a"]}
    rows = [{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}]
    write_rows(tmp_path / "a.csv", rows)
    with open(tmp_path / "a.csv", newline="") as file:
        assert list(csv.DictReader(file)) == [{k: str(v) for k, v in row.items()} for row in rows]


def test_it_imports_no_heavy_module():
    source = Path(run_folder.__file__).read_text()
    assert not any(name in source for name in ("import keras", "tensorflow", "numpy"))
