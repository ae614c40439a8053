"""Whole runs of a tiny network, checked against NumPy and against what their folders hold."""

import csv
import json
import os
import signal
from dataclasses import replace
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from keras_resnext import create_model
from keras_resnext.data.datasets import Part
from keras_resnext.models import variants
from keras_resnext.training import callbacks
from keras_resnext.training.build import compile_recipe
from keras_resnext.training.callbacks import DivergedError
from keras_resnext.training.maps import activation_maps
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.run_folder import EVENTS, RUN_FILES
from keras_resnext.training.train import Session, train

EASY = Recipe(learning_rate=0.05)


def quiet():
    return Console(file=StringIO(), width=200)


def run(*arguments, **options):
    return train(*arguments, console=quiet(), **options)


def history(folder):
    return list(csv.DictReader((folder / "history.csv").read_text().splitlines()))


def read(folder, name):
    return json.loads(Path(folder, name).read_text())


def test_a_run_and_its_folder(tmp_path, dataset, make_model, traced):
    console = quiet()
    model = make_model()
    before = model.get_weights()
    record = {"configuration": {"depth": 3}}
    summary = train(model, dataset, EASY, tmp_path / "run", record=record, console=console)
    folder = tmp_path / "run"
    assert sorted(path.name for path in folder.iterdir()) == sorted([*RUN_FILES, EVENTS])
    assert any((a != b).any() for a, b in zip(before, model.get_weights(), strict=True))

    # The saved model, fed as config.json says, has the accuracy that summary.json says.
    config = read(folder, "config.json")
    how = config["preprocessing"]
    saved = keras.saving.load_model(folder / "model.keras")
    images = (dataset.test.images / 255 - how["mean"]) / how["std"]
    outputs = saved.predict(images.astype(np.float32), verbose=0)
    correct = (outputs.argmax(1) == dataset.test.labels).mean()
    assert correct > 0.9
    assert summary["test_top1"] == pytest.approx(correct)
    rank = (outputs > outputs[np.arange(72), dataset.test.labels][:, None]).sum(1)
    assert summary["test_top5"] == pytest.approx((rank < 5).mean())
    loss = -np.log(outputs[np.arange(72), dataset.test.labels]).mean()
    assert summary["test_loss"] == pytest.approx(loss, rel=1e-4)

    assert summary == read(folder, "summary.json")
    assert summary["parameters"] == sum(weight.size for weight in before)
    assert summary["epochs"] == 6 and summary["interrupted"] is False
    assert summary["images_per_second"] > 0 and summary["seconds"] > 0

    rows = history(folder)
    assert [row["epoch"] for row in rows] == list("123456")
    assert float(rows[-1]["val_top1"]) == summary["test_top1"]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0, abs=1e-9)

    assert config["configuration"] == {"depth": 3}
    assert config["recipe"]["epochs"] == 6 and config["recipe"]["learning_rate"] == 0.05
    assert config["class_names"] == list("abcdefgh")
    assert config["versions"]["keras"] == keras.__version__

    lines = console.file.getvalue().splitlines()
    assert len(lines) == 6 and all(line.startswith("epoch ") for line in lines)


def test_a_training_step_is_traced_once(make_model, traced):
    traces, model = [], make_model()
    step = model.train_step
    model.train_step = lambda data: traces.append(data) or step(data)
    compile_recipe(model, EASY, steps=2)
    model.fit(np.zeros((8, 16, 16, 3)), np.eye(8), batch_size=4, verbose=0)
    assert len(traces) == 1


def test_the_same_seed_gives_the_same_run(tmp_path, dataset, make_model):
    settings = replace(EASY, epochs=1, augmentation="shift_flip")
    losses = []
    for number, seed in enumerate((0, 0, 1)):
        run(make_model(), dataset, replace(settings, seed=seed), tmp_path / str(number))
        losses.append([float(row["loss"]) for row in history(tmp_path / str(number))])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0] != pytest.approx(losses[2], rel=1e-4)


def test_logits_and_probabilities_train_alike(tmp_path, dataset, make_model):
    settings = replace(EASY, epochs=1)
    results = [
        run(make_model(activation=activation), dataset, settings, tmp_path / str(activation))
        for activation in ("softmax", None)
    ]
    assert results[0]["test_loss"] == pytest.approx(results[1]["test_loss"], rel=1e-3)


def test_few_classes_have_no_top5(tmp_path, dataset, make_model):
    few = {
        name: Part(part.images[part.labels < 3], part.labels[part.labels < 3])
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    dataset = replace(dataset, class_names=tuple("abc"), **few)
    summary = run(make_model(3), dataset, replace(EASY, epochs=1), tmp_path / "run")
    assert summary["test_top5"] is None
    assert "top5" not in (tmp_path / "run" / "history.csv").read_text()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(tmp_path, dataset, make_model, policy, traced):
    with precision(policy):
        model = make_model()
    assert model.layers[0].compute_dtype == policy[6:]
    settings = replace(EASY, precision=policy)
    assert run(model, dataset, settings, tmp_path / "run")["test_top1"] > 0.8


def test_a_second_run_in_the_same_folder(tmp_path, dataset, make_model):
    settings = replace(EASY, epochs=1)
    run(make_model(), dataset, settings, tmp_path)
    first = (tmp_path / "summary.json").read_text()
    with pytest.raises(ValueError, match="already holds a run"):
        run(make_model(), dataset, settings, tmp_path)
    assert (tmp_path / "summary.json").read_text() == first
    run(make_model(), dataset, replace(settings, name="again"), tmp_path, overwrite=True)
    assert read(tmp_path, "summary.json")["recipe"] == "again"


class Interrupting(Console):
    """A console that presses Ctrl-C when it is printed on."""

    def print(self, *arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)


def test_interruption_keeps_the_run(tmp_path, dataset, make_model):
    before = signal.getsignal(signal.SIGINT)
    model = make_model()
    console = Interrupting(file=StringIO())
    summary = train(model, dataset, EASY, tmp_path / "run", console=console)
    assert signal.getsignal(signal.SIGINT) is before
    assert summary["interrupted"] is True and summary["epochs"] == 1
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(
        [*RUN_FILES, EVENTS]
    )
    saved = keras.saving.load_model(tmp_path / "run" / "model.keras")
    # One epoch of six steps, and the step that was under way.
    assert int(saved.optimizer.iterations) == 7
    for ours, theirs in zip(model.get_weights(), saved.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_interruption_before_the_first_step_leaves_nothing(
    tmp_path, dataset, make_model, monkeypatch
):
    model = make_model()

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(model, "fit", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(model, dataset, EASY, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_divergence_stops_with_epoch_and_rate_and_keeps_what_was_written(
    tmp_path, dataset, make_model, monkeypatch
):
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_SAVES", 0)

    class Poisoned(keras.Sequential):
        """Gives NaN from the third epoch on."""

        def _compute_loss(self, **arguments):
            loss = super()._compute_loss(**arguments)
            late = self.optimizer.iterations >= 12
            return keras.ops.where(late, float("nan"), loss)

    model = Poisoned(make_model().layers, name="poisoned")
    model.build((None, 16, 16, 3))
    message = r"nan in epoch 3, step 1, at .* of 0\.0\d+\..*epoch (2, step 6|3, step 0)"
    with pytest.raises(DivergedError, match=message):
        run(model, dataset, EASY, tmp_path / "run")
    folder = tmp_path / "run"
    assert len((folder / "history.csv").read_text().splitlines()) == 3
    assert (folder / "model.keras").stat().st_size > 1000
    assert not (folder / "summary.json").exists()


def pooled():
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(8, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, activation="softmax", dtype="float32"),
        ],
        name="pooled",
    )


def test_activation_maps_are_the_pooled_features_weighted_by_the_kernel(dataset):
    model = pooled()
    images = dataset.train.images[:5].astype(np.float32)
    labels = np.eye(8, dtype=np.float32)[[3, 1, 4, 1, 5]]
    found = activation_maps(model)(images, labels)
    kernel, bias = model.layers[-1].get_weights()
    features = model.layers[0](images).numpy()
    scores = np.stack([f @ kernel[:, n] for f, n in zip(features, [3, 1, 4, 1, 5], strict=True)])
    np.testing.assert_allclose(found, scores - scores.min((1, 2), keepdims=True), atol=1e-2)
    with pytest.raises(ValueError, match="ends in GlobalAveragePooling2D and Dense"):
        activation_maps(keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)]))


def test_mixing_is_trained_with_and_waiting_is_reported(tmp_path, dataset):
    settings = replace(EASY, epochs=2, mixing="snapmix*0.5+mixup1*0.5,none@1")
    summary = run(pooled(), dataset, settings, tmp_path / "run")
    rows = history(tmp_path / "run")
    assert all(0 <= float(row["waiting"]) <= 1 for row in rows)
    assert 0 <= summary["waiting_for_data"] <= 1
    assert read(tmp_path / "run", "config.json")["cache"].startswith("array: ")


def test_no_clock_is_read_in_a_process_that_is_deterministic(
    tmp_path, dataset, make_model, monkeypatch
):
    """Whatever the recipe of this run is: TensorFlow would refuse to."""
    monkeypatch.setattr("keras_resnext.training.loop.clock_is_readable", lambda: False)
    monkeypatch.setattr("keras_resnext.training.loop.timed", None)
    summary = run(make_model(), dataset, replace(EASY, epochs=1), tmp_path / "run")
    assert summary["waiting_for_data"] is None and summary["epochs"] == 1


def test_an_interruption_that_tensorflow_loses_ends_the_first_step():
    stop = callbacks.StopSafely()
    with stop:
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            stop.on_train_batch_end(0)


def test_an_image_that_cannot_be_decoded_is_named_while_streaming(tmp_path, dataset, make_model):
    good = keras.utils.array_to_img(dataset.train.images[0])
    for number in range(64):
        good.save(tmp_path / f"{number}.jpg")
    (tmp_path / "33.jpg").write_bytes(b"\xff\xd8\xff" + b"nonsense" * 9 + b"\xff\xd9")
    files = tuple(str(tmp_path / f"{number}.jpg") for number in range(64))
    dataset = replace(dataset, train=Part(files, np.arange(64) % 8))
    with pytest.raises(ValueError, match="Unreadable image .*33.jpg"):
        run(make_model(), dataset, replace(EASY, cache=False), tmp_path / "run")


def test_a_batch_larger_than_the_data_and_one_step_a_run(tmp_path, dataset, make_model):
    settings = replace(EASY, epochs=1, batch_size=5000)
    summary = run(make_model(), dataset, settings, tmp_path / "run")
    assert summary["epochs"] == 1
    assert summary["images_per_second"] is None
    assert read(tmp_path / "run", "config.json")["recipe"]["batch_size"] == 200


def test_the_picture_is_drawn_as_often_as_costs_next_to_nothing(tmp_path, monkeypatch):
    now, drawn = [100.0], []

    def draw(history, path, title):
        drawn.append(len(files.rows))
        path.write_bytes(b"")
        now[0] += 0.6

    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(callbacks, "plot_history", draw)
    files = callbacks.HistoryFiles(tmp_path, "", [])
    for epoch in range(40):
        now[0] += 1.1
        files.on_epoch_end(epoch, {"loss": 1.0})
    # Not in the first ten seconds; then 0.6 seconds are 3 % of twenty.
    assert drawn == [10, 29]


def test_the_record_is_of_the_network_that_was_trained(tmp_path, dataset):
    """The recipe's fields of it, and those that were given instead."""
    recipe = EASY.replace(epochs=1, network={"blocks": (1, 1, 1), "zero_gamma": True})
    session = Session("ResNet20", "none", 16, recipe, network={"zero_gamma": False})
    summary = session.train(dataset, tmp_path / "run", console=quiet())
    written = read(tmp_path / "run", "config.json")["configuration"]
    assert written["blocks"] == [1, 1, 1] and written["zero_gamma"] is False
    again = create_model(
        variants.get("ResNet20").config.replace(blocks=(1, 1, 1)),
        input_shape=(16, 16, 3),
        classes=8,
    )
    assert summary["parameters"] == again.count_params()
