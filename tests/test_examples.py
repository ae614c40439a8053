"""Every script that users are pointed at runs, from another folder than its own."""

import os
import pathlib
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What a script is given so that it is done soon, and what it prints in the end.
SCRIPTS = {
    "examples/fit_in_a_notebook.py": (["1"], "test accuracy after loading"),
    "examples/recipe_and_teacher.py": (["1"], "the student's top-1"),
}


def test_every_script_is_listed():
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "examples").glob("*.py")}
    assert found == set(SCRIPTS)


@pytest.mark.slow
def test_two_processes_are_launched(tmp_path, toy):
    """The launch of several workers, with the `keras-resnext` of this environment."""
    pytest.importorskip("jax")
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    arguments = ["--data", toy, "--model", "ResNet20", "--epochs", "1", "--output", "two"]
    finished = subprocess.run(
        ["bash", ROOT / "examples/cluster/two_processes.sh", *arguments],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert finished.stdout.count("epoch 1/1") == 1, "one worker tells"
    assert (tmp_path / "two" / "summary.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_runs(script, tmp_path):
    arguments, says = SCRIPTS[script]
    finished = subprocess.run(
        [sys.executable, ROOT / script, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    assert says in finished.stdout
