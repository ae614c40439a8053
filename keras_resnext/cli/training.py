"""The commands `train`, `recipes` and `doctor`."""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from keras_resnext.checks import check, integer
from keras_resnext.cli.shared import (
    AUGMENTATION_HELP,
    BASELINE,
    BASELINE_SIZE,
    DATA_HELP,
    INTERRUPTED,
    MIXING_HELP,
    SMALL,
    Command,
    budget_of,
    cache_arguments,
    cache_of,
    changed_arguments,
    ending_at_once,
    importing,
    override,
    print_json,
)

if TYPE_CHECKING:
    from keras_resnext.training.recipe import Recipe


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", metavar="NAME", help=_RECIPE_HELP)
    add("--model", metavar="NAME", help=_TRAINED_HELP)
    add("--data", default="digits", help=DATA_HELP)
    add("--weights", help=_WEIGHTS_HELP)
    _recipe_arguments(parser)
    cache_arguments(parser)
    add("--smoke", action="store_true", help="try the recipe: a tiny network, two epochs")
    add("--strategy", default="auto", choices=STRATEGIES, help=_STRATEGY_HELP)
    add("--restarts", type=int, default=0, metavar="N", help=_RESTARTS_HELP)
    add("--output", metavar="FOLDER", help="default: runs/MODEL-DATA, -2, -3, ...")
    add("--overwrite", action="store_true", help="replace the run that --output holds")
    add("--resume", nargs="?", const="", metavar="FOLDER", help=_RESUME_HELP)
    add("--go-on", action="store_true", help=argparse.SUPPRESS)  # refused: --resume replaces it
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a field of the recipe (recipes NAME --json has all) or of the model's "
        "configuration (see info), any number of times",
    )


_RECIPE_HELP = "see recipes; or a .json file; default: default, or sgd with --weights"


_TRAINED_HELP = (
    "default: the recipe's, or a small ResNeXt; see list; or keras:NAME of keras.applications"
)


_WEIGHTS_HELP = (
    "pretrained: imagenet or another tag of a published checkpoint, or a file of ours, timm's, "
    "torchvision's or keras.applications'; the classifier is new"
)


_RESUME_HELP = (
    "resume the run in FOLDER, with nothing else needed; without FOLDER: resume the run in "
    "--output if there is one, otherwise begin it"
)


_RESTARTS_HELP = "restart a worker of several when it fails, at most N times"


_STRATEGY_HELP = (
    "auto: all devices of this machine; none: one; mirrored: all, one copy of the weights each; "
    "multi_worker: several machines, on JAX (see examples/cluster); default: %(default)s"
)


STRATEGIES = ("auto", "none", "mirrored", "multi_worker")


# Arguments for the fields changed most often: name, type, metavar, help. Defaults: the recipe's.
RECIPE_ARGUMENTS = (
    ("epochs", int, "N", "passes over the training images"),
    ("batch-size", int, "N", "images per update of the weights"),
    ("accumulate", int, "N", "parts that a batch is computed in, to save memory"),
    ("image-size", int, "PIXELS", "of the training images"),
    ("precision", str, "NAME", "float32, mixed_float16, mixed_bfloat16 or auto"),
    ("optimizer", str, "NAME", "sgd, adam, adamw or lamb"),
    ("learning-rate", float, "X", "the highest"),
    ("weight-decay", float, "X", "of kernels, as papers print it (--set decoupled=True: AdamW's)"),
    ("l2", float, "X", argparse.SUPPRESS),  # refused: --weight-decay replaces it
    ("label-smoothing", float, "X", "share of each label that is spread evenly"),
    ("augmentation", str, "NAME", AUGMENTATION_HELP),
    ("mixing", str, "NAMES", MIXING_HELP),
    ("ema", float, "X", "share that an average of the weights keeps at each update"),
    ("teacher", str, "FILE", "a model to learn from: a .keras file, or a run"),
    ("freeze", int, "STAGE", "freeze the stem (0) to stage STAGE"),
    ("stage-decay", float, "X", "learning rate of each stage as a share of the next one's"),
    ("seed", int, "N", "of weights, order and augmentation"),
)


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    for name, kind, metavar, text in RECIPE_ARGUMENTS:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)


def _train(options: argparse.Namespace) -> int:
    """Begin a run by names, or resume one."""
    _check_together(options)
    if options.restarts:
        return _supervised(options)
    if options.resume:
        return _report(_resume(options))
    from keras_resnext.training.run_folder import check_output

    resume = options.resume is not None
    name, recipe, network = _recipe(options)
    model, size = _trained_model(name, recipe, network)
    check_output(options.output, options.overwrite or resume)
    recipe.check_teacher()
    with ending_at_once():
        from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, size, recipe.seed, recipe.on_error)
    with importing():
        from keras_resnext.training.distribution import join
        from keras_resnext.training.environment import devices
        from keras_resnext.training.train import Session

        join(options.strategy)
        devices()  # says so if a GPU is missing
    session = Session(model, options.data, size, recipe, options.weights, network)
    return _report(
        session.train(
            dataset,
            options.output,
            overwrite=options.overwrite or resume,
            resume=resume,
            strategy=options.strategy,
            record={"command": options.command},
        )
    )


def _check_together(options: argparse.Namespace) -> None:
    """Raise a `ValueError` for arguments that contradict each other."""
    resumed = options.resume is not None
    if options.go_on:
        raise ValueError("--go-on is now --resume: write --output FOLDER --resume.")
    check("--restarts", options.restarts, integer(0))
    if options.overwrite and (options.restarts or resumed):
        raise ValueError("--overwrite begins anew, --resume and --restarts do not. Give one.")
    for name, given in (("--resume", options.resume == ""), ("--restarts", options.restarts)):
        if given and not options.output:
            raise ValueError(f"{name} needs --output, the folder of the run.")
    if options.resume:
        ignored = changed_arguments(options, _train_arguments) - {"--resume", "--strategy"}
        if ignored:
            raise ValueError(
                "--resume FOLDER resumes a run as it was begun: only --strategy may be given with "
                f"it. Received: {', '.join(sorted(ignored))}"
            )


def _supervised(options: argparse.Namespace) -> int:
    """Run this command again without --restarts; it resumes an existing run."""
    with importing():
        from keras_resnext.training.distribution import supervise

    arguments = [*shlex.split(options.command)[1:], "--restarts", "0", "--resume"]
    command = [sys.executable, "-m", "keras_resnext", *arguments]
    return supervise(command, options.restarts, fine=(0, 2, INTERRUPTED))


def _resume(options: argparse.Namespace) -> dict:
    from keras_resnext.training.run_folder import check_resumable

    check_resumable(options.resume)
    with importing():
        from keras_resnext.training.distribution import join
        from keras_resnext.training.environment import devices
        from keras_resnext.training.train import resume

        join(options.strategy)
        devices()
    return resume(options.resume, strategy=options.strategy)


def _report(summary: dict) -> int:
    _print_summary(summary)
    return INTERRUPTED if summary["interrupted"] else 0


def _recipe(options: argparse.Namespace) -> tuple[str, "Recipe", dict]:
    """Return the network's name, the changed recipe, and the fields of the configuration."""
    from keras_resnext.models import variants
    from keras_resnext.training.recipe import split_overrides
    from keras_resnext.training.recipes import get_recipe

    # A learning rate that suits random weights would undo pretrained ones.
    recipe = get_recipe(options.recipe or ("sgd" if options.weights else "default"))
    name = options.model or recipe.model or variants.DEFAULT_MODEL
    if options.smoke:
        recipe = recipe.replace(model=options.model or recipe.model).smoke()
    if (recipe.image_size or 0) >= SMALL and _is_for_thumbnails(name):
        recipe = recipe.replace(image_size=None, test_size=None)
    arguments = [argument.replace("-", "_") for argument, *_ in RECIPE_ARGUMENTS]
    given = {argument: getattr(options, argument) for argument in arguments}
    given |= {"cache": options.cache and cache_of(options), "memory_budget": budget_of(options)}
    given |= {"on_error": options.on_error}
    changed = {key: value for key, value in given.items() if value is not None}
    own, network = split_overrides(dict(override(text) for text in options.overrides))
    for key in own.keys() & changed.keys():
        raise ValueError(f"Both --{key.replace('_', '-')} and --set {key} are given. Give one.")
    return name, recipe.replace(**changed, **own), network


def _is_for_thumbnails(name: str) -> bool:
    from keras_resnext.models import variants

    return not name.lower().startswith(BASELINE) and variants.get(name).input_size < SMALL


def _trained_model(name: str, recipe: "Recipe", network: dict) -> tuple[str, int]:
    """Return the network's canonical name, and the edge of its training images."""
    from keras_resnext.models import variants
    from keras_resnext.training.recipe import check_overrides

    if name.lower().startswith(BASELINE):
        return name, recipe.image_size or BASELINE_SIZE
    variant = variants.get(name)
    check_overrides(network, variant.config)
    return variant.name, recipe.image_size or variant.input_size


def _print_summary(summary: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    title = f"{summary['model']} on {summary['data']}"
    if summary["interrupted"]:
        title += f": interrupted, test results of epoch {summary['epochs']}"
    table = Table(show_header=False)
    for label, text in _summary_rows(summary):
        table.add_row(label, text)
    # Paths stay out of the table, which would cut them.
    print(title)
    Console().print(table)
    print(f"Saved in {summary['output']}: {', '.join(sorted(os.listdir(summary['output'])))}")


def _summary_rows(summary: dict) -> Iterator[tuple[str, str]]:
    if summary["test_top1"] is not None:
        yield "test top-1", f"{summary['test_top1']:.2%}"
    if summary["test_top5"] is not None:
        yield "test top-5", f"{summary['test_top5']:.2%}"
    yield "epochs", str(summary["epochs"])
    if summary["images_per_second"] is not None:
        yield "training", f"{summary['images_per_second']:,.0f} images per second"
    if summary["waiting_for_data"] is not None:
        yield "waiting for data", f"{summary['waiting_for_data']:.1%} of it"
    yield "time", f"{summary['seconds']:.1f} seconds"
    yield "parameters", f"{summary['parameters'] / 1e6:.2f} M"
    yield "multiply-adds", f"{summary['macs'] / 1e9:.3f} G per image"


def _recipes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="explain this one; default: list all")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _recipes(options: argparse.Namespace) -> int:
    from keras_resnext.training.recipe import changes
    from keras_resnext.training.recipes import RECIPES, get_recipe

    if options.name and options.json:
        print_json(asdict(get_recipe(options.name)))
    elif options.name:
        _print_recipe(get_recipe(options.name))
    elif options.json:
        print_json([changes(recipe) for recipe in RECIPES.values()])
    else:
        _print_recipes(list(RECIPES.values()))
    return 0


def _print_recipes(recipes: Sequence["Recipe"]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("recipe", no_wrap=True)
    for heading in ("model", "epochs", "batch", "about"):
        table.add_column(heading)
    for recipe in recipes:
        numbers = (recipe.model, recipe.epochs, recipe.batch_size)
        shown = ("" if value is None else str(value) for value in numbers)
        table.add_row(recipe.name, *shown, recipe.about)
    Console().print(table)


def _print_recipe(recipe: "Recipe") -> None:
    from rich.console import Console
    from rich.table import Table

    from keras_resnext.training.recipe import SECTIONS, changes, own_rate

    table = Table(title=recipe.name, title_justify="left", show_header=False)
    own = changes(recipe)
    rate = own_rate(recipe.optimizer, batch_size=64)
    of_the_optimizer = {
        "learning_rate": f"{rate:g} for a batch of 64, {recipe.optimizer}'s own",
        "weight_decay": f"{recipe.decay:g}, {recipe.optimizer}'s own",
        "decoupled": recipe.decouples,
    }
    for section in SECTIONS:
        table.add_section()
        table.add_row(section.__name__, style="italic")
        for name in (row.name for row in fields(section)):
            value = getattr(recipe, name)
            value = of_the_optimizer.get(name) if value is None else value
            if name != "name" and (value or name in own):
                table.add_row(f"  {name}", str(value), style="bold" if name in own else "dim")
    Console().print(table)
    print("Bold: what makes this recipe. Change with --set FIELD=VALUE, the model with --model.")


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="measure nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _doctor(options: argparse.Namespace) -> int:
    with importing():
        from keras_resnext.evaluation.doctor import examine
        from keras_resnext.training.environment import devices

        devices()
    health = examine(measure=not options.quick)
    if options.json:
        print_json(health)
    else:
        _print_health(health)
    return 0


def _print_health(health: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, version in health["versions"].items():
        table.add_row(name, version)
    table.add_section()
    table.add_row("backend", health["backend"])
    table.add_row("device", health["device"])
    table.add_row("processor has bfloat16", _YES_OR_NO[health["bfloat16"]])
    table.add_row("TensorFlow uses oneDNN", _YES_OR_NO[health["onednn"]])
    table.add_section()
    table.add_row("--precision auto takes", health["precision"])
    table.add_row("--strategy auto takes", health["strategy"])
    for dtype, milliseconds in health["milliseconds"].items():
        table.add_row(f"3x3, 56x56x128, 32 groups, {dtype}", f"{milliseconds:.1f} ms per step")
    Console().print(table)
    for text, thread in health["faults"]:
        print(f"- {text}" + (f" ({thread})" if thread else ""))


_YES_OR_NO = {True: "yes", False: "no", None: "-"}


COMMANDS = (
    Command("train", "Train a network on images.", _train_arguments, _train),
    Command("recipes", "List and explain the ways of training.", _recipes_arguments, _recipes),
    Command("doctor", "Examine this machine, and say what suits it.", _doctor_arguments, _doctor),
)
