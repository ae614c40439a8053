"""The command, as people call it: in a process of its own where imports or signals matter."""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from keras_resnext import cli
from keras_resnext.cli import search, shared, training
from keras_resnext.models import variants
from keras_resnext.training.recipe import SECTIONS
from keras_resnext.training.recipes import RECIPES
from keras_resnext.training.run_folder import EVENTS, RUN_FILES

HEAVY = ("keras", "tensorflow", "jax", "torch", "numpy", "matplotlib", "rich", "sklearn")
COMMAND = [sys.executable, "-m", "keras_resnext"]
SHALLOW = ("--set", "blocks=[1, 1, 1]", "--set", "filters=[16, 16, 16]")


def command(*arguments, **options):
    return subprocess.run(
        [*COMMAND, *map(str, arguments)], capture_output=True, text=True, **options
    )


def call(capsys, *arguments):
    """Exit code and what was printed, without another process."""
    try:
        code = cli.main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def sub_commands():
    """Of the parser's own table."""
    for action in cli.build_parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            return sorted(action.choices)


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)


def test_help_and_wrong_arguments_import_nothing_heavy():
    program = f"""
import json, sys
from keras_resnext import cli
for case, expected in json.loads(sys.argv[1]):
    try:
        code = cli.main(case)
    except SystemExit as error:
        code = error.code
    assert (code or 0) == expected, (case, code)
    heavy = ("keras", "tensorflow") if expected else {HEAVY}
    assert not sys.modules.keys() & set(heavy), case
"""
    cases = [["--help"], ["--version"], *([name, "--help"] for name in sub_commands())]
    assert len(cases) >= 5
    codes = [*((case, 0) for case in cases), (["train", "--data", "/no/such/place"], 2)]
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(codes)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("usage: keras-resnext") == len(cases) - 1


def test_the_help_of_train_has_its_arguments(capsys):
    code, out, _ = call(capsys, "train", "--help")
    assert code == 0
    for name in ("model", "data", "epochs", "batch-size", "image-size", "precision"):
        assert f"--{name}" in out
    for name in ("learning-rate", "seed", "output", "weight-decay", "label-smoothing"):
        assert f"--{name}" in out


def test_list(capsys):
    code, out, _ = call(capsys, "list", "--json")
    rows = json.loads(out)
    assert code == 0
    assert [row["name"] for row in rows] == list(variants.list_models())
    code, out, _ = call(capsys, "list", "ResNet20")
    assert code == 0 and "ResNet20" in out and variants.DEFAULT_MODEL not in out
    assert f"{variants.get('ResNet20').gmacs:.3f}" in out


def test_list_without_a_match_names_the_nearest(capsys):
    code, out, err = call(capsys, "list", "ResNet_20*")
    assert code == 2 and not out
    assert 'Unknown model "ResNet_20*". Did you mean "ResNet20' in err


def test_info(capsys):
    variant = variants.get("ResNet20")
    code, out, _ = call(capsys, "info", "ResNet20", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["total"] == variant.total
    assert facts["config"]["cardinality"] == variant.config.cardinality
    code, out, _ = call(capsys, "info", "ResNet20")
    assert code == 0
    for name in facts["config"]:
        assert name in out


DIGITS = str(Path(__file__).parents[1] / "tuning" / "digits.py")
WRONG = [
    (["trian"], 'Unknown command "trian". Did you mean "train"?'),
    (["train", "--precision", "bfloat16"], 'Unknown precision "bfloat16". Did you mean "mixed_bf'),
    (["train", "--epohcs", "3"], 'Unknown argument "--epohcs". Did you mean "--epochs"?'),
    (["train", "--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
    (["train", "--epochs", "0"], "`epochs`. Expected an integer of at least 1"),
    (["train", "--learning-rate", "-1"], "`learning_rate`. Expected a number above 0"),
    (["train", "--model", "ResNet_20"], 'Unknown model "ResNet_20". Did you mean "ResNet20"?'),
    (["train", "--data", "digit"], 'Unknown data "digit". Did you mean "digits"?'),
    (["train", "--resume"], "--resume needs --output"),
    (["train", "--go-on"], "--go-on is now --resume: write --output FOLDER --resume"),
    (["train", "--recipe", "e20"], 'Unknown recipe "e20". Did you mean "e2"?'),
    (["train", "--recipe", "e7"], 'The recipe "e7" learns from a teacher, and none is given'),
    (["train", "--teacher", "no.keras"], 'The teacher "no.keras" does not exist'),
    (["train", "--l2", "5e-4"], "Write weight_decay=0.001 (--weight-decay 0.001) for l2=0.0005"),
    (["train", "--set", "l2=5e-4", "--weight-decay", "1e-4"], "A recipe has no `l2`"),
    (["train", "--set", "emaa=0.9"], 'Unknown field of the recipe or the model "emaa". Did you'),
    (["train", "--set", "ema=1"], "`ema`. Expected a number of at least 0 and below 1"),
    (["train", "--resume", "nothing"], '"nothing" holds no run'),
    (["train", "--restarts", "2"], "--restarts needs --output"),
    (["recipes", "adam"], 'Unknown recipe "adam". Did you mean "adam_l2"?'),
    (["train", "--image-size", "2"], "`image_size`. Expected an integer of at least 8"),
    (["train", "--set", "cardinality"], 'Expected KEY=VALUE. Received: "cardinality"'),
    (["train", "--output", "/proc/nothing"], '"/proc/nothing" cannot be written'),
    (["info", "ResNet_20"], 'Unknown model "ResNet_20". Did you mean "ResNet20"?'),
    (["train", "--epochs", "5", "--set", "epochs=3"], "Both --epochs and --set epochs are given"),
    (["train", "--restarts", "-1"], "`--restarts`. Expected an integer of at least 0"),
    (["train", "--overwrite", "--restarts", "1"], "--overwrite begins anew"),
    (["train", "--resume", "runs/x", "--epochs", "3"], "Received: --epochs"),
    (["train", "--smoke", "--model", "InceptionV3"], '"InceptionV3" has no tiny form'),
    (["train", "--smoke", "--model", "keras:ResNet50"], '"keras:ResNet50" has no tiny form'),
    (["train", "--set", "reference_batch=256"], "is the batch of a `learning_rate`: give both"),
    (["tune", "--output", "nothing"], '"nothing" holds no search to resume'),
    (["tune", "--space", DIGITS, "--compare", "nothing"], '--compare "nothing" holds no search'),
    (["profile", "--output", "no/p.png"], "--output. Expected a file in a folder that exists"),
    (["data", "show", "--output", "no/p.png"], "--output. Expected a file in a folder"),
    (["data", "show", "--augmentation", "flop"], '"flop". Did you mean "flip"?'),
    (["profile", "--mixing", "mixup(0)"], "`mixup(alpha)`. Expected a number above 0"),
    (["predict", DIGITS, "a.jpg", "--weights", "b.h5"], "has its own weights"),
    (["benchmark", DIGITS, "--image-size", "320"], "--image-size is for named networks"),
    (["benchmark", "ResNet20", "--precision", "int8"], "None of the forms keras, folded has the"),
    ([], "the following arguments are required: COMMAND"),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda value: str(value)[:40])
def test_wrong_arguments(capsys, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(capsys, *arguments)
    assert code == 2 and not out
    assert re.search(r"^keras-resnext( train)?: error: ", err, re.MULTILINE)
    assert message in err
    assert "Traceback" not in err
    assert not list(tmp_path.iterdir())


def test_only_arguments_of_the_same_command_are_proposed(capsys):
    for command, argument in (("train", "--json"), ("train", "--trials"), ("list", "--epochs")):
        code, _, err = call(capsys, command, argument, 3)
        assert code == 2 and f'Unknown argument "{argument}"' in err
        assert f'Did you mean "{argument}"' not in err


def test_going_on_with_a_search_takes_its_limits_alone(capsys, tmp_path, monkeypatch):
    (tmp_path / "search.json").write_text('{"oracle": "bayesian"}')
    code, _, err = call(capsys, "tune", "--output", tmp_path, "--trials", 9, "--epochs", 3)
    assert code == 2 and err.strip().endswith("Received: --epochs")
    asked = []
    monkeypatch.setattr("keras_resnext.search.driver.resume", lambda *a, **k: asked.append((a, k)))
    monkeypatch.setattr(search, "_print_outcome", lambda outcome: 0)
    call(capsys, "tune", "--output", tmp_path, "--trials", 9, "--workers", 2)
    call(capsys, "tune", "--output", tmp_path, "--attempts", 1)
    before = {"trials": None, "time_limit": None}
    assert asked == [
        ((str(tmp_path), 2), {**before, "trials": 9}),
        ((str(tmp_path), 1), {**before, "attempts": 1}),
    ]


def test_every_search_compared_has_a_label_of_its_own(tmp_path):
    paths = [tmp_path / name for name in ("own", "a/tune", "b/tune", "bayesian", "random")]
    for path in paths:
        path.mkdir(parents=True)
        (path / "search.json").write_text('{"oracle": "bayesian"}')
    given = [text for path in paths[1:] for text in ("--compare", str(path))]
    options = cli.build_parser().parse_args(["tune", "--output", str(paths[0]), *given])
    assert search._compared(options) == {
        **{str(path): str(path) for path in paths[1:4]},
        "random": str(paths[4]),
    }


@pytest.mark.parametrize(
    "text, expected",
    [
        ("cardinality=8", ("cardinality", 8)),
        ("depths=(2, 2)", ("depths", (2, 2))),
        ("l2=5e-4", ("l2", 5e-4)),
        ("shortcut=A", ("shortcut", "A")),
        ("name=a=b", ("name", "a=b")),
        ("stem=None", ("stem", None)),
    ],
)
def test_overrides(text, expected):
    assert shared.override(text) == expected


def test_recipes(capsys):
    code, out, _ = call(capsys, "recipes")
    assert code == 0 and all(f" {name} " in out for name in RECIPES)
    code, out, _ = call(capsys, "recipes", "--json")
    assert {row["name"]: row.get("epochs") for row in json.loads(out)} == {
        name: recipe.epochs for name, recipe in RECIPES.items()
    }
    code, out, _ = call(capsys, "recipes", "A3")
    assert code == 0 and "lamb" in out and "Wightman" in out
    assert all(f" {section.__name__} " in out for section in SECTIONS)
    code, out, _ = call(capsys, "recipes", "a3", "--json")
    assert json.loads(out)["learning_rate"] == 8e-3


def recipe_of(*arguments):
    options = cli.build_parser().parse_args(["train", *map(str, arguments)])
    name, recipe, network = training._recipe(options)
    return *training._trained_model(name, recipe, network), recipe, network


def test_a_recipe_by_arguments():
    name, size, recipe, network = recipe_of("--recipe", "a3")
    assert (name, size, recipe) == ("ResNet50", 160, RECIPES["a3"])
    given = ["--recipe", "a3", "--ema", 0.9, "--set", "clip_norm=1.0", "--set", "cardinality=8"]
    name, size, recipe, network = recipe_of(*given, "--model", "resnext50", "--image-size", 96)
    assert (name, size, network) == ("ResNeXt50", 96, {"cardinality": 8})
    assert recipe == RECIPES["a3"].replace(ema=0.9, clip_norm=1.0, image_size=96)
    # A recipe for photographs, with a network for thumbnails: its own size.
    assert recipe_of("--recipe", "a3", "--model", "ResNet20")[1] == 32
    _, size, recipe, _ = recipe_of("--recipe", "a3", "--model", "ResNet20", "--image-size", 40)
    assert (size, recipe.test_size) == (40, None)
    assert recipe_of("--model", "ResNet20", "--set", "image_size=96")[1] == 96
    assert recipe_of("--recipe", "e1", "--smoke")[2] == RECIPES["e1"].smoke()
    assert recipe_of("--learning-rate", 0.3, "--recipe", "e1")[2].reference_batch is None


def test_train_by_arguments(toy, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "run"
    arguments = ["train", "--model", "ResNet20", *SHALLOW, "--data", toy, "--output", output]
    options = ("--epochs", 2, "--batch-size", 16, "--seed", 3)
    code, out, err = call(capsys, *arguments, *options)
    assert code == 0 and not err
    assert sorted(path.name for path in output.iterdir()) == sorted([*RUN_FILES, EVENTS])
    summary = json.loads((output / "summary.json").read_text())
    config = json.loads((output / "config.json").read_text())
    assert (summary["model"], summary["epochs"]) == ("ResNet20", 2)
    assert f"{summary['test_top1']:.2%}" in out
    assert "images per second" in out and f"Saved in {output}: " in out
    assert config["recipe"]["batch_size"] == 16 and config["recipe"]["seed"] == 3
    assert config["command"].startswith("keras-resnext train --model ResNet20")
    assert config["configuration"]["cardinality"] == variants.get("ResNet20").config.cardinality

    code, _, err = call(capsys, *arguments)
    assert code == 2 and "already holds a run" in err
    code, out, _ = call(capsys, "train", "--resume", output)
    assert code == 0 and "nothing is left to train: all 2 epochs are done" in out
    assert json.loads((output / "summary.json").read_text())["epochs"] == 2


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_computed(toy, tmp_path):
    output = tmp_path / "run"
    arguments = ["train", "--model", "ResNet20", *SHALLOW, "--data", toy, "--output", output]
    arguments += ["--epochs", 100_000, "--batch-size", 16]
    process = subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 400
    while not (output / "history.csv").exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in out and f"Saved in {output}: " in out
    summary = json.loads((output / "summary.json").read_text())
    assert summary["interrupted"] is True and 1 <= summary["epochs"] < 100_000
    assert sorted(path.name for path in output.iterdir()) == sorted([*RUN_FILES, EVENTS])


def test_ctrl_c_before_training_leaves_nothing(toy, tmp_path):
    process = subprocess.Popen(
        [*COMMAND, "train", "--data", str(toy), "--output", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    time.sleep(1.5)  # importing
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=200)
    # Killed by the signal, which a shell calls 130 too: where it met Python within an exec().
    assert process.returncode in (130, -signal.SIGINT), err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_plain_train_reads_digits(tmp_path):
    """The main job, with nothing to choose."""
    done = command("train", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "nothing to worry the user"
    summary = json.loads(next(Path(tmp_path, "runs").glob("*/summary.json")).read_text())
    assert summary["test_top1"] >= 0.97


def test_version(capsys):
    code, out, _ = call(capsys, "--version")
    assert code == 0 and out.startswith("keras-resnext ") and "keras 3" in out


def test_tensorflow_is_quiet_only_while_it_is_imported(capfd, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL", raising=False)
    with shared.quiet_tensorflow():
        os.write(2, b"greetings\n")
    os.write(2, b"trouble\n")
    assert capfd.readouterr().err == "trouble\n"
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    with shared.quiet_tensorflow():
        os.write(2, b"asked for\n")
    assert capfd.readouterr().err == "asked for\n"
