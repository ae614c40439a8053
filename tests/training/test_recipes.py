"""The table of recipes, and what a recipe refuses."""

import dataclasses
import json
from pathlib import Path

import pytest

from keras_resnext.data.augment import parse_augmentation
from keras_resnext.data.datasets import load_dataset
from keras_resnext.data.mixing import parse_mixing
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import count
from keras_resnext.training.recipe import (
    DESCRIPTION,
    Recipe,
    changes,
    check_overrides,
    from_fields,
    read,
    split_overrides,
    write,
)
from keras_resnext.training.recipes import RECIPES, get_recipe

# As printed: epochs, batch, learning rate, warm-up epochs, label smoothing, training size.
PRINTED = {
    "resnext": (90, 256, 0.1, 0, 0, 224),
    "resnet_cifar": (164, 128, 0.1, 0, 0, 32),
    "resnext_cifar": (300, 128, 0.1, 0, 0, 32),
    "bag_of_tricks": (200, 1024, 0.4, 5, 0.1, 224),
    "e0": (120, 1024, 0.4, 5, 0, 224),
    "e2": (120, 1024, 0.4, 5, 0.1, 224),
    "e3": (200, 1024, 0.4, 5, 0.1, 224),
    "e5": (270, 1024, 0.4, 5, 0.1, 224),
    "e8": (600, 1024, 0.4, 5, 0.1, 224),
    "e12": (600, 1024, 0.4, 5, 0.1, 224),
    "a1": (600, 2048, 5e-3, 5, 0.1, 224),
    "a2": (300, 2048, 5e-3, 5, 0, 224),
    "a3": (100, 2048, 8e-3, 5, 0, 160),
    "fine_tuning": (100, 256, 0.01, 5, 0.1, None),
}
# Parameters of the networks that the assembled paper's rows are trained with.
ASSEMBLED = {
    "e0": 25_557_032,
    "e1": 25_576_264,
    "e4": 28_091_208,
    "e6": 38_791_048,
    "e9": 41_846_440,
}


@pytest.mark.parametrize("name", PRINTED)
def test_recipes_are_as_printed(name):
    recipe = get_recipe(name)
    epochs, batch, rate, warmup, smoothing, size = PRINTED[name]
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate) == (epochs, batch, rate)
    assert recipe.reference_batch == batch
    assert recipe.warmup * epochs == pytest.approx(warmup)
    assert (recipe.label_smoothing, recipe.image_size) == (smoothing, size)


@pytest.mark.parametrize("name", ASSEMBLED)
def test_assembled_rows_train_the_networks_of_the_paper(name):
    recipe = get_recipe(name)
    config = variants.get(recipe.model).config.replace(**recipe.network)
    assert count(config, 224, 1000).trainable == ASSEMBLED[name]


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_is_whole(name, tmp_path):
    recipe = get_recipe(name)
    assert recipe.name == name and recipe.about.endswith(".")
    assert bool(recipe.paper) == bool(recipe.model)
    parse_augmentation(recipe.augmentation or "none")
    parse_mixing(recipe.mixing)
    if recipe.model:
        variants.get(recipe.model).config.replace(**recipe.network)
    for one in (recipe, recipe.smoke()):
        write(one, tmp_path / "recipe.json")
        assert read(tmp_path / "recipe.json") == one
        assert get_recipe(str(tmp_path / "recipe.json")) == one
        assert from_fields(json.loads(json.dumps(dataclasses.asdict(one)))) == one
    smoke = recipe.smoke()
    variants.get(smoke.model).config.replace(**smoke.network)
    assert smoke.optimizer == recipe.optimizer and smoke.mixing == recipe.mixing


@pytest.mark.parametrize("name", variants.list_models())
def test_every_residual_network_has_a_tiny_form(name):
    config = variants.get(name).config
    if not isinstance(config, ResNetConfig):
        with pytest.raises(ValueError, match="has no tiny form"):
            Recipe(model=name).smoke()
        return
    for recipe in (Recipe(), get_recipe("a3"), get_recipe("e2")):
        without = config.preactivation or config.shortcut == "none"
        if recipe.network.get("zero_gamma") and without:
            continue  # for no size
        tiny = config.replace(**recipe.replace(model=name).smoke().network)
        assert max(tiny.widths) <= 64 and tiny.attention == config.attention
        assert (tiny.cardinality > 1) == (config.cardinality > 1)


@pytest.mark.parametrize(
    "optimizer, batch_size, rate",
    [("sgd", 64, 0.1), ("sgd", 1024, 0.4), ("adamw", 16, 1.5e-3), ("adamw", 256, 6e-3)],
)
def test_an_optimizer_has_a_learning_rate_of_its_own_for_each_batch(optimizer, batch_size, rate):
    dataset = load_dataset("digits")
    recipe = Recipe(optimizer=optimizer, batch_size=batch_size).resolved(dataset)
    assert recipe.learning_rate == pytest.approx(rate)


def test_a_batch_for_no_learning_rate_is_refused():
    with pytest.raises(ValueError, match="`reference_batch` is the batch of a `learning_rate`"):
        Recipe(reference_batch=256)


def test_paths_are_kept_as_text():
    recipe = Recipe(teacher=Path("runs/t"), cache=Path("kept"))
    assert json.loads(json.dumps(dataclasses.asdict(recipe)))["teacher"] == "runs/t"
    assert recipe.cache == "kept"


# As published, or as `train` has always done: the weight decay, and whether it is decoupled.
DECAYS = {
    "default": (0.05, True),
    "sgd": (5e-3, True),
    "resnet": (1e-4, False),
    "resnext_cifar": (5e-4, False),
    "e12": (1e-4, False),
    "a1": (0.01, True),
    "a3": (0.02, True),
    "adam_l2": (1e-3, False),
    "fine_tuning": (1e-3, False),
}


@pytest.mark.parametrize("name", DECAYS)
def test_weight_decays_are_as_printed(name):
    recipe = get_recipe(name)
    assert (recipe.decay, recipe.decouples) == DECAYS[name]


def test_a_weight_decay_of_ones_own_is_applied_as_the_optimizers_paper_does():
    decay = {"weight_decay": 1e-4}
    assert (Recipe().decay, Recipe().decouples) == (5e-3, True)
    for optimizer, decoupled in {"sgd": False, "adam": False, "adamw": True, "lamb": True}.items():
        assert Recipe(optimizer=optimizer, **decay).decouples is decoupled
        own = get_recipe("sgd").replace(optimizer=optimizer, **decay)
        assert (own.decay, own.decouples) == (1e-4, decoupled)
        assert get_recipe("default").replace(optimizer=optimizer).decouples
    assert Recipe(decoupled=True, **decay).replace(ema=0.9).decouples
    for given in ({"l2": 5e-4}, {"l2": 5e-4, "weight_decay": 1e-4}):
        with pytest.raises(ValueError, match="Write weight_decay=0.001"):
            Recipe().replace(**given)


@pytest.mark.parametrize(
    "fields, decay, decoupled, network",
    [
        ({"name": "a"}, 5e-3, True, {}),
        ({"weight_decay": 1e-2}, 1e-2, True, {}),
        ({"weight_decay": 0.0, "l2": 5e-5}, 1e-4, False, {}),
        ({"weight_decay": 0.0, "l2": 0.0}, 0.0, False, {}),
        ({"weight_decay": 0.0, "optimizer": "lamb"}, 0.0, True, {}),
        ({"l2": 1e-4}, 5e-3, True, {"l2": 1e-4}),
        ({"weight_decay": 1e-4, "decoupled": None}, 1e-4, False, {}),
    ],
)
def test_fields_from_before_there_was_one_decay(fields, decay, decoupled, network):
    recipe = from_fields(fields)
    assert (recipe.decay, recipe.decouples, recipe.network) == (decay, decoupled, network)
    assert from_fields(changes(recipe)) == recipe


def test_two_decays_of_vectors_are_one_too_many():
    with pytest.raises(ValueError, match="cannot have both a decoupled weight_decay=0.005 and l2"):
        from_fields({"l2": 1e-4, "decay_vectors": True})


def test_recipes_inherit():
    assert set(changes(get_recipe("e7"))) - set(changes(get_recipe("e6"))) == {"teacher_weight"}
    assert get_recipe("A3") is get_recipe("a3")


def test_fields_of_recipes_and_of_networks_are_told_apart():
    own = {f.name for f in dataclasses.fields(Recipe)} - set(DESCRIPTION)
    config = {f.name for v in variants.VARIANTS.values() for f in dataclasses.fields(v.config)}
    assert not own & config
    assert split_overrides({"ema": 0.9, "blocks": (1, 1)}) == ({"ema": 0.9}, {"blocks": (1, 1)})
    config = variants.get("ResNeXt50").config
    for name, near in {"emaa": "ema", "cardinalty": "cardinality", "epoch": "epochs"}.items():
        with pytest.raises(ValueError, match=f'"{name}". Did you mean "{near}"'):
            check_overrides({name: 1}, config)


@pytest.mark.parametrize(
    "field, value",
    [
        ("epochs", 0),
        ("epochs", 2.5),
        ("epochs", True),
        ("batch_size", -1),
        ("accumulate", 0),
        ("image_size", 4),
        ("test_crop", 0),
        ("learning_rate", 0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("momentum", 1),
        ("weight_decay", -1e-4),
        ("decoupled", 1),
        ("warmup", 1.0),
        ("milestones", (0.5, 0.25)),
        ("milestones", 0.5),
        ("label_smoothing", 1),
        ("label_smoothing", "0.1"),
        ("ema", 1),
        ("clip_norm", 0),
        ("drop_ramp", 2),
        ("temperature", 0),
        ("network", ["a"]),
        ("seed", -1),
        ("mixing", None),
        ("augmentation", 5),
        ("teacher", 5),
        ("cache", 5),
        ("name", 5),
        ("model", 5),
    ],
)
def test_wrong_values_are_named(field, value):
    with pytest.raises(ValueError, match=f"`{field}`. Expected .* Received: {field}="):
        Recipe(**{field: value})


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"precision": "mixed_bfloat"}, '"mixed_bfloat". Did you mean "mixed_bfloat16"'),
        ({"optimizer": "adamv"}, 'Unknown optimizer "adamv". Did you mean "adam'),
        ({"schedule": "cosin"}, 'Did you mean "cosine"'),
        ({"loss": "bce"}, 'Unknown loss "bce"'),
        ({"smoothing_over": "other"}, 'Did you mean "others"'),
        ({"milestones": (0.5,)}, '`milestones` needs schedule="step"'),
        ({"optimizer": "adam", "stage_decay": 0.5}, '`stage_decay` needs optimizer="sgd"'),
        ({"batch_size": 10, "accumulate": 3}, "`accumulate` must divide `batch_size`"),
        ({"teacher": "x.keras", "loss": "binary_cross_entropy"}, 'use loss="cross_entropy"'),
        ({"nesterov": 1}, "`nesterov`. Expected True or False"),
        ({"decoupled": True}, "`decoupled` says how a `weight_decay` is applied: give both"),
        ({"l2": 5e-4}, r"Write weight_decay=0.001 \(--weight-decay 0.001\) for l2=0.0005"),
    ],
)
def test_impossible_combinations_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**fields)


def test_unknown_recipes_fields_and_files(tmp_path):
    with pytest.raises(ValueError, match='Unknown recipe "resnest". Did you mean "resne'):
        get_recipe("resnest")
    with pytest.raises(ValueError, match='Unknown recipe field "emma". Did you mean "ema"'):
        Recipe().replace(emma=0.9)
    with pytest.raises(ValueError, match=r"mine.json\" cannot be read as a recipe"):
        get_recipe(str(tmp_path / "mine.json"))
    for text, message in {
        "{": "cannot be read",
        "[]": "holds no recipe",
        '{"epoch": 3}': 'Did you mean "epochs"',
        '{"network": 3}': "`network`",
        '{"network": {"cardinalty": 3}}': 'Did you mean "cardinality"',
    }.items():
        (tmp_path / "mine.json").write_text(text)
        with pytest.raises(ValueError, match=message):
            read(tmp_path / "mine.json")


def test_a_teacher_that_is_wanted_or_named_must_be_there(tmp_path):
    with pytest.raises(ValueError, match='"e7" learns from a teacher, and none is given'):
        get_recipe("e7").check_teacher()
    with pytest.raises(ValueError, match=r'The teacher ".*t.keras" does not exist'):
        Recipe(teacher=str(tmp_path / "t.keras")).check_teacher()
    get_recipe("e7").replace(teacher_weight=0.0).check_teacher()


def test_the_data_set_decides_what_is_left_open():
    digits = load_dataset("digits")
    recipe = Recipe().resolved(digits)
    assert (recipe.epochs, recipe.batch_size) == (digits.epochs, digits.batch_size)
    assert recipe.augmentation == "shift"
    given = dict(epochs=3, batch_size=64, learning_rate=0.5, augmentation="none")
    given = Recipe(**given, weight_decay=1e-4, decoupled=False)
    assert given.resolved(digits) == given
    parts = Recipe(batch_size=5000, accumulate=4).resolved(digits)
    assert (parts.batch_size, parts.step_batch) == (1436, 359)


@pytest.mark.parametrize("batch_size, rate", [(8, 0.1), (256, 0.1), (10_000, 1438 / 2560)])
def test_learning_rate_grows_with_batches_above_256(batch_size, rate):
    recipe = Recipe(batch_size=batch_size).resolved(load_dataset("digits"))
    assert recipe.learning_rate == pytest.approx(rate)
    assert recipe.batch_size == min(batch_size, 1438)


def test_the_linear_rule_and_a_rate_given_by_hand():
    digits = load_dataset("digits")
    small = get_recipe("e0").replace(batch_size=64)
    assert small.resolved(digits).learning_rate == pytest.approx(0.4 * 64 / 1024)
    assert small.replace(learning_rate=0.3).resolved(digits).learning_rate == 0.3
    again = small.resolved(digits).resolved(digits)
    assert again == small.resolved(digits), "resolving twice changes nothing"
