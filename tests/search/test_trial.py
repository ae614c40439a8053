"""Trials that train: what they see, where they go on, and that their recipe repeats them."""

import dataclasses
import json

import keras
import keras_tuner
import numpy as np
import pytest

from keras_resnext.cli import main
from keras_resnext.data.datasets import load_dataset
from keras_resnext.search import trial as trial_module
from keras_resnext.search.folder import SPEC, TrialFolder, write_durably
from keras_resnext.search.hypermodel import ResNeXtHyperModel
from keras_resnext.search.oracles import declare
from keras_resnext.search.space import Space
from keras_resnext.training.build import network_for
from keras_resnext.training.recipe import from_fields, write

pytestmark = [pytest.mark.only_tensorflow, pytest.mark.usefixtures("eagerly")]

NETWORK = {"blocks": [1, 1], "filters": [8, 16], "cardinality": 4, "width_per_group": 32}
RECIPE = {
    "name": "tuned",
    "model": "ResNeXt35",
    "network": NETWORK,
    "learning_rate": 0.05,
    "batch_size": 16,
    "weight_decay": 0.0,
    "epochs": 1,
    "seed": 3,
}
# At such a learning rate no weight moves; the statistics of batch norms do.
STILL = {**RECIPE, "learning_rate": 1e-12}
SPEC_OF_ALL = {
    "recipe": RECIPE,
    "weights": None,
    "network": NETWORK,
    "training": {},
    "macs": 1,
    "parameters": 1,
    "epochs": 1,
    "previous": None,
    "executions": 1,
    "objective": "top1",
    "patience": None,
    "image_size": 16,
    "holdout": 0.25,
    "split_seed": 3,
}


@pytest.fixture
def make_trial(arrays, tmp_path):
    np.savez(tmp_path / "data.npz", **arrays)

    def make(name, **changes):
        folder = TrialFolder(tmp_path / name)
        folder.path.mkdir()
        spec = {**SPEC_OF_ALL, "data": str(tmp_path / "data.npz"), **changes}
        write_durably(folder.path / SPEC, spec)
        return folder

    return make


def test_the_test_part_is_never_seen(arrays):
    whole = load_dataset(arrays)
    seen = trial_module.hold_out(whole, 0.25, seed=1)
    parts = [{image.tobytes() for image in part.images} for part in (seen.train, seen.test)]
    test = {image.tobytes() for image in whole.test.images}
    assert len(seen.train) + len(seen.test) == len(whole.train) and len(seen.test) == 16
    assert not (parts[0] | parts[1]) & test and not parts[0] & parts[1]


def test_executions_are_averaged_and_finished_ones_not_repeated(make_trial):
    folder = make_trial("0", executions=2)
    result = trial_module.run(folder)
    summaries = [json.loads((folder.run(k) / "summary.json").read_text()) for k in (0, 1)]
    assert result["top1"] == pytest.approx(np.mean([row["test_top1"] for row in summaries]))
    assert result["epochs"] == 2 and folder.epochs_done == 2
    seeds = [json.loads((folder.run(k) / "config.json").read_text()) for k in (0, 1)]
    assert [row["recipe"]["seed"] for row in seeds] == [3, 4]
    before = (folder.run(0) / "model.keras").stat().st_mtime_ns
    again = trial_module.run(folder)
    assert again == result
    assert (folder.run(0) / "model.keras").stat().st_mtime_ns == before


def test_hyperband_s_next_round_has_the_weights_of_the_one_before(make_trial):
    first = make_trial("0")
    trial_module.run(first)
    second = make_trial("1", previous="0", recipe=STILL)
    trial_module.run(second)
    dataset = load_dataset(second.spec["data"])
    models = [keras.saving.load_model(trial.run(0) / "model.keras") for trial in (first, second)]
    models.append(network_for("ResNeXt35", dataset, from_fields(STILL)))
    kernels = [model.get_layer("stage2_block1_conv1").kernel.numpy() for model in models]
    np.testing.assert_allclose(kernels[1], kernels[0], atol=1e-7)
    assert np.abs(kernels[2] - kernels[0]).max() > 1e-3  # what a new network begins with


def test_a_round_without_weights_to_go_on_from_says_so(make_trial):
    with pytest.raises(ValueError, match="Trial 7, which this one continues, left no weights"):
        trial_module.run(make_trial("8", previous="7"))


def test_patience_stops(make_trial):
    assert trial_module.run(make_trial("0", epochs=6, patience=1, recipe=STILL))["epochs"] < 6


def test_the_objective_with_speed():
    summary = {"test_top1": 0.8, "test_loss": 1.0, "seconds": 1.0, "epochs": 1}
    slow, fast = ({**summary, "images_per_second": rate} for rate in (100.0, 200.0))
    scores = [trial_module.summarize([s], "top1_and_speed")["score"] for s in (slow, fast)]
    assert scores[1] / scores[0] == pytest.approx(1.05, abs=1e-3)
    assert trial_module.summarize([fast], "top1")["score"] == 0.8


def test_the_recipe_of_a_trial_is_one_that_train_takes(arrays, tmp_path):
    space = Space(
        model="ResNeXt35",
        vary={"cardinality": [4], "learning_rate": [0.05]},
        fixed={
            "blocks": [1, 1],
            "filters": [8, 16],
            "epochs": 1,
            "batch_size": 16,
            "weight_decay": 1e-4,
        },
    )
    draw = space.on(32, 4).draw({"cardinality": 4, "learning_rate": 0.05})
    write(space.recipe_of(draw), tmp_path / "recipe.json")
    np.savez(tmp_path / "data.npz", **arrays)
    given = ["--recipe", tmp_path / "recipe.json", "--data", tmp_path / "data.npz"]
    output = tmp_path / "out"
    assert main(["train", *map(str, given), "--output", str(output)]) == 0
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["macs"], summary["parameters"]) == (
        draw.complexity.macs,
        draw.complexity.parameters,
    )
    recipe = json.loads((output / "config.json").read_text())["recipe"]
    assert (recipe["weight_decay"], recipe["learning_rate"], recipe["batch_size"]) == (
        1e-4,
        0.05,
        16,
    )


def test_what_is_no_recipe_fails_its_trial_of_kerastuner(arrays):
    space = Space(
        model="ResNeXt35",
        vary={"optimizer": ["sgd", "adamw"], "stage_decay": [0.5, 1.0]},
        fixed={"blocks": [1, 1], "filters": [8, 16]},
    )
    hypermodel = ResNeXtHyperModel(space, load_dataset(arrays), epochs=1)
    hp = keras_tuner.HyperParameters()
    declare(hp, hypermodel.candidates)
    hp.values = {"optimizer": "adamw", "stage_decay": 0.5}
    with pytest.raises(keras_tuner.errors.FailedTrialError, match="stage_decay"):
        hypermodel.build(hp)


def test_a_hypermodel_is_for_images_of_its_data(arrays):
    fixed = {"blocks": [1, 1], "filters": [8, 16], "optimizer": "sgd"}
    space = Space(model="ResNeXt35", vary={"weight_decay": [0.0]}, fixed=fixed, recipe="a2")
    hypermodel = ResNeXtHyperModel(space, load_dataset(arrays), epochs=1)
    assert hypermodel.build(keras_tuner.HyperParameters()).input_shape == (None, 16, 16, 3)


def test_a_plain_tuner_of_kerastuner(arrays, tmp_path):
    whole = dataclasses.replace(load_dataset(arrays), batch_size=16)
    space = Space(
        model="ResNeXt35",
        budget={"macs": 400_000, "tolerance": 0.2},
        vary={"cardinality": [1, 4], "label_smoothing": [0.0, 0.1]},
        fixed={"blocks": [1, 1], "filters": [8, 16]},
    )
    hypermodel = ResNeXtHyperModel(space, whole, epochs=1)
    tuner = keras_tuner.RandomSearch(
        hypermodel,
        keras_tuner.Objective("val_top1", "max"),
        max_trials=1,
        directory=tmp_path,
        project_name="plain",
    )
    tuner.search(verbose=0)
    (trial,) = tuner.oracle.trials.values()
    assert trial.status == "COMPLETED" and 0 <= trial.score <= 1
    assert set(trial.hyperparameters.values) == {"cardinality", "label_smoothing"}
    assert tuner.get_best_models()[0].output_shape == (None, 4)
