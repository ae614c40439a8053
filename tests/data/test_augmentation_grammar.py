"""The grammar of augmentation and mixing, and that every row of the two tables is whole."""

import inspect
from pathlib import Path

import pytest

from keras_resnext.checks import number
from keras_resnext.cli.shared import AUGMENTATION_HELP, MIXING_HELP
from keras_resnext.data.augment import (
    AUGMENTATIONS,
    SHORTHANDS,
    AugmentationRow,
    parse_augmentation,
)
from keras_resnext.data.decode import Crop
from keras_resnext.data.grammar import Argument, listing, signature
from keras_resnext.data.mixing import MIXINGS, parse_mixing

README = Path(__file__).parents[2] / "README.md"
ROWS = [*AUGMENTATIONS.items(), *MIXINGS.items()]
# What the function of a row takes besides its arguments.
INPUTS = {"images", "labels", "maps", "seed", "size"}


def check_row(name, row):
    """Fail for half a row."""
    assert name.isidentifier() and row.summary.endswith("."), name
    parameters = inspect.signature(row.function).parameters.values()
    named = {p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD} - INPUTS
    if any(p.kind is p.VAR_KEYWORD for p in parameters):  # for each image alone
        named |= {argument.name for argument in row.arguments}
    assert named == {argument.name for argument in row.arguments}, name
    for argument in row.arguments:
        assert argument.summary and not argument.summary.endswith("."), argument
        assert argument.default is None or argument.rule.holds(argument.default), argument


@pytest.mark.parametrize("name, row", ROWS, ids=[name for name, _ in ROWS])
def test_rows_are_whole_and_listed(name, row):
    check_row(name, row)
    assert signature(name, row) in (AUGMENTATION_HELP if name in AUGMENTATIONS else MIXING_HELP)


def test_the_readme_lists_the_tables():
    text = README.read_text()
    for table in (AUGMENTATIONS, MIXINGS):
        assert listing(table) in text, "put grammar.listing(...) into README.md"


def test_a_row_is_added_in_one_place(monkeypatch):
    strength = Argument("strength", 0.1, "of the noise", number(0, 1))
    row = AugmentationRow("Add noise.", lambda images, seed, size, strength: images, (strength,))
    monkeypatch.setitem(AUGMENTATIONS, "noise", row)
    check_row("noise", row)
    (step,) = parse_augmentation("noise(0.3)").steps
    assert (step.row, step.values) == (row, (("strength", 0.3),))
    half = AugmentationRow("", row.function)
    with pytest.raises(AssertionError):
        check_row("half", half)


@pytest.mark.parametrize("name, text", SHORTHANDS.items())
def test_shorthands(name, text):
    assert parse_augmentation(name) == parse_augmentation(text)


def test_arguments_reach_their_rows():
    parsed = parse_augmentation("resized_crop_flip(0.35)+randaugment(7)+random_erasing(0.1)")
    assert parsed.crop == Crop((0.35, 1.0)) and parse_augmentation("resized_crop").crop == Crop()
    assert [step.values for step in parsed.steps] == [
        (),
        (("level", 7.0),),
        (("probability", 0.1),),
    ]
    assert parse_augmentation(parsed) is parsed
    assert parse_augmentation("none").steps == () == parse_mixing("none").stages[0].choices
    mixing = parse_mixing("mixup(0.1)*0.5 + cutmix*0.25, none@80")
    (alpha, half), (default, quarter) = mixing.stages[0].choices
    assert (alpha.values, default.values) == ((("alpha", 0.1),), (("alpha", 1.0),))
    assert (half, quarter) == (0.5, 0.25) and mixing.stages[1].first == 80
    assert mixing == parse_mixing("mixup(alpha=.1)*.5+cutmix(1)*.25,none@80")
    assert (mixing.loads, parse_mixing("none,mixup1@3").loads) == (1, 2)
    assert parse_mixing("mixup+snapmix").needs_maps and not mixing.needs_maps


@pytest.mark.parametrize(
    "parse, text, message",
    [
        (parse_augmentation, "flop", 'Unknown augmentation "flop". Did you mean "flip"'),
        (parse_augmentation, "shift_flp", 'Did you mean "shift_flip"'),
        (
            parse_augmentation,
            "random_erasing(2)",
            "random_erasing(probability)`. Expected a number",
        ),
        (parse_augmentation, "random_erasing(x)", "Received: random_erasing(probability)='x'"),
        (parse_augmentation, "cutout(3)", "Expected cutout. Received: cutout(3)"),
        (parse_augmentation, "randaugment(7, 8)", "Expected randaugment(level)"),
        (parse_augmentation, "random_erasing(probabilty=1)", 'Did you mean "probability"'),
        (parse_augmentation, "shift_flip(3)", "Expected shift. Received: shift(3)"),
        (parse_mixing, "mixpu", 'Unknown mixing "mixpu". Did you mean "mixup"'),
        (parse_mixing, "mixup(0)", "Expected a number above 0"),
        (parse_mixing, "mixup(0.1", "Invalid arguments of `mixup`. Expected mixup(alpha=0.2)"),
        (parse_mixing, "mixup*x", "Received: mixup*x"),
        (parse_mixing, "mixup*0.8+cutmix*0.5", "probabilities that are 1 together"),
        (parse_mixing, "mixup@3", "stages from epoch 0 on"),
        (parse_mixing, "mixup,none@x", "expected an epoch after the @"),
        (parse_mixing, "mixup,none@5,cutmix@5", "each later than the one before"),
    ],
)
def test_wrong_text_is_refused(parse, text, message):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value)
