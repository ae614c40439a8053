"""Searches whose trials train nothing: what is begun, what is kept, and what a death costs."""

import csv
import dataclasses
import json
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from keras_resnext.data.datasets import load_dataset
from keras_resnext.search import driver, pictures, processes
from keras_resnext.search import folder as folder_module
from keras_resnext.search.driver import resume, search
from keras_resnext.search.folder import Folder
from keras_resnext.search.parameters import NETWORK, TRAINING
from keras_resnext.search.space import Space
from keras_resnext.search.table import hyperparameters, rows_of
from keras_resnext.training.recipes import get_recipe

ORACLES = ("random", "bayesian", "hyperband", "grid")
# Of the 15 points of the space.
TRIALS = {"random": 8, "bayesian": 8, "hyperband": None, "grid": None}


def _results(output):
    """What each trial was, and what came of it, without when."""
    rows = rows_of(Folder(output))
    return [{k: v for k, v in row.items() if k not in ("ended", "starts")} for row in rows]


def _points(output):
    rows = _results(output)
    return [(row["cardinality"], row["label_smoothing"], row["previous"]) for row in rows]


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_search_ends_with_every_trial_finished_once(oracle, space, at_once, tmp_path):
    found = search(space, "digits", tmp_path / "s", oracle=oracle, trials=TRIALS[oracle])
    rows = _results(tmp_path / "s")
    assert found["completed"] == len(rows) == len(at_once) == len(set(at_once))
    assert found["best"]["score"] == max(row["score"] for row in rows)
    points = _points(tmp_path / "s")
    assert len(set(points)) == len(points)
    if oracle == "grid":
        assert len(points) == 15
    with open(tmp_path / "s" / "trials.csv", newline="") as file:
        assert [row["trial"] for row in csv.DictReader(file)] == [row["trial"] for row in rows]


def test_two_workers_do_the_same_grid(space, at_once, tmp_path):
    for workers in (1, 2):
        search(space, "digits", tmp_path / str(workers), oracle="grid", workers=workers)
    assert _results(tmp_path / "1") == _results(tmp_path / "2")


def test_hyperband_goes_on_from_the_round_before(space, at_once, tmp_path):
    search(space, "digits", tmp_path / "s", oracle="hyperband", epochs=9)
    specs = {trial.id: trial.spec for trial in Folder(tmp_path / "s").trials()}
    later = [spec for spec in specs.values() if spec["previous"]]
    assert later
    for spec in later:
        before = specs[spec["previous"]]
        assert spec["network"] == before["network"]
        total, past = (row["recipe"]["epochs"] for row in (spec, before))
        assert past < total == past + spec["epochs"] <= 9
    first = Folder(tmp_path / "s").trials()[:9]
    continued = {spec["previous"] for spec in later}
    scores = {trial.id in continued: [] for trial in first}
    for trial in first:
        scores[trial.id in continued].append(trial.result["score"])
    assert len(scores[True]) == 3 and min(scores[True]) >= max(scores[False])


def test_what_came_of_a_trial_is_not_hidden_by_its_hyperparameters(space, at_once, tmp_path):
    fixed = {"epochs": 9, "loss": "binary_cross_entropy"}
    space = dataclasses.replace(space, fixed=fixed)
    search(space, "digits", tmp_path, oracle="hyperband", epochs=3)
    trials, rows = Folder(tmp_path).trials(), rows_of(Folder(tmp_path))
    assert not set(rows[0]) - set(hyperparameters(trials[0].spec)) & (NETWORK | TRAINING)
    trained = [trial.spec["epochs"] for trial in trials]
    assert len(set(trained)) > 1
    assert [row["trained_epochs"] for row in rows] == trained
    assert [row["held_out_loss"] for row in rows] == [trial.result["loss"] for trial in trials]
    # The search's come before the space's.
    assert {(row["epochs"], row["loss"]) for row in rows} == {(3, "binary_cross_entropy")}
    (axes,) = pictures.best_so_far({"hyperband": rows}).axes
    assert list(axes.lines[0].get_xdata()) == list(np.cumsum(trained))


def test_trials_are_tested_on_images_of_the_search(space, at_once, tmp_path):
    search(dataclasses.replace(space, recipe="a2"), "digits", tmp_path, trials=1)
    recipe = Folder(tmp_path).trials()[0].spec["recipe"]
    assert recipe["image_size"] == 32 and "test_size" not in recipe


def test_a_trial_is_told_what_was_asked_for(space, at_once, tmp_path):
    told = {"objective": "top1_and_speed", "holdout": 0.3, "patience": 3, "executions": 2}
    search(space, "digits", tmp_path, trials=1, epochs=4, seed=5, on_error="skip", **told)
    spec = Folder(tmp_path).trials()[0].spec
    assert {name: spec[name] for name in told} == told
    assert (spec["epochs"], spec["split_seed"], spec["data"]) == (4, 5, "digits")
    recipe = spec["recipe"]
    assert (recipe["epochs"], recipe["seed"], recipe["on_error"]) == (4, 5, "skip")


class Killed(BaseException):
    """Nothing that the search could catch: what it has written is all there is."""


@pytest.mark.parametrize("oracle", ORACLES)
def test_a_death_before_any_write_loses_and_repeats_nothing(
    oracle, space, at_once, tmp_path, monkeypatch
):
    """Before or after any file is written, again and again."""
    write = folder_module.write_durably
    trials = None if oracle == "hyperband" else 5
    arguments = {"oracle": oracle, "trials": trials, "workers": 2, "epochs": 3}
    search(space, "digits", tmp_path / "whole", **arguments)
    whole = len(at_once)
    at_once.clear()
    deaths, dice = [], random.Random(0)

    def deadly(path, data):
        written.append(path)
        if len(written) < doom:
            return write(path, data)
        deaths.append(path)
        if dice.random() < 0.5:
            write(path, data)
        raise Killed

    monkeypatch.setattr(folder_module, "write_durably", deadly)
    monkeypatch.setattr(driver, "write_durably", deadly)
    for _ in range(200):
        written, doom = [], dice.randint(1, 7)
        try:
            found = search(space, "digits", tmp_path / "s", **arguments)
        except Killed:
            continue
        break
    rows = _results(tmp_path / "s")
    assert {"state.json", "trial.json", "result.json"} <= {path.name for path in deaths}
    assert found["completed"] == len(rows) == whole
    assert len(set(_points(tmp_path / "s"))) == whole
    if oracle != "bayesian":  # which knows less, in another order, after a death
        both = (sorted(_points(tmp_path / name), key=str) for name in ("s", "whole"))
        assert next(both) == next(both)
    kept = json.loads((tmp_path / "s/best/trial.json").read_text())
    assert kept["score"] == max(row["score"] for row in rows)


def test_faults_cost_themselves_and_say_why(pretending, tmp_path):
    space = Space(
        model="ResNeXt35",
        vary={"label_smoothing": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6], "cardinality": [8]},
    )
    found = search(
        space, "digits", tmp_path, oracle="grid", epochs=1, workers=2, time_limit=4.0, attempts=2
    )
    reasons = {row["label_smoothing"]: row["reason"] for row in rows_of(Folder(tmp_path))}
    assert (found["completed"], found["failed"], found["stopped"]) == (1, 6, None)
    assert reasons[0.0] is None
    assert reasons[0.1] == "RuntimeError: planted"
    assert reasons[0.2].startswith("out of memory: MemoryError")
    assert "nan" in reasons[0.3]
    assert reasons[0.4] == "not finished within the time limit of 4 seconds"
    assert reasons[0.5] == "killed (SIGKILL): out of memory, most likely"
    assert reasons[0.6].startswith("ended with exit code 3")
    starts = {row["label_smoothing"]: row["starts"] for row in rows_of(Folder(tmp_path))}
    assert starts[0.5] == 2 and starts[0.1] == starts[0.4] == 1


def test_a_search_that_only_fails_gives_up(pretending, tmp_path):
    space = Space(
        model="ResNeXt35", vary={"label_smoothing": [0.1], "cardinality": [1, 2, 4, 8, 16, 32]}
    )
    found = search(space, "digits", tmp_path, oracle="grid", epochs=1)
    assert found["best"] is None and found["failed"] == driver.FAILURES_TO_STOP
    assert "planted" in found["stopped"]


def test_the_best_model_is_kept_and_others_are_not(space, at_once, tmp_path):
    found = search(space, "digits", tmp_path, oracle="grid")
    best = found["best"]["trial"]
    assert (tmp_path / "best/model.keras").read_text().split()[0] == best
    kept = {trial.id for trial in Folder(tmp_path).trials() if trial.models}
    assert kept == {row["trial"] for row in rows_of(Folder(tmp_path)) if row["front"]}
    recipe = get_recipe(tmp_path / "best/recipe.json")
    for name in ("cardinality", "width_per_group"):
        assert recipe.network[name] == found["best"][name]
    assert recipe.label_smoothing == found["best"]["label_smoothing"]
    assert (recipe.model, recipe.epochs, recipe.image_size) == ("ResNeXt35", 9, 32)


def test_more_trials_go_on_and_another_search_is_refused(space, at_once, tmp_path):
    search(space, "digits", tmp_path, oracle="random", trials=3)
    before = _results(tmp_path)
    found = search(space, "digits", tmp_path, oracle="random", trials=6)
    assert found["completed"] == 6
    again = {row["trial"]: row["score"] for row in _results(tmp_path)}
    assert all(int(row["trial"]) in {int(t) for t in again} for row in before)
    assert resume(tmp_path)["completed"] == len(at_once) == 6
    with pytest.raises(ValueError, match="oracle='random'.*Received: oracle='grid'"):
        search(space, "digits", tmp_path, oracle="grid")
    with pytest.raises(ValueError, match="holds no search"):
        resume(tmp_path / "nowhere")


def test_a_search_goes_on_with_more_trials(space, at_once, tmp_path):
    search(space, "digits", tmp_path, oracle="random", trials=2)
    before = Folder(tmp_path).read("search.json")
    with pytest.raises(ValueError, match="`trials`.*Received: trials=0"):
        resume(tmp_path, trials=0)
    with pytest.raises(ValueError, match="`attempts`"):
        resume(tmp_path, trials=4, attempts=0)
    assert Folder(tmp_path).read("search.json") == before
    assert resume(tmp_path, trials=4, time_limit=60.0, attempts=1)["completed"] == 4
    now = {"trials": 4, "time_limit": 60.0, "attempts": 1}
    assert Folder(tmp_path).read("search.json") == {**before, **now}
    assert resume(tmp_path)["completed"] == len(at_once) == 4
    assert Folder(tmp_path).read("search.json") == {**before, **now}


def test_hyperband_goes_on_without_a_number_of_trials(space, at_once, tmp_path):
    search(space, "digits", tmp_path, oracle="hyperband", epochs=1)
    with pytest.raises(ValueError, match="leave `trials`"):
        resume(tmp_path, trials=5)


def test_only_paths_are_made_absolute(arrays, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Folder(tmp_path / "s")
    for name in ("digits", "tfds:mnist", "mine"):
        (tmp_path / name).mkdir()
    np.savez("arrays.npz", **arrays)
    for name in ("digits", "tfds:mnist"):
        assert driver.source_of(name, folder) == driver.source_of(Path(name), folder) == name
    for name in ("mine", "arrays.npz", "./digits"):
        assert driver.source_of(name, folder) == str(tmp_path / name)


def test_arrays_lie_beside_the_search_and_others_are_another(space, at_once, arrays, tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        search(space, arrays, tmp_path / "s", workers=0)
    assert not (tmp_path / "s").exists()
    names = ["1st", "2nd", "3rd", "4th"]
    arrays["class_names"] = np.array(names, dtype=object)
    arrays["of no use"] = np.array([{}], dtype=object)
    search(space, arrays, tmp_path / "s", oracle="random", trials=1)
    kept = load_dataset(Folder(tmp_path / "s").trials()[0].spec["data"])
    np.testing.assert_array_equal(kept.train.images, arrays["x_train"])
    assert kept.class_names == tuple(names)
    again = {**arrays, "class_names": names}
    assert search(space, again, tmp_path / "s", oracle="random", trials=2)["completed"] == 2
    with pytest.raises(ValueError, match="holds a search with data="):
        search(space, {**arrays, "y_train": arrays["y_train"][::-1]}, tmp_path / "s", trials=2)
    assert len(list((tmp_path / "s").glob("data-*.npz"))) == 1


WRONG = {
    "epochs": (0, "at least 1"),
    "image_size": (0, "image_size=0"),
    "holdout": (1.0, "below 1"),
    "time_limit": (0, "above 0"),
    "workers": (0, "at least 1"),
    "oracle": ("bayes", "bayesian"),
    "factor": (1, "at least 2"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_arguments_are_refused(name, space, at_once, tmp_path):
    value, says = WRONG[name]
    with pytest.raises(ValueError, match=says):
        search(space, "digits", tmp_path / "s", **{name: value})
    assert not at_once and not (tmp_path / "s").exists()


def test_hyperband_takes_no_number_of_trials(space, at_once, tmp_path):
    with pytest.raises(ValueError, match="leave `trials`"):
        search(space, "digits", tmp_path, oracle="hyperband", trials=5)


def test_hyperband_needs_points_for_its_first_round(space, at_once, tmp_path):
    with pytest.raises(ValueError, match="15 points.* needs 27.*grid"):
        search(space, "digits", tmp_path / "s", oracle="hyperband", epochs=27)
    assert not at_once and not (tmp_path / "s").exists()
    vary = {"optimizer": ["sgd", "adamw"], "stage_decay": [0.5, 1.0]}
    few = Space(model="ResNeXt35", vary={**vary, "cardinality": [8]}, fixed={"epochs": 9})
    with pytest.raises(ValueError, match="3 points.* needs 9"):
        search(few, "digits", tmp_path, oracle="hyperband")
    vary = {**few.vary, "weight_decay": {"low": 1e-5, "high": 1e-4}}
    space = Space(model="ResNeXt35", vary=vary, fixed={"epochs": 9})
    assert search(space, "digits", tmp_path, oracle="hyperband")["completed"] > 9


def test_a_search_passes_over_what_is_no_recipe(at_once, tmp_path):
    vary = {"cardinality": [8], "optimizer": ["sgd", "adamw"], "stage_decay": [0.5, 1.0]}
    found = search(Space(model="ResNeXt35", vary=vary), "digits", tmp_path, oracle="grid")
    assert found["completed"] == 3


def test_gpus_are_counted_as_cuda_does(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for names, numbers in (([], []), (["nvidia3"], ["0"]), (["nvidia7", "nvidia3"], ["0", "1"])):
        devices = [Path("/dev", name) for name in names]
        monkeypatch.setattr(Path, "glob", lambda *_, found=devices: iter(found))
        assert processes.visible_gpus() == numbers
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert processes.visible_gpus() == ["3", "5"]


def test_cores_are_shared_out(monkeypatch):
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(processes, "visible_gpus", lambda: [])
    assert [slot.cores for slot in processes.make_slots(2)] == [(0, 2), (1, 3)]
    assert [slot.cores for slot in processes.make_slots(1)] == [()]
    assert [slot.cores for slot in processes.make_slots(6)][3:] == [(3,), (0,), (1,)]
    monkeypatch.setattr(processes, "visible_gpus", lambda: ["0", "2"])
    assert [slot.gpu for slot in processes.make_slots(3)] == ["0", "2", "0"]


def test_every_signal_has_words():
    for number in signal.valid_signals():
        assert processes.why_ended(-number, 1.0, Path("nowhere"))


def test_a_search_of_an_earlier_release_is_resumed(at_once, tmp_path):
    """Of six trials three had ended, and one was running, when its process was killed."""
    files = json.loads((Path(__file__).parent / "earlier_search.json").read_text())
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
    assert resume(tmp_path)["completed"] == 6 and at_once == ["3", "4", "5"]
    results = {trial.id: trial.result["score"] for trial in Folder(tmp_path).trials()}
    for number in ("0", "1", "2"):
        assert results[number] == files[f"trials/{number}/result.json"]["score"]
