"""The stubs are those of today's table and signatures, and say what an editor should know."""

import subprocess
import sys

import pytest
from make_stubs import DOOR, stubs

PROGRAM = """
import keras_resnext
reveal_type(keras_resnext.ResNeXt50(weights=None, cardinality=16))
keras_resnext.ResNeXt50(clases=3)
keras_resnext.ResNeXt50(cardinalty=16)
keras_resnext.ResNeXt50(cardinality="16")
keras_resnext.InceptionV3(cardinality=16)
"""


@pytest.mark.parametrize("path", stubs(), ids=lambda path: path.name)
def test_a_stub_is_up_to_date(path):
    assert path.read_text() == stubs()[path], "run python tests/make_stubs.py"


@pytest.mark.slow
def test_mypy_finds_no_error_in_a_stub_and_each_in_a_program(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", tmp_path, *stubs(), program],
        capture_output=True,
        text=True,
        cwd=DOOR.parents[1],  # whose setup.cfg lets mypy read Keras
    ).stdout
    assert 'Revealed type is "keras.src.models.model.Model"' in told
    assert "Found 4 errors in 1 file" in told, told
    for words in ("clases", "cardinalty", "incompatible type", '"cardinality" for "InceptionV3"'):
        assert words in told, told
