"""Every script that users are pointed at runs, from another folder than its own."""

import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What a script is given so that it is done soon, and what it prints in the end.
SCRIPTS = {
    "examples/fit_in_a_notebook.py": (["1"], "test accuracy after loading"),
}


def test_every_script_is_listed():
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "examples").glob("*.py")}
    assert found == set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs(script, tmp_path):
    arguments, says = SCRIPTS[script]
    finished = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert says in finished.stdout
