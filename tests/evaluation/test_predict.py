"""Answers about image files, against the model asked directly on what Pillow reads."""

import json
import re

import keras
import numpy as np
import pytest
from toy import NAMES, transformed

from keras_resnext import cli, create_model, describe, preprocessing
from keras_resnext.cli import inference
from keras_resnext.errors import DownloadError
from keras_resnext.evaluation import classifier as classifier_module
from keras_resnext.evaluation.classifier import load_classifier
from keras_resnext.evaluation.image_files import find_images
from keras_resnext.evaluation.predict import predict
from keras_resnext.layers import Preprocessing
from keras_resnext.layers.image_input import Description
from keras_resnext.models.description import description

pytestmark = [pytest.mark.only_tensorflow, pytest.mark.usefixtures("eagerly")]


def call(capsys, *arguments):
    code = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_the_answers_are_the_models(classifier, pictures):
    paths = find_images([pictures])
    assert len(paths) == 12
    expected = classifier.model.predict_on_batch(np.stack([transformed(p) for p in paths]))
    answers = list(predict(classifier, paths, top=3, batch_size=5))
    assert [answer["image"] for answer in answers] == [str(path) for path in paths]
    for answer, row, path in zip(answers, expected, paths, strict=True):
        found = np.zeros(3)
        for place in answer["classes"]:
            found[place["index"]] = place["probability"]
            assert place["name"] == NAMES[place["index"]]
        np.testing.assert_allclose(found, row, atol=0.02)  # rounding of the resized pixels
        assert answer["classes"][0]["probability"] == found.max()
        assert answer["classes"][0]["name"] in path.name


def test_logits_become_probabilities(classifier, run_folder, pictures, tmp_path):
    model = keras.saving.load_model(run_folder / "model.keras")
    path = find_images([pictures])[0]
    expected = list(predict(classifier, [path], top=3))
    model.layers[-1].activation = keras.activations.linear
    model.save(tmp_path / "model.keras")
    (tmp_path / "config.json").write_bytes((run_folder / "config.json").read_bytes())
    found = list(predict(load_classifier(tmp_path / "model.keras"), [path], top=3))
    for a, b in zip(expected[0]["classes"], found[0]["classes"], strict=True):
        assert a["index"] == b["index"]
        assert a["probability"] == pytest.approx(b["probability"], abs=1e-5)


def test_command(capsys, run_folder, pictures, monkeypatch):
    monkeypatch.setenv("COLUMNS", "400")  # paths are not folded
    files = sorted(pictures.iterdir())
    code, out, err = call(capsys, "predict", run_folder, *files[:2], "--json", "--top", 1)
    assert code == 0 and not err
    assert [[c["name"] for c in answer["classes"]] for answer in json.loads(out)] == [
        ["dark"],
        ["bright"],
    ]
    code, out, _ = call(capsys, "predict", run_folder / "model.keras", pictures, "--top", 2)
    assert code == 0
    assert out.count("%") == 24 and "11-red" in out


def test_a_broken_image_is_named_and_the_others_are_predicted(
    capsys, run_folder, pictures, tmp_path
):
    good = sorted(pictures.glob("*.jpg"))[0]
    files = {
        "cut.jpg": good.read_bytes()[:200],
        "empty.png": b"",
        "text.jpg": b"not an image",
        "inside.jpg": good.read_bytes()[:300] + b"\0" * 50 + good.read_bytes()[-2:],
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    code, out, err = call(capsys, "predict", run_folder, tmp_path, good, "--json")
    assert code == 1
    answers = json.loads(out)
    wrong = [answer["image"] for answer in answers if "error" in answer]
    assert {"cut.jpg", "empty.png", "text.jpg"} <= {path.rsplit("/")[-1] for path in wrong}
    for path in wrong:
        assert re.search(f"error: Unreadable image {re.escape(path)}: ", err)
    assert answers[-1]["image"] == str(good) and len(answers[-1]["classes"]) == 3
    assert "Traceback" not in err


def test_explanations(capsys, run_folder, pictures, tmp_path):
    from PIL import Image

    files = sorted(pictures.iterdir())[:2]
    folder = tmp_path / "explained"
    for _ in range(2):
        code, out, _ = call(capsys, "predict", run_folder, *files, "--explain", folder)
        assert code == 0
    names = {f.stem + suffix for f in files for suffix in (".png", "-2.png")}
    assert {path.name for path in folder.iterdir()} == names
    assert len(Image.open(folder / f"{files[0].stem}.png").convert("RGB").getcolors(1 << 20)) > 50


def test_preprocessing_inside_the_model(classifier, pictures, tmp_path, capsys):
    """A model that takes uint8 images gets them as they are, and no second preprocessing."""
    image = keras.Input((None, None, 3), dtype="uint8")
    whole = keras.Model(image, classifier.model(classifier.preprocessing(image)))
    whole.save(tmp_path / "whole.keras")
    paths = find_images([pictures])
    found = predict(load_classifier(tmp_path / "whole.keras"), paths, top=1)
    expected = predict(classifier, paths, top=1)
    for a, b in zip(found, expected, strict=True):
        a, b = a["classes"][0], b["classes"][0]
        assert a["index"] == b["index"]
        # A pixel of the resized image may lie elsewhere by half of one.
        assert a["probability"] == pytest.approx(b["probability"], abs=0.05)
    path, target = tmp_path / "whole.keras", tmp_path / "exported"
    code, _, err = call(capsys, "export", path, "--preprocess", "-o", target)
    assert code == 2 and "takes uint8 images already" in err and not target.exists()


def test_names_with_brackets_are_printed_as_they_are(capsys):
    classes = [{"name": "[/b] left", "probability": 1.0}]
    inference._print_answers([{"image": "cat [red].jpg", "classes": classes}])
    out = capsys.readouterr().out
    assert "cat [red].jpg" in out and "[/b] left" in out


def test_a_model_says_by_itself_what_it_wants(capsys, run_folder, pictures, tmp_path):
    """Without the folder of its run: names, size, crop, mean and deviation are in the file."""
    classifier = load_classifier(run_folder)
    describe(classifier.model, classifier.preprocessing, classifier.class_names)
    classifier.model.save(tmp_path / "alone.keras")
    paths = find_images([pictures])
    found = load_classifier(tmp_path / "alone.keras")
    assert found.class_names == NAMES
    assert list(predict(found, paths)) == list(predict(classifier, paths))
    code, out, _ = call(capsys, "predict", tmp_path / "alone.keras", paths[0], "--json")
    assert code == 0 and json.loads(out)[0]["classes"][0]["name"] == "dark"


def test_a_run_does_so_too(capsys, tmp_path):
    """What `train` writes into the model is what it writes beside it."""
    images = np.random.RandomState(0).randint(0, 256, (8, 32, 32, 3)).astype("uint8")
    labels = np.arange(8) % 2
    data, run = tmp_path / "data.npz", tmp_path / "run"
    np.savez(data, x_train=images, y_train=labels, x_test=images, y_test=labels)
    options = ["--epochs", 1, "--batch-size", 8, "--output", run]
    options += ["--set", "blocks=(1, 1, 1)", "--set", "filters=(16, 16, 16)"]
    assert call(capsys, "train", "--data", data, "--model", "ResNeXt35", *options)[0] == 0
    model = keras.saving.load_model(run / "model.keras")
    described = description(model)
    assert len(described.class_names) == 2 and not preprocessing(model).resize_fitting
    # Without the description, of the numbers in config.json.
    model.layers[0].description = Description()
    model.save(run / "model.keras")
    beside = load_classifier(run)
    assert beside.class_names == described.class_names
    for name in beside.preprocessing.FIELDS:
        assert getattr(beside.preprocessing, name) == getattr(
            Preprocessing(**described.preprocessing), name
        )


@pytest.mark.parametrize("network", [True, False])
def test_imagenets_names_where_they_can_be_had(pictures, monkeypatch, network):
    names = tuple((f"n{i}", f"thing_{i}") for i in range(1000))

    def classes():
        if not network:
            raise DownloadError("no network")
        return names

    monkeypatch.setattr(classifier_module, "imagenet_classes", classes)
    model = create_model("ResNeXt35", classes=1000, blocks=(1, 1, 1))
    describe(model, class_names="imagenet")
    monkeypatch.setattr(classifier_module, "open_model", lambda *_: model)
    classifier = load_classifier(__file__)
    (answer,) = predict(classifier, find_images([pictures])[:1], top=1)
    best = answer["classes"][0]
    assert best["name"] == (f"thing_{best['index']}" if network else str(best["index"]))


WRONG = [
    (["predict", "ResNet_20", "a.png"], 'Unknown model "ResNet_20". Did you mean "ResNet20"?'),
    (["predict", "ResNet20", "a.png"], "ResNet20 without weights would guess. Give"),
    (["predict", "ResNet20", "a.png", "--weights", "no.h5"], 'a file that does not exist: "no.h5"'),
    (["predict", "no/model.keras", "a.png"], 'no folder of a run "no/model.keras"'),
    (["predict", "empty", "a.png"], 'The folder "empty" holds no model.keras'),
    (["predict", "broken.keras", "a.png"], '"broken.keras" cannot be loaded as a Keras model'),
    (["predict", "RUN", "nothing.png"], 'There is no image or folder "nothing.png"'),
    (["predict", "RUN", "empty"], 'The folder "empty" has no .jpg'),
    (
        ["predict", "RUN", "a.png", "--top", "0"],
        "`--top`. Expected an integer of at least 1. Received: --top=0",
    ),
]


@pytest.mark.parametrize("arguments, message", WRONG, ids=lambda value: str(value)[:50])
def test_wrong_arguments(capsys, run_folder, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.keras").write_bytes(b"PK")
    arguments = [str(run_folder) if a == "RUN" else a for a in arguments]
    code, out, err = call(capsys, *arguments)
    assert code == 2 and not out
    assert err.startswith("keras-resnext: error: ") and message in err
