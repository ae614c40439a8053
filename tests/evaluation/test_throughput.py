"""What was measured: the right network, in the right precision, as often as promised."""

import itertools
import json
import subprocess
import sys
import time

import pytest

from keras_resnext import cli, create_model
from keras_resnext.evaluation import throughput as module
from keras_resnext.evaluation.throughput import median_seconds, throughput

pytestmark = pytest.mark.only_tensorflow


def test_the_median_of_enough_runs(monkeypatch):
    clock = itertools.accumulate([0, 1, 0, 5, 0, 1, 0, 9, 0, 2, 0, 2, 0, 3, 0, 3])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    calls = []
    assert median_seconds(lambda: calls.append(1), seconds=20) == 2
    assert len(calls) == 6


@pytest.mark.slow
def test_one_operation_at_a_time_where_tensorflow_has_not_begun():
    program = """
import tensorflow as tf
from keras_resnext.evaluation.throughput import one_operation_at_a_time
one_operation_at_a_time()
tf.zeros(1) + 1
one_operation_at_a_time()
print(tf.config.threading.get_inter_op_parallelism_threads())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "1\n", done.stderr


def test_rows(monkeypatch):
    model = create_model("ResNeXt35", blocks=(1, 1, 1), filters=(16, 16, 16))
    seen = []
    runner = module.make_runner

    def spied(model, form, precision, folder):
        run = runner(model, form, precision, folder)
        return lambda batch: (seen.append((form, precision, batch.shape)), run(batch))[1]

    monkeypatch.setattr(module, "make_runner", spied)
    forms, precisions = ("folded", "savedmodel"), ("float32", "bfloat16")
    rows = list(throughput(model, forms, precisions, (1, 3), seconds=0))
    found = [(row["form"], row["precision"], row["batch_size"]) for row in rows]
    assert found == list(itertools.product(forms, precisions, (1, 3)))
    for row in rows:
        shape = (row["batch_size"], 32, 32, 3)
        assert seen.count((row["form"], row["precision"], shape)) == 6  # one of them compiles
        assert row["compile_seconds"] > 0 and row["model"] == "ResNeXt35"
        rate = 1e3 * row["batch_size"] / row["latency_ms"]
        assert row["images_per_second"] == pytest.approx(rate)


def test_forms_are_what_they_say(tmp_path):
    model = create_model("ResNeXt35", blocks=(1, 1, 1))
    for form, norms in (("keras", 10), ("folded", 0)):
        run = module.make_runner(model, form, "bfloat16", tmp_path)
        layers = run.__self__.layers
        assert layers[1].compute_dtype == "bfloat16"
        assert sum(layer.name.endswith("_norm") for layer in layers) >= norms
        assert norms or not any(layer.name.endswith("_norm") for layer in layers)


def test_command(capsys, tmp_path, eagerly):
    picture = tmp_path / "rates.png"
    arguments = ["benchmark", "ResNet20", "--batch-size", "2", "--seconds", "0"]
    assert cli.main([*arguments, "--json", "--plot", str(picture)]) == 0
    captured = capsys.readouterr()
    rows = json.loads(captured.out)
    assert [row["form"] for row in rows] == ["keras", "folded"]
    assert captured.err.count("images per second") == 2
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["ResNet_20"], 'Unknown model "ResNet_20". Did you mean "ResNet20"?'),
        (["ResNet20", "--forms", "foldd"], 'Unknown form "foldd". Did you mean "folded"?'),
        (["ResNet20", "--precision", "float23"], 'Unknown precision "float23". Did you mean "fl'),
        (["ResNet20", "--batch-size", "0"], "integers of at least 1"),
    ],
    ids=str,
)
def test_wrong_arguments(capsys, arguments, message):
    assert cli.main(["benchmark", *arguments]) == 2
    assert message in capsys.readouterr().err
