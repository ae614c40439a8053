"""Searches killed with SIGKILL, and searches that really train: most of a minute each."""

import contextlib
import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import time

import pytest

from keras_resnext.search.folder import Folder
from keras_resnext.search.space import space_from
from keras_resnext.search.table import rows_of

pytestmark = [pytest.mark.slow, pytest.mark.only_tensorflow]

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[1]
KILLS = 20 if "SOAK" in os.environ else 4
LITTLE = {"low": 0.0, "high": 0.05}
DRIVER = """
import json, sys
from keras_resnext.search import driver, processes
from keras_resnext.search.space import space_from
processes.TRIAL = (sys.executable, sys.argv[1])
space, output, arguments = sys.argv[2:]
driver.search(space_from(json.loads(space)), "digits", output, **json.loads(arguments))
"""


def _start(space, output, arguments, seconds=5):
    command = [sys.executable, "-c", DRIVER, str(HERE / "pretend.py"), json.dumps(space.to_dict())]
    environment = {**os.environ, "PRETEND_SECONDS": str(seconds), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [*command, str(output), json.dumps(arguments)],
        env=environment,
        stdout=subprocess.DEVNULL,
    )


def _trials_of(process):
    """The processes that the search has started."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    try:
        return [int(pid) for pid in children.read_text().split()]
    except FileNotFoundError:  # it has just ended
        return []


@pytest.mark.parametrize("oracle", ["grid", "bayesian", "hyperband"])
def test_kills_lose_and_repeat_nothing(oracle, space, tmp_path):
    """Of the search, of its trials, and of one of two searches on the same folder."""
    arguments = {"oracle": oracle, "workers": 2, "epochs": 9, "attempts": 1000}
    arguments |= {"trials": 14} if oracle == "bayesian" else {}
    dice = random.Random(oracle)
    kills, processes, done = 0, [], False
    while kills < KILLS and not done:
        processes = [p for p in processes if p.poll() is None]
        if not processes:
            processes = [_start(space, tmp_path, arguments) for _ in range(dice.choice((1, 2)))]
        time.sleep(dice.uniform(0, 10))  # of which the search takes half to start
        victim = dice.choice(processes)
        assert victim.poll() in (None, 0, -signal.SIGKILL)
        done = victim.poll() == 0
        trials = [] if done else _trials_of(victim)
        pid = dice.choice(trials) if trials and dice.random() < 0.5 else victim.pid
        if not done:
            with contextlib.suppress(ProcessLookupError):  # it was quicker
                os.kill(pid, signal.SIGKILL)
            kills += 1
    for process in processes:
        process.wait(timeout=600)
    before = len(rows_of(Folder(tmp_path)))
    assert _start(space, tmp_path, arguments, seconds=0).wait(timeout=600) == 0
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


def test_a_trial_ends_with_the_search(space, tmp_path):
    process = _start(space, tmp_path, {"oracle": "grid", "workers": 1})
    while not (trials := _trials_of(process)):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    end = time.monotonic() + 20
    while pathlib.Path(f"/proc/{trials[0]}").exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert not pathlib.Path(f"/proc/{trials[0]}").exists()


def test_fifty_trials_in_little_memory(space, tmp_path):
    """The process that searches, from its third trial to its fiftieth."""
    many = space_from({**space.to_dict(), "vary": {"cardinality": [8], "label_smoothing": LITTLE}})
    arguments = {"oracle": "bayesian", "trials": 50, "workers": 2}
    process = _start(many, tmp_path, arguments, seconds=0.2)
    sizes = []
    while process.poll() is None:
        done = sum(row["status"] == "completed" for row in rows_of(Folder(tmp_path)))
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        resident = [line for line in status.splitlines() if line.startswith("VmRSS")]
        if done >= 3 and resident:
            sizes.append(int(resident[0].split()[1]) / 1024)
        time.sleep(0.5)
    assert len(rows_of(Folder(tmp_path))) == 50
    print(f"from {sizes[0]:.0f} to {max(sizes):.0f} MB")
    assert max(sizes) - sizes[0] < 50


def test_the_command_and_its_recipe(tmp_path):
    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "keras_resnext", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )

    space = ROOT / "tuning" / "digits.py"
    given = ("tune", "--space", space, "--output", "s", "--trials", 2, "--epochs", 2)
    done = command(*given)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2 trials completed, 0 failed" in done.stdout
    assert (tmp_path / "s/report.html").is_file() and (tmp_path / "s/best/model.keras").is_file()
    again = command("tune", "--output", "s")
    assert again.returncode == 0 and "resuming after 2 finished trials" in again.stdout
    best = json.loads((tmp_path / "s/best/trial.json").read_text())
    repeat = done.stdout.split("To train it on all images: keras-resnext ")[1].splitlines()[0]
    trained = command(*shlex.split(repeat), "--output", "t")
    assert trained.returncode == 0, trained.stderr[-2000:]
    summary = json.loads((tmp_path / "t/summary.json").read_text())
    assert summary["macs"] == best["macs"] and summary["parameters"] == best["parameters"]
    # After two epochs a fifth more images are a fifth more steps, and those are worth a lot.
    assert summary["test_top1"] > best["top1"] - 0.1
