"""What a space proposes: networks that are there, of equal cost, and nothing else."""

import json
import pathlib

import pytest

from keras_resnext.applications import create_model
from keras_resnext.models.complexity import complexity
from keras_resnext.search.driver import search
from keras_resnext.search.oracles import make_oracle
from keras_resnext.search.settings import in_todays_format
from keras_resnext.search.space import Space, load_space, space_from

TUNING = pathlib.Path(__file__).parents[2] / "tuning"
READY = sorted(TUNING.glob("*.py"))
# Images of the task that each ready space is for.
IMAGES = {"digits": (32, 10), "cifar10": (32, 10), "imagenet": (224, 1000), "fine_tuning": (224, 7)}


def _space(**changes):
    given = {
        "model": "ResNeXt35",
        "budget": {"macs": "ResNeXt35", "tolerance": 0.05},
        "vary": {"cardinality": [1, 2, 4, 8, 16]},
    }
    return Space(**{**given, **changes})


@pytest.mark.parametrize("cost", ["macs", "parameters"])
def test_widths_of_the_paper(cost):
    """Table 2 of the ResNeXt paper."""
    space = _space(
        model="ResNeXt50", budget={cost: "ResNeXt50"}, vary={"cardinality": [1, 2, 4, 8, 32]}
    )
    candidates = space.on(224, 1000)
    widths = [candidates.draw({"cardinality": c}).network["width_per_group"] for c in (1, 2, 4)]
    widths += [candidates.draw({"cardinality": c}).network["width_per_group"] for c in (8, 32)]
    assert widths == [64, 40, 24, 14, 4]


def test_the_budget_s_own_model_is_its_own_draw():
    for name in ("ResNeXt35", "ResNeXt29_8x64d", "ResNeXt101_64x4d"):
        space = _space(model=name, budget={"macs": name}, vary={"cardinality": [8, 64]})
        candidates = space.on(64, 10)
        base = space.base
        drawn = candidates.draw({"cardinality": base.cardinality}).network
        assert drawn["width_per_group"] == base.width_per_group


@pytest.mark.parametrize("draws", [100, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_every_draw_is_a_network_within_the_budget(path, draws):
    candidates = load_space(path).on(*IMAGES[path.stem])
    oracle = make_oracle("random", candidates, trials=draws, epochs=1, factor=3, seed=0)
    drawn = set()
    for _ in range(draws):
        draw = candidates.draw(oracle._random_values())
        # Both refuse what cannot be.
        candidates.base.replace(**draw.network)
        candidates.space.recipe_of(draw)
        drawn.add(tuple(draw.network.items()))
        if candidates.budget:
            cost = candidates.budget.of(draw.complexity)
            assert abs(cost / candidates.widths.target - 1) <= candidates.budget.tolerance
    assert len(drawn) > 1


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_spaces_survive_being_written(path):
    space = load_space(path)
    assert space_from(json.loads(json.dumps(space.to_dict()))) == space


def test_a_space_from_before_there_was_one_decay_means_what_it_did():
    old = {"model": "ResNeXt35", "budget": None, "weights": None, "recipe": "default"}
    old |= {"vary": {"l2": {"low": 1e-6, "high": 1e-3}}, "fixed": {"weight_decay": 0.0}}
    candidates = space_from(in_todays_format(old)).on(32, 10)
    recipe = candidates.recipe_of(candidates.draw({"l2": 1e-4}))
    assert (recipe.decay, recipe.network) == (0.0, {"l2": 1e-4})
    decoupled = {**old, "vary": {"weight_decay": [1e-3, 1e-2]}, "fixed": {}}
    recipe = space_from(in_todays_format(decoupled)).training.replace(weight_decay=1e-3)
    assert space_from(in_todays_format(decoupled)).training.decouples
    assert space_from(in_todays_format({**old, "recipe": "e0", "fixed": {}})).training.decay == 0
    with pytest.raises(ValueError, match="A recipe has no `l2`"):
        search(space_from(old), "digits", "nowhere")


@pytest.mark.only_tensorflow
def test_a_draw_builds_to_what_it_was_counted_as():
    space = _space(vary={"cardinality": [2], "blocks": [[1, 2, 1]], "attention": ["se"]})
    candidates = space.on(32, 7)
    values = {p.name: p.default for p in candidates.parameters}
    draw = candidates.draw(values)
    model = create_model("ResNeXt35", input_shape=(32, 32, 3), classes=7, **draw.network)
    assert complexity(model) == draw.complexity


def test_what_no_width_pays_for_is_not_proposed():
    tight = {"macs": "ResNeXt35", "tolerance": 0.002}
    candidates = _space(budget=tight, vary={"cardinality": [1, 4, 8, 64]}).on(32, 10)
    (parameter,) = candidates.parameters
    assert 8 in parameter.values and len(parameter.values) < 4
    for cardinality in parameter.values:
        cost = candidates.draw({"cardinality": cardinality}).complexity.macs
        assert abs(cost / candidates.widths.target - 1) <= 0.002
    for cardinality in {1, 4, 8, 64} - set(parameter.values):
        assert not candidates.valid({"cardinality": cardinality})
        with pytest.raises(ValueError, match="No width is within"):
            candidates.draw({"cardinality": cardinality})


def test_validity_is_of_the_combination():
    """At C = 8, 16 and 32 the coarse steps of the width hit the budget for some depths only."""
    vary = {"cardinality": [8, 16, 32], "blocks": [[3, 4, 4], [2, 2, 2], [5, 5, 5], [2, 4, 6]]}
    candidates = _space(vary=vary).on(32, 10)
    blocks = next(p for p in candidates.parameters if p.name == "blocks")
    found = {
        (c, b): candidates.valid({"cardinality": c, "blocks": b})
        for c in (8, 16, 32)
        for b in blocks.values
    }
    assert True in found.values() and False in found.values()
    oracle = make_oracle("random", candidates, trials=None, epochs=1, factor=3, seed=0)
    for _ in range(200):
        values = oracle._random_values()
        assert found[values["cardinality"], values["blocks"]]


WRONG = {
    "an unknown model": ({"model": "ResNeXt51"}, "Did you mean"),
    "no residual network": ({"model": "InceptionV3"}, "no cardinality"),
    "an unknown field": ({"vary": {"cardinalty": [1, 2]}}, "cardinality"),
    "nothing to vary": ({"vary": {}}, "empty"),
    "a value that cannot be": ({"vary": {"label_smoothing": [0.0, 1.5]}}, "label_smoothing"),
    "a range upside down": ({"vary": {"weight_decay": {"low": 2, "high": 1}}}, "low < high"),
    "a logarithm of 0": (
        {"vary": {"weight_decay": {"low": 0, "high": 1, "scale": "log"}}},
        "low > 0",
    ),
    "an unknown scale": ({"vary": {"weight_decay": {"low": 0, "high": 1, "scale": "lg"}}}, "log"),
    "a range of an integer": ({"vary": {"cardinality": {"low": 1, "high": 8}}}, "a list"),
    "a value twice": ({"vary": {"cardinality": [1, 1]}}, "twice"),
    "both": ({"fixed": {"cardinality": 2}}, "in one of them"),
    "a width under a budget": ({"vary": {"width_per_group": [4, 8]}}, "follows"),
    "the seed": ({"vary": {"seed": [1, 2]}}, "own"),
    "epochs that vary": ({"vary": {"epochs": [1, 2]}}, "into `fixed`"),
    "what to do about broken images": ({"vary": {"on_error": ["raise", "skip"]}}, "of the search"),
    "that for all": ({"fixed": {"on_error": "skip"}}, "of the search"),
    "an unknown cost": ({"budget": {"mac": 1}}, "macs"),
    "two budgets": ({"budget": {"macs": 1, "parameters": 1}}, "one of"),
    "a budget of text": ({"budget": "ResNeXt35"}, "budget needs .*Received: budget='ResNeXt35'"),
    "a budget of a number": ({"budget": 1e6}, "budget needs .*Received"),
    "a budget of nothing": ({"budget": {"macs": 0}}, "above 0"),
    "a shape under weights": ({"weights": "imagenet", "budget": None}, "shape"),
    "an attention that is none": ({"vary": {"attention": ["none", "see"]}}, '"see"'),
    "a stem that is none": ({"vary": {"cardinality": [1, 8], "stem": ["depe", "7x7"]}}, '"depe"'),
    "no recipe in any mixture": (
        {"vary": {"batch_size": [32, 48], "accumulate": [5, 7]}},
        "must divide",
    ),
    "a fixed value that cannot be": ({"fixed": {"stem": "8x8"}}, "7x7"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_space_is_refused(case):
    changes, says = WRONG[case]
    with pytest.raises(ValueError, match=says):
        _space(**changes)


def test_a_value_that_some_network_has_is_no_error():
    vary = {"preactivation": [True, False], "zero_gamma": [True, False], "cardinality": [8]}
    candidates = _space(vary=vary, recipe="a2").on(32, 10)
    values = {p.name: p.default for p in candidates.parameters}
    assert not candidates.valid({**values, "preactivation": "True", "zero_gamma": "True"})
    assert candidates.valid({**values, "preactivation": "True", "zero_gamma": "False"})
    vary = {"block": ["bottleneck", "basic"], "cardinality": [8, 1], "width_per_group": [14, 64]}
    assert len(_space(vary=vary, budget=None).on(32, 10).parameters[0].values) == 2


def test_a_range_begins_in_its_middle_and_draws_short_numbers():
    vary = {
        "weight_decay": {"low": 1e-6, "high": 1e-4, "scale": "log"},
        "label_smoothing": {"low": 0.1, "high": 0.3},
    }
    candidates = _space(budget=None, vary=vary).on(32, 10)
    assert [p.default for p in candidates.parameters] == pytest.approx([1e-5, 0.2])
    drawn = candidates.draw({"weight_decay": 1.23456e-4, "label_smoothing": 0.123456})
    assert drawn.training["weight_decay"] == 1.235e-4
    assert drawn.training["label_smoothing"] == 0.1235


TOGETHER = {
    "by optimizer": {"optimizer": ["adamw", "sgd"], "stage_decay": [0.5, 1.0]},
    "by batch": {"batch_size": [30, 64], "accumulate": [4, 5]},
    "by schedule": {"schedule": ["linear", "step"], "milestones": [[], [0.5]]},
}


@pytest.mark.parametrize("case", TOGETHER)
def test_what_is_no_recipe_together_is_not_proposed(case):
    candidates = _space(vary={"cardinality": [4, 8], **TOGETHER[case]}).on(32, 10)
    assert len(candidates.parameters[0].values) == 2
    oracle = make_oracle("random", candidates, trials=None, epochs=1, factor=3, seed=0)
    drawn = {json.dumps(oracle._random_values()) for _ in range(100)}
    for values in drawn:
        candidates.space.recipe_of(candidates.draw(json.loads(values)))
    assert len(drawn) == 2 * {"by optimizer": 3, "by batch": 2, "by schedule": 3}[case]


@pytest.mark.parametrize(("images", "tested"), [(224, 256), (160, None)])
def test_test_images_of_another_size_are_for_the_recipe_s_own(images, tested):
    space = _space(budget=None, vary={"learning_rate": [0.1]}, recipe="e9")
    candidates = space.on(images, 10)
    recipe = candidates.recipe_of(candidates.draw({"learning_rate": 0.1}))
    assert (recipe.image_size, recipe.test_size) == (images, tested)


def test_a_budget_out_of_reach_names_what_is_nearest():
    with pytest.raises(ValueError, match="The nearest is .* M"):
        _space(budget={"macs": 1000}).on(32, 10)


FILES = {
    "code": ("import os\nmodel = os.name", "line 1"),
    "a call": ('model = open("there", "w").name', "line 1: `model` needs a literal"),
    "no assignment": ('model = "ResNeXt35"\nprint(1)', "line 2"),
    "an unknown name": ('model = "ResNeXt35"\nvari = {}', "vary"),
    "no model": ("vary = {}", "model"),
    "no Python": ("model = ", "space"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_are_read_never_run(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text, says = FILES[case]
    path = tmp_path / "space.py"
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        load_space(path)
    assert not (tmp_path / "there").exists()
