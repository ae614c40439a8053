"""Searches killed with SIGKILL, and searches that really train."""

import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import shlex
import signal
import time

import numpy as np
import pretend
import pytest

from keras_resnext.cli import main
from keras_resnext.search.driver import search
from keras_resnext.search.folder import Folder
from keras_resnext.search.space import space_from
from keras_resnext.search.table import rows_of

pytestmark = [pytest.mark.slow, pytest.mark.only_tensorflow]

KILLS = 20 if "SOAK" in os.environ else 4
LITTLE = {"low": 0.0, "high": 0.05}
SPACE = """
model = "ResNeXt35"
vary = {"cardinality": [1, 4], "learning_rate": [0.05]}
fixed = {"blocks": [1, 1], "filters": [8, 16], "batch_size": 16, "epochs": 1}
"""


@pytest.fixture(scope="module")
def processes():
    """Processes that have imported TensorFlow when they begin, which takes most of their start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["keras_resnext.search.driver"])
    return context


def _start(processes, space, output, arguments, seconds=1.5):
    process = processes.Process(
        target=pretend.search, args=(space.to_dict(), str(output), arguments, seconds)
    )
    process.start()
    return process


def _trials_of(process):
    """The processes that the search has started."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        return [int(pid) for pid in children.read_text().split()]
    except FileNotFoundError:  # it has just ended
        return []


@pytest.mark.parametrize("oracle", ["grid", "bayesian", "hyperband"])
def test_kills_lose_and_repeat_nothing(oracle, space, processes, tmp_path):
    """Of the search, of its trials, and of one of two searches on the same folder."""
    arguments = {"oracle": oracle, "workers": 2, "epochs": 9, "attempts": 1000}
    arguments |= {"trials": 14} if oracle == "bayesian" else {}
    dice = random.Random(oracle)
    kills, searches, done = 0, [], False
    while kills < KILLS and not done:
        searches = [p for p in searches if p.is_alive()]
        if not searches:
            count = dice.choice((1, 2))
            searches = [_start(processes, space, tmp_path, arguments) for _ in range(count)]
        time.sleep(dice.uniform(0, 4))
        victim = dice.choice(searches)
        assert victim.exitcode in (None, 0, -signal.SIGKILL)
        done = victim.exitcode == 0
        trials = [] if done else _trials_of(victim)
        pid = dice.choice(trials) if trials and dice.random() < 0.5 else victim.pid
        if not done:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
            kills += 1
    for process in searches:
        process.join(timeout=600)
    before = len(rows_of(Folder(tmp_path)))
    last = _start(processes, space, tmp_path, arguments, seconds=0)
    last.join(timeout=600)
    assert last.exitcode == 0
    rows = rows_of(Folder(tmp_path))
    state = json.loads((tmp_path / "state.json").read_text())
    print(f"{kills} kills, {before} trials by then, {len(rows)} in all")
    assert kills > KILLS / 2
    assert {row["status"] for row in rows} == {"completed"}
    assert sorted(state["oracle"]["end_order"]) == sorted(row["trial"] for row in rows)
    assert state["oracle"]["ongoing_trials"] == {}
    points = [(row["cardinality"], row["label_smoothing"], row["previous"]) for row in rows]
    assert len(set(points)) == len(points)
    assert len(points) == {"grid": 15, "bayesian": 14}.get(oracle, len(points))


def test_a_trial_ends_with_the_search(space, processes, tmp_path):
    process = _start(processes, space, tmp_path, {"oracle": "grid", "workers": 1}, seconds=60)
    while not (trials := _trials_of(process)):
        assert process.is_alive()
        time.sleep(0.05)
    process.kill()
    process.join()
    end = time.monotonic() + 20
    while pathlib.Path(f"/proc/{trials[0]}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{trials[0]}").exists()


def test_many_trials_in_little_memory(space, at_once, tmp_path, monkeypatch):
    """The process that searches, from its third trial to its thirtieth."""
    sizes = []
    run = pretend.run

    def measured(folder):
        status = pathlib.Path("/proc/self/status").read_text()
        sizes.append(int(status.split("VmRSS:")[1].split()[0]) / 1024)
        return run(folder)

    monkeypatch.setattr(pretend, "run", measured)
    vary = {"cardinality": [8], "label_smoothing": LITTLE}
    many = space_from({**space.to_dict(), "vary": vary})
    search(many, "digits", tmp_path, oracle="bayesian", trials=30)
    assert len(sizes) == 30
    print(f"from {sizes[2]:.0f} to {max(sizes[2:]):.0f} MB")
    assert max(sizes[2:]) - sizes[2] < 50


def test_the_command_and_its_recipe(arrays, tmp_path, capsys, monkeypatch, eagerly):
    monkeypatch.chdir(tmp_path)
    np.savez("data.npz", **arrays)
    pathlib.Path("space.py").write_text(SPACE)
    given = "tune --space space.py --data data.npz --oracle random --output s --trials 2"
    assert main(given.split()) == 0
    printed = capsys.readouterr().out
    assert "2 trials completed, 0 failed" in printed
    assert pathlib.Path("s/report.html").is_file() and pathlib.Path("s/best/model.keras").is_file()
    assert main(["tune", "--output", "s"]) == 0
    assert "resuming after 2 finished trials" in capsys.readouterr().out
    best = json.loads(pathlib.Path("s/best/trial.json").read_text())
    repeat = printed.split("To train it on all images: keras-resnext ")[1].splitlines()[0]
    assert main([*shlex.split(repeat), "--output", "t"]) == 0
    summary = json.loads(pathlib.Path("t/summary.json").read_text())
    assert summary["macs"] == best["macs"] and summary["parameters"] == best["parameters"]
    recipe = json.loads(pathlib.Path("t/config.json").read_text())["recipe"]
    for name in ("learning_rate", "batch_size", "epochs"):
        assert recipe[name] == best[name]
