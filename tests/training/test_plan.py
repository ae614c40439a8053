"""What a run settles before any work, and what it refuses then."""

import json
from dataclasses import asdict, replace

import keras
import pytest

from keras_resnext.data.datasets import Part
from keras_resnext.training import plan as planning
from keras_resnext.training.plan import plan
from keras_resnext.training.recipe import Recipe
from keras_resnext.training.run_folder import CHECKPOINT, CONFIG, write_json
from keras_resnext.training.train import Session

EASY = Recipe(learning_rate=0.05, epochs=3)


def begun(folder, *arguments, **options):
    """Leave a folder as a run does after its first checkpoint, and return its plan."""
    planned = plan(*arguments, folder, **options)
    folder.mkdir()
    write_json(folder / CONFIG, planned.facts)
    (folder / CHECKPOINT).touch()
    return planned


def few(dataset, classes):
    parts = {
        name: Part(part.images[part.labels < classes], part.labels[part.labels < classes])
        for name, part in (("train", dataset.train), ("test", dataset.test))
    }
    return replace(dataset, class_names=tuple("abcdefgh"[:classes]), **parts)


def test_what_is_open_is_settled(dataset, make_model):
    planned = plan(make_model(), dataset, Recipe(mixing="mixup(0.3)", test_size=16))
    assert (planned.steps, planned.total_steps) == (200 // 32, 200 // 32 * 6)
    assert planned.recipe == planned.recipe.resolved(dataset)
    assert planned.facts["recipe"] == asdict(planned.recipe)
    assert (planned.precision, planned.checkpoint, planned.notes) == ("float32", None, ())
    assert not planned.dataset.augmentation.steps and planned.mixing.stages[0].choices
    assert planned.test_edge == 16 == planned.facts["preprocessing"]["resize_shorter_side"]


def test_a_rate_that_is_changed_in_proportion_is_announced(dataset, make_model):
    recipe = Recipe(learning_rate=0.4, reference_batch=64)
    (note,) = plan(make_model(), dataset, recipe).notes
    assert note == "learning rate 0.2: 0.4 for a batch of 64, in proportion for 32"


@pytest.mark.parametrize("augmentation, edge", [(None, 16), ("resized_crop_flip", 18)])
def test_test_images_are_cropped_if_the_run_trains_on_crops(
    dataset, make_model, augmentation, edge
):
    planned = plan(make_model(), dataset, Recipe(augmentation=augmentation))
    assert planned.facts["preprocessing"]["resize_shorter_side"] == edge


def test_what_does_not_fit_is_refused_before_anything_is_written(tmp_path, dataset, make_model):
    cases = [
        (make_model(7), EASY, r'"rows" has 8 classes. Expected a model with `classes=8`'),
        (make_model(size=20), EASY, r"takes images of shape \(20, 20, 3\)"),
        (make_model(), replace(EASY, precision="mixed_float16"), 'built under "float32"'),
        (make_model(), replace(EASY, augmentation="mirror"), "Unknown augmentation"),
        (make_model(), replace(EASY, mixing="cutmxi"), 'Unknown mixing "cutmxi". Did you mean "cu'),
        (make_model(), EASY.replace(teacher="t"), 'The teacher "t" does not exist'),
    ]
    for model, recipe, message in cases:
        with pytest.raises(ValueError, match=message):
            plan(model, dataset, recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_keras_cannot_accumulate_is_refused(dataset, make_model, monkeypatch):
    monkeypatch.setattr(planning, "_is_mirrored", lambda: True)
    with pytest.raises(ValueError, match="accumulate gradients on several devices.*accumulate=2"):
        plan(make_model(), dataset, Recipe(accumulate=2))


def test_a_run_is_begun_if_there_is_no_checkpoint(tmp_path, dataset, make_model):
    """As after a kill before the first one."""
    begun(tmp_path / "run", make_model(), dataset, EASY)
    with pytest.raises(ValueError, match="already holds a run"):
        plan(make_model(), dataset, EASY, tmp_path / "run")
    resumed = plan(make_model(), dataset, EASY, tmp_path / "run", resume=True)
    assert resumed.checkpoint == tmp_path / "run" / CHECKPOINT
    (tmp_path / "run" / CHECKPOINT).unlink()
    assert plan(make_model(), dataset, EASY, tmp_path / "run", resume=True).checkpoint is None


def test_what_cannot_be_resumed(tmp_path, dataset, make_model):
    record = {"configuration": {"blocks": (1, 1), "drop_path": 0.1}}
    begun(tmp_path / "run", make_model(), dataset, EASY, record=record)

    def resumed(model=None, data=dataset, recipe=EASY, record=record):
        return plan(
            model or make_model(), data, recipe, tmp_path / "run", resume=True, record=record
        )

    assert resumed(recipe=EASY.replace(cache="memory", about="another text")).checkpoint
    other = {"configuration": {"blocks": (1, 1), "drop_path": 0.3}}
    with pytest.raises(ValueError, match=r"its drop_path is 0.1, and now 0.3"):
        resumed(record=other)
    with pytest.raises(ValueError, match="its preprocessing is"):
        resumed(data=replace(dataset, mean=(0.1, 0.1, 0.1)))
    with pytest.raises(ValueError, match="its class_names is 8 classes, and now 5 classes"):
        resumed(make_model(5), few(dataset, 5))
    with pytest.raises(ValueError, match="its recipe has ema=0.0, this one ema=0.5"):
        resumed(recipe=EASY.replace(ema=0.5))
    model = make_model()
    named = keras.Model(model.inputs, model.outputs, name="another")
    with pytest.raises(ValueError, match="its model is tiny, and now another"):
        resumed(named)


@pytest.mark.parametrize(
    "old, new",
    [
        ({"weight_decay": 5e-3, "l2": 0.0}, {}),
        ({"weight_decay": 0.0, "l2": 5e-5}, {"weight_decay": 1e-4}),
        ({"weight_decay": 0.0, "l2": 0.0}, {"weight_decay": 0.0}),
        (
            {"weight_decay": 5e-3, "l2": 1e-4},
            {"weight_decay": 5e-3, "decoupled": True, "network": {"l2": 1e-4}},
        ),
    ],
)
def test_a_run_from_before_there_was_one_decay_is_resumed(tmp_path, dataset, make_model, old, new):
    recipe = EASY.replace(**new)
    record = {"configuration": {"l2": recipe.network.get("l2", 0.0)}}
    begun(tmp_path / "run", make_model(), dataset, recipe, record=record)
    facts = json.loads((tmp_path / "run" / CONFIG).read_text())
    del facts["recipe"]["decoupled"]
    facts["recipe"] |= {**old, "network": {}}
    facts["configuration"] = {"l2": 0.0}
    (tmp_path / "run" / CONFIG).write_text(json.dumps(facts))
    assert plan(
        make_model(), dataset, recipe, tmp_path / "run", resume=True, record=record
    ).checkpoint


def test_the_record_finds_data_and_weights_from_any_folder(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.weights.h5").touch()
    names = Session("ResNet20", toy.name, 32, Recipe(), "mine.weights.h5").to_dict()["session"]
    assert (names["data"], names["weights"]) == (str(toy), str(tmp_path / "mine.weights.h5"))
    names = Session("ResNet20", "digits", 32, Recipe(), "imagenet").to_dict()["session"]
    assert (names["data"], names["weights"]) == ("digits", "imagenet")


def test_a_session_is_read_back_from_its_folder(tmp_path):
    recipe = Recipe(network={"zero_gamma": True}, milestones=(0.5,), schedule="step")
    session = Session("ResNet20", "digits", 32, recipe, network={"blocks": (1, 1, 1)})
    write_json(tmp_path / CONFIG, session.to_dict() | {"recipe": asdict(recipe)})
    (tmp_path / CHECKPOINT).touch()
    assert Session.from_folder(tmp_path) == session
    both = {"weight_decay": 5e-3, "l2": 1e-4}
    names = {"model": "keras:ResNet50", "data": "digits", "image_size": 32, "network": {}}
    write_json(tmp_path / CONFIG, {"session": {**names, "weights": None}, "recipe": both})
    with pytest.raises(ValueError, match="keras:ResNet50 takes no l2"):
        Session.from_folder(tmp_path)
