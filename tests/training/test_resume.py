"""A run that is interrupted anywhere and goes on ends as one that never was."""

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from io import StringIO

import keras
import numpy as np
import pytest
import tensorflow as tf
from rich.console import Console
from safetensors import safe_open

from keras_resnext import ResNetConfig, create_model
from keras_resnext.training import callbacks, checkpoint
from keras_resnext.training.precision import precision
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.run_folder import CHECKPOINT, WriteError
from keras_resnext.training.train import resume, train

SOAK = "SOAK" in os.environ
TIMES = {"seconds", "images_per_second", "waiting"}
TINY = ResNetConfig(
    blocks=(1, 1),
    filters=(8, 8),
    block="basic",
    stem="cifar",
    stem_filters=8,
    drop_block=0.1,
    drop_block_size=3,
    drop_path=0.1,
    dropout=0.1,
)
RECIPE = Recipe(
    learning_rate=0.02,
    epochs=3,
    batch_size=32,
    accumulate=2,
    ema=0.9,
    clip_norm=5.0,
    drop_ramp=1.0,
    mixing="mixup+cutmix",
    label_smoothing=0.1,
    augmentation="shift_flip",
)


class Killed(BaseException):
    """What ends a run in the middle, as a signal would: nothing is saved on the way out."""


def network(policy="float32"):
    keras.utils.set_random_seed(0)
    with precision(policy):
        return create_model(TINY, input_shape=(16, 16, 3), classes=8)


def history(folder):
    rows = csv.DictReader((folder / "history.csv").read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in TIMES} for row in rows]


def run(dataset, folder, recipe, **options):
    model = network(recipe.precision)
    train(model, dataset, recipe, folder, console=Console(file=StringIO()), **options)
    return model


def run_killed_at(dataset, folder, recipe, moments, monkeypatch):
    """Kill at each of the moments (counted in steps and tests of this start), then go on."""
    monkeypatch.setattr(callbacks, "SECONDS_BETWEEN_SAVES", 0)
    for moment in moments:
        count = iter(range(10_000))

        def die(self, batch, logs=None, count=count, moment=moment):
            if next(count) == moment:
                raise Killed

        with monkeypatch.context() as patched:
            patched.setattr(callbacks.StopSafely, "on_train_batch_end", die)
            patched.setattr(callbacks.StopSafely, "on_test_batch_end", die)
            try:
                run(dataset, folder, recipe, resume=True)
            except Killed:
                continue
            break
    return run(dataset, folder, recipe, resume=True)


# 12 steps and 5 tests an epoch: within an epoch, in the test that ends it, within another epoch.
@pytest.mark.parametrize(
    "policy, moments",
    [
        ("float32", [4]),
        pytest.param("mixed_float16", [4, 10, 9], marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, dataset, policy, moments, monkeypatch):
    if policy != "float32":
        tf.config.run_functions_eagerly(False)
    recipe = replace(RECIPE, precision=policy, epochs=2 if policy == "float32" else 3)
    whole = run(dataset, tmp_path / "whole", recipe)
    killed = run_killed_at(dataset, tmp_path / "killed", recipe, moments, monkeypatch)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    assert len(history(tmp_path / "whole")) == recipe.epochs
    for ours, expected in zip(killed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours.value, expected.value, err_msg=expected.path)
    ours, expected = killed.optimizer.variables, whole.optimizer.variables
    assert len(ours) == len(expected) > len(whole.trainable_variables) * 3
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_array_equal(a.value, b.value, err_msg=b.path)
    for name in ("model.keras", "best.keras"):
        saved = [keras.saving.load_model(tmp_path / f / name) for f in ("killed", "whole")]
        for a, b in zip(*(model.get_weights() for model in saved), strict=True):
            np.testing.assert_array_equal(a, b)


def interrupted(*_, **__):
    raise KeyboardInterrupt


def test_ctrl_c_in_a_test_keeps_the_metrics_of_the_epoch(tmp_path, dataset, monkeypatch):
    """And so it does where a resumed run has not begun its first step."""
    recipe = replace(RECIPE, epochs=1)
    with monkeypatch.context() as patched:
        patched.setattr(callbacks.StopSafely, "on_test_batch_end", interrupted)
        run(dataset, tmp_path, recipe)
    at, sums = checkpoint.position_of(tmp_path / CHECKPOINT), metrics(tmp_path)
    assert (at.epoch, at.step, at.history) == (0, 12, [])
    # Keras counts the batches of the loss, and the images of each accuracy.
    assert [float(value) for value in sums[1::2]] == [12 * 16, 12 * 16, 12 * 16]
    with monkeypatch.context() as patched:
        patched.setattr(keras.Model, "evaluate", interrupted)
        run(dataset, tmp_path, recipe, resume=True)
    np.testing.assert_array_equal(metrics(tmp_path), sums)
    model = run(dataset, tmp_path, recipe, resume=True)
    (row,) = history(tmp_path)
    assert float(row["loss"]) == pytest.approx(sums[0] / sums[1], rel=1e-5)
    assert int(model.optimizer.variables[0]) == 12


def metrics(folder):
    with safe_open(folder / CHECKPOINT, framework="numpy") as file:
        return [file.get_tensor(name) for name in sorted(file.keys()) if "metric" in name]


@pytest.mark.slow
def test_rematerialization_changes_no_bit_killed_or_not(tmp_path, dataset, monkeypatch, traced):
    recipe = replace(RECIPE, epochs=2)
    whole = run(dataset, tmp_path / "whole", recipe)
    recipe = replace(recipe, remat=True)
    killed = run_killed_at(dataset, tmp_path / "killed", recipe, [4, 9], monkeypatch)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    for ours, expected in zip(killed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours.value, expected.value, err_msg=expected.path)
    saved = keras.saving.load_model(tmp_path / "killed" / "model.keras")
    assert [layer.name for layer in saved.layers] == [layer.name for layer in whole.layers]


@pytest.mark.slow
def test_a_run_killed_after_the_last_step_of_an_epoch_is_tested(tmp_path, dataset, monkeypatch):
    recipe = replace(RECIPE, epochs=1)
    whole = run(dataset, tmp_path / "whole", recipe)
    killed = run_killed_at(dataset, tmp_path / "killed", recipe, [12], monkeypatch)
    at = checkpoint.position_of(tmp_path / "killed" / CHECKPOINT)
    assert (at.epoch, at.step) == (1, 0)
    assert history(tmp_path / "killed") == history(tmp_path / "whole")
    for ours, expected in zip(killed.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(ours.value, expected.value)


def test_resuming_a_finished_run_changes_nothing(tmp_path, dataset):
    recipe = replace(RECIPE, epochs=1)
    run(dataset, tmp_path, recipe)
    before = (tmp_path / "history.csv").read_text(), (tmp_path / CHECKPOINT).read_bytes()[:200]
    model = run(dataset, tmp_path, recipe, resume=True)
    assert (tmp_path / "history.csv").read_text() == before[0]
    assert int(model.optimizer.variables[0]) == 12


def test_a_checkpoint_that_cannot_be_restored(tmp_path, dataset):
    recipe = replace(RECIPE, epochs=1)
    run(dataset, tmp_path / "run", recipe)
    kept = (tmp_path / "run" / CHECKPOINT).read_bytes()

    def fails(message, model=None):
        with pytest.raises(ValueError, match=message):
            train(model or network(), dataset, recipe, tmp_path / "run", resume=True)
        assert (tmp_path / "run" / "history.csv").is_file()

    wider = create_model(
        TINY.replace(filters=(8, 16)), input_shape=(16, 16, 3), classes=8, name="resnet"
    )
    fails(r"is of another network or recipe:\n", model=wider)
    path = tmp_path / "run" / CHECKPOINT
    path.write_bytes(kept[:100])
    fails("cannot be read")
    for broken in (b"", kept[:-100]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match="cannot be read"):
            checkpoint.restore(path, wider, wider)


def test_a_checkpoint_of_other_classes_is_named(tmp_path):
    models = []
    for classes in (8, 5):
        model = create_model(TINY, input_shape=(16, 16, 3), classes=classes)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "categorical_crossentropy")
        model.optimizer.build(model.trainable_variables)
        models.append(model)
    checkpoint.save(tmp_path / CHECKPOINT, models[0], models[0], checkpoint.Position())
    with pytest.raises(ValueError, match="is of 8 classes, the data now has 5"):
        checkpoint.restore(tmp_path / CHECKPOINT, models[1], models[1])


def test_weights_that_are_no_numbers_do_not_replace_a_checkpoint(tmp_path):
    model = create_model(TINY, input_shape=(16, 16, 3), classes=8)
    model.compile("sgd", "categorical_crossentropy")
    path = tmp_path / CHECKPOINT
    checkpoint.save(path, model, model, checkpoint.Position(epoch=3))
    model.trainable_variables[0].assign(model.trainable_variables[0] * float("nan"))
    checkpoint.save(path, model, model, checkpoint.Position(epoch=4))
    assert checkpoint.position_of(path).epoch == 3


@pytest.fixture
def small_disk(tmp_path):
    """A file system of a few megabytes."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(mounted, capture_output=True).returncode:
        pytest.skip("only root may mount")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_a_full_disk_leaves_what_was_saved(small_disk, dataset, monkeypatch):
    def fill(self, epoch, logs=None):
        if epoch == 1:
            with (
                pytest.raises(OSError, match="No space left"),
                open(small_disk / "full", "wb") as f,
            ):
                while True:
                    f.write(bytes(4096))
                    f.flush()

    monkeypatch.setattr(callbacks.HistoryFiles, "on_epoch_begin", fill, raising=False)
    folder, recipe = small_disk / "run", replace(RECIPE, epochs=2)
    with pytest.raises(WriteError, match=r"No space left.*What was there before is as it was"):
        run(dataset, folder, recipe)
    at = checkpoint.position_of(folder / CHECKPOINT)
    assert at.epoch == 1 and len(at.history) == 1
    keras.saving.load_model(folder / "best.keras")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    # With room again, it goes on.
    monkeypatch.undo()
    (small_disk / "full").unlink()
    run(dataset, folder, recipe, resume=True)
    assert len(history(folder)) == 2


def test_a_folder_that_can_be_written_no_more(tmp_path, dataset, monkeypatch):
    """As root may write everywhere: a file is in the folder's place."""
    recipe = replace(RECIPE, epochs=2)
    folder = tmp_path / "run"

    def remove(self, epoch, logs=None):
        if epoch == 1:
            shutil.rmtree(folder)
            folder.touch()

    monkeypatch.setattr(callbacks.HistoryFiles, "on_epoch_begin", remove, raising=False)
    with pytest.raises(WriteError, match="could not be written: .*Not a directory"):
        run(dataset, folder, recipe)


COMMAND = [sys.executable, "-m", "keras_resnext", "train"]


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["float32", "mixed_float16"] if SOAK else ["mixed_float16"])
def test_killed_many_times_by_the_command_line(tmp_path, rows, policy):
    """SIGKILL at random moments; then the same weights and history as if there had been none.

    Each start takes ten seconds on two cores.
    """
    most = 20 if SOAK else 3
    arguments = ["--data", rows, "--model", "ResNet20", "--epochs", "8"]
    arguments += ["--precision", policy, "--mixing", "mixup", "--ema", "0.9", "--batch-size", "20"]
    arguments += ["--set", "deterministic=True", "--set", "blocks=(1, 1, 1)"]
    subprocess.run([*COMMAND, *arguments, "--output", tmp_path / "whole"], check=True)
    generator, kills, folder = random.Random(0), 0, tmp_path / "killed"
    while True:
        begun = (folder / CHECKPOINT).is_file()
        goes_on = ["--resume", folder] if begun else [*arguments, "--output", folder]
        if not begun:
            shutil.rmtree(folder, ignore_errors=True)
        process = subprocess.Popen([*COMMAND, *goes_on], start_new_session=True)
        if kills == most:
            assert process.wait() == 0
            break
        before = _written(folder)
        limit = time.monotonic() + 60
        # Importing is not interesting: wait until something has been written.
        while process.poll() is None and _written(folder) == before and time.monotonic() < limit:
            time.sleep(0.01)
        time.sleep(generator.uniform(0, 0.4))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        elif process.returncode == 0:
            break
        process.wait()
    assert kills >= most // 4, "else nothing was shown"
    assert history(folder) == history(tmp_path / "whole")
    for name in ("model.keras", "best.keras"):
        ours, expected = (keras.saving.load_model(f / name) for f in (folder, tmp_path / "whole"))
        for a, b in zip(ours.get_weights(), expected.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def _written(folder):
    path = folder / CHECKPOINT
    return path.stat().st_mtime_ns if path.is_file() else None


def test_the_command_line_names_what_it_cannot_resume(tmp_path):
    with pytest.raises(ValueError, match="holds no run: there is no config.json"):
        resume(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"has no checkpoint.safetensors"):
        resume(tmp_path)
    (tmp_path / CHECKPOINT).touch()
    with pytest.raises(ValueError, match="was begun in Python with a model of its own"):
        resume(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"session": 1})[:-2])
    with pytest.raises(ValueError, match="cannot be read"):
        resume(tmp_path)
