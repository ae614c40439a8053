"""The ``keras-resnext`` command: parsing and printing only.

Keras, TensorFlow, NumPy and Matplotlib are imported within the functions that run a sub-command,
after everything that can be checked without them: ``--help`` and a mistyped name answer at once.
"""

import argparse
import ast
import json
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib import metadata

from keras_resnext.errors import unknown
from keras_resnext.version import __version__

PROGRAM = "keras-resnext"
INTERRUPTED = 130
# A network of keras.applications, and the image size it gets unless one is given.
BASELINE, BASELINE_SIZE = "keras:", 224
# A network whose own images are smaller, pixels, is not for photographs.
SMALL = 64


DATA_HELP = (
    "digits; tfds:NAME; a folder of class folders (with train/ and test/ in it or without); a .csv "
    "of path, label and split; an .npz; what `data pack` has written; default: %(default)s"
)
AUGMENTATION_HELP = (
    "none, flip, shift, shift_flip, resized_crop_flip, color_jitter, cutout, random_erasing, "
    "randaugment, randaugment6, randaugment7, augmix, autoaugment_imagenet, _cifar10 or _svhn, a "
    "policy file, or several joined by +; default: the data set's own"
)
MIXING_HELP = (
    'mixup, mixup1, cutmix, ricap, snapmix, or as in "mixup*0.5+cutmix*0.5,none@80" (from epoch 80 '
    "on nothing); mixup(0.1) has that alpha"
)
CACHE_HELP = (
    "what is kept of images between epochs: auto, memory (decoded), encoded, a folder for a file, "
    "or none; default: auto"
)


@dataclass(frozen=True)
class Command:
    """A row of the table of sub-commands.

    Args:
        name: The verb.
        summary: One line for the help.
        add_arguments: Adds its arguments to a parser.
        run: Takes the parsed arguments, gives the exit code.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: Those after the program's name. Default: those of this process.

    Returns:
        The exit code: 0, 1 if training diverged, an image was unreadable or a file could not be
        written, 2 for wrong arguments, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    options.command = shlex.join([PROGRAM, *arguments])
    try:
        return options.run(options)
    except (ValueError, ArithmeticError, OSError) as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted before anything was finished", file=sys.stderr)
        return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """Give the parser of the command and all its sub-commands."""
    parser = Parser(prog=PROGRAM, description="ResNet and ResNeXt for Keras 3.")
    parser.add_argument("--version", action=Version, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


class Parser(argparse.ArgumentParser):
    """argparse, naming what was nearly typed."""

    def _check_value(self, action, value):
        if action.choices is not None and value not in action.choices:
            name = action.dest if action.option_strings else "command"
            raise argparse.ArgumentError(None, unknown(name, value, action.choices))

    def parse_args(self, args=None, namespace=None):
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            valid = {name for parser in self._all() for name in parser._option_string_actions}
            self.error(unknown("argument", rest[0].split("=")[0], sorted(valid)))
        return options

    def _all(self) -> Iterator["Parser"]:
        yield self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._all()


class Version(argparse.Action):
    """Prints the versions that a bug report needs."""

    def __call__(self, parser, *_):
        found = [f"{PROGRAM} {__version__}"]
        for name in ("keras", "tensorflow", "jax", "torch"):
            with suppress(metadata.PackageNotFoundError):
                found.append(f"{name} {metadata.version(name)}")
        print(", ".join(found))
        parser.exit()


# ----------------------------------------------------------------------------------------- train


def _train_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--recipe", default="default", metavar="NAME", help="see recipes; or a .json file")
    add("--model", metavar="NAME", help=_TRAINED_HELP)
    add("--data", default="digits", help=DATA_HELP)
    add("--weights", help=_WEIGHTS_HELP)
    _recipe_arguments(parser)
    _cache_arguments(parser)
    add("--smoke", action="store_true", help="try the recipe: a tiny network, two epochs")
    add("--strategy", default="auto", choices=STRATEGIES, help=_STRATEGY_HELP)
    add(
        "--restarts",
        type=int,
        default=0,
        metavar="N",
        help="start a worker of several again when it fails, at most N times",
    )
    add("--output", metavar="FOLDER", help="default: runs/MODEL-DATA, -2, -3, ...")
    add("--overwrite", action="store_true", help="replace the run that --output holds")
    add("--resume", metavar="FOLDER", help="go on with a run; nothing else is needed")
    add("--go-on", action="store_true", help="go on with the run in --output, if there is one")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change a field of the recipe (see recipes) or of the model's configuration (see "
        "info), any number of times",
    )


_TRAINED_HELP = (
    "default: the recipe's, or a small ResNeXt; see list; or keras:NAME of keras.applications"
)
_WEIGHTS_HELP = (
    "to go on from: imagenet or another tag of a published checkpoint, or a file of ours, "
    "timm's, torchvision's or keras.applications'; the classifier is new"
)
_STRATEGY_HELP = (
    "auto: all devices of this machine; none: one; mirrored: all, one copy of the weights each; "
    "multi_worker: several machines, on JAX (see examples/cluster); default: %(default)s"
)
STRATEGIES = ("auto", "none", "mirrored", "multi_worker")
# An argument each for what is changed most: name, type, metavar, help. The default is the recipe's.
RECIPE_ARGUMENTS = (
    ("epochs", int, "N", "passes over the training images"),
    ("batch-size", int, "N", "images an update of the weights"),
    ("accumulate", int, "N", "parts that a batch is computed in, to save memory"),
    ("image-size", int, "PIXELS", "of the training images"),
    ("precision", str, "NAME", "float32, mixed_float16, mixed_bfloat16 or auto"),
    ("optimizer", str, "NAME", "sgd, adam, adamw or lamb"),
    ("learning-rate", float, "X", "the highest"),
    ("weight-decay", float, "X", "decoupled, of kernels"),
    ("l2", float, "X", "factor of an L2 penalty in the loss"),
    ("label-smoothing", float, "X", "share of each label that is spread evenly"),
    ("augmentation", str, "NAME", AUGMENTATION_HELP),
    ("mixing", str, "NAMES", MIXING_HELP),
    ("ema", float, "X", "share that an average of the weights keeps at each update"),
    ("teacher", str, "FILE", "a model to learn from: a .keras file, or a run"),
    ("freeze", int, "STAGE", "keep the stem (0) to stage STAGE as they are"),
    ("stage-decay", float, "X", "what each stage's learning rate is of that above it"),
    ("seed", int, "N", "of weights, order and augmentation"),
)


def _recipe_arguments(parser: argparse.ArgumentParser) -> None:
    for name, kind, metavar, text in RECIPE_ARGUMENTS:
        parser.add_argument(f"--{name}", type=kind, metavar=metavar, help=text)


def _cache_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cache", metavar="WHAT", help=CACHE_HELP)
    add(
        "--memory-budget",
        type=float,
        metavar="GB",
        help="memory that kept images may take; default: 60 %% of what is free",
    )
    add(
        "--on-error",
        choices=("raise", "skip"),
        help="name broken images and stop, or leave them out; default: raise",
    )


def _set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change the model's configuration (see info), any number of times",
    )


def _train(options: argparse.Namespace) -> int:
    from keras_resnext.training.run_folder import check_output

    if options.restarts:
        return _supervised(options)
    if options.resume:
        return _report(_resume(options))
    recipe, network = _recipe(options)
    model, size, recipe = _trained_model(options, recipe, network)
    goes_on = options.go_on and options.output is not None
    check_output(options.output, options.overwrite or goes_on)
    with _ending_at_once():
        from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, size, recipe.seed, recipe.on_error)
    with _importing():
        import keras

        from keras_resnext.training.distribution import join
        from keras_resnext.training.session import Session

        join(options.strategy)
        keras.distribution.list_devices()  # has its say on a missing GPU
    session = Session(model, options.data, size, recipe, options.weights, network)
    return _report(
        session.train(
            dataset,
            options.output,
            overwrite=options.overwrite or goes_on,
            resume=goes_on,
            strategy=options.strategy,
            record={"command": options.command},
        )
    )


def _supervised(options: argparse.Namespace) -> int:
    """Run this very command without --restarts; from the second time on it goes on."""
    if not options.output:
        raise ValueError("--restarts needs --output: it is how the run is found again.")
    with _importing():
        from keras_resnext.training.distribution import supervise

    arguments = [*shlex.split(options.command)[1:], "--restarts", "0", "--go-on"]
    command = [sys.executable, "-m", "keras_resnext", *arguments]
    return supervise(command, options.restarts, fine=(0, 2, INTERRUPTED))


def _resume(options: argparse.Namespace) -> dict:
    from keras_resnext.training.run_folder import check_resumable

    check_resumable(options.resume)
    with _importing():
        import keras

        from keras_resnext.training.distribution import join
        from keras_resnext.training.session import resume

        join(options.strategy)
        keras.distribution.list_devices()
    return resume(options.resume, strategy=options.strategy)


def _report(summary: dict) -> int:
    _print_summary(summary)
    return INTERRUPTED if summary["interrupted"] else 0


def _recipe(options: argparse.Namespace):
    """The recipe with what was asked for, and the fields of the network's configuration."""
    from keras_resnext.training import recipes

    recipe = recipes.get_recipe(options.recipe)
    recipe = recipe.smoke() if options.smoke else recipe
    names = [name.replace("-", "_") for name, *_ in RECIPE_ARGUMENTS]
    given = {name: getattr(options, name) for name in names}
    given |= {"cache": options.cache and _cache(options), "memory_budget": _budget(options)}
    given |= {"on_error": options.on_error}
    changed = {name: value for name, value in given.items() if value is not None}
    fields, network = recipes.split_overrides(dict(_override(text) for text in options.overrides))
    return recipe.replace(**changed, **fields), network


def _trained_model(options: argparse.Namespace, recipe, network: dict) -> tuple:
    """The network's name, the edge of its training images, and the recipe for them."""
    from keras_resnext.models import variants
    from keras_resnext.training import recipes

    name = options.model or recipe.model or variants.DEFAULT_MODEL
    if name.lower().startswith(BASELINE):
        return name, recipe.image_size or BASELINE_SIZE, recipe
    variant = variants.get(name)
    recipes.check_overrides(network, variant.config)
    if recipe.image_size and not options.image_size and variant.input_size < SMALL:
        # A recipe of photographs for a network of thumbnails.
        recipe = recipe.replace(image_size=None, test_size=None)
    return variant.name, recipe.image_size or variant.input_size, recipe


def _cache(options: argparse.Namespace) -> str | bool:
    return False if options.cache == "none" else options.cache or "auto"


def _budget(options: argparse.Namespace) -> int | None:
    return None if options.memory_budget is None else int(options.memory_budget * 1e9)


@contextmanager
def _importing() -> Iterator[None]:
    """Import TensorFlow or what needs it."""
    with _ending_at_once(), _quiet_tensorflow():
        yield


@contextmanager
def _ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process while there is nothing to be kept.

    A KeyboardInterrupt within an import may be swallowed by what is being imported.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_tensorflow() -> Iterator[None]:
    """Keep what TensorFlow's C++ prints on import from the user, unless a log level is set.

    It writes its greetings before it has read any log level, straight to the descriptor.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _override(text: str) -> tuple[str, object]:
    """From ``key=value`` to a key and a Python value; what is no literal is a string."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f'Invalid value for --set. Expected KEY=VALUE. Received: "{text}"')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


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
        yield "training", f"{summary['images_per_second']:,.0f} images a second"
    if summary["waiting_for_data"] is not None:
        yield "waiting for data", f"{summary['waiting_for_data']:.1%} of it"
    yield "time", f"{summary['seconds']:.1f} seconds"
    yield "parameters", f"{summary['parameters'] / 1e6:.2f} M"
    yield "multiply-adds", f"{summary['macs'] / 1e9:.3f} G an image"


# ------------------------------------------------------------------------------------------ tune


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    from keras_resnext.search.command import add_arguments

    add_arguments(parser)


def _tune(options: argparse.Namespace) -> int:
    from keras_resnext.search.command import tune

    return tune(options)


# --------------------------------------------------------------------------------------- convert


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a .safetensors, .pth or keras.applications' .h5; or .keras")
    parser.add_argument("target", help="a .keras or .weights.h5; or a .safetensors for timm")
    parser.add_argument("--model", required=True, metavar="NAME", help="ours or timm's; see list")
    parser.add_argument("--classes", type=int, metavar="N", help="default: those of the source")
    _set_argument(parser)


def _convert(options: argparse.Namespace) -> int:
    overrides = dict(_override(text) for text in options.overrides)
    with _quiet_tensorflow():
        from keras_resnext.convert import convert
    model = convert(options.source, options.target, options.model, options.classes, **overrides)
    print(f"{options.target}: {model.name}, {model.count_params() / 1e6:.2f} M parameters")
    return 0


# ------------------------------------------------------------------------------- data and profile


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in DATA_COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.summary)
        own.add_argument("--data", default="digits", help=DATA_HELP)
        own.add_argument(
            "--image-size", type=int, metavar="PIXELS", help="default: the images' own"
        )
        own.add_argument("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
        command.add_arguments(own)
        own.set_defaults(run=command.run)


def _pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--augmentation", metavar="NAME", help=AUGMENTATION_HELP)
    parser.add_argument("--mixing", default="none", metavar="NAMES", help=MIXING_HELP)


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    _pipeline_arguments(parser)
    add = parser.add_argument
    add("--count", type=int, default=24, metavar="N", help="images; default: %(default)s")
    add("--output", default="data.png", metavar="FILE", help="default: %(default)s")


def _show(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, options.image_size, options.seed)
    with _quiet_tensorflow():
        from keras_resnext.data.profile import example_batch

    images, labels = example_batch(
        dataset,
        options.count,
        augmentation=options.augmentation,
        mixing=options.mixing,
        seed=options.seed,
        cache=False,
    )
    from keras_resnext.plots import plot_grid

    captions = [_caption(label, dataset.class_names) for label in labels]
    title = f"{dataset.name}: {options.augmentation or dataset.augmentation}, {options.mixing}"
    plot_grid(images, captions, options.output, title)
    print(f"Saved in {options.output}: {len(images)} images of {dataset.name} as they are fed.")
    return 0


def _caption(label, names: Sequence[str]) -> str:
    """The classes of a label, by weight, where there are several."""
    strongest = [int(number) for number in label.argsort()[::-1][:4] if label[number] > 0.005]
    if len(strongest) == 1:
        return names[strongest[0]]
    return "\n".join(f"{names[number]} {label[number]:.2f}" for number in strongest)


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _check(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    # The size plays no part here, but that images differ in it is no fault.
    dataset = load_dataset(options.data, options.image_size or 224, options.seed, "skip")
    with _quiet_tensorflow():
        from keras_resnext.data.check import check_dataset

    report = check_dataset(dataset)
    if options.json:
        _print_json(asdict(report))
    else:
        _print_report(report)
    return 1 if report.broken else 0


def _print_report(report) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("class", no_wrap=True)
    for heading in ("training", "test"):
        table.add_column(heading, justify="right")
    for name, (train, test) in report.counts.items():
        table.add_row(name, f"{train:,}", f"{test:,}")
    table.add_section()
    sums = (sum(column) for column in zip(*report.counts.values(), strict=True))
    table.add_row("all", *(f"{total:,}" for total in sums))
    Console().print(table)
    if report.sizes:
        sizes = (f"{width}x{height}" for height, width in report.sizes)
        print("pixels (least, median, greatest): " + ", ".join(sizes))
    print(f"broken files: {len(report.broken)}")
    for path, fault in report.broken.items():
        print(f"  {path}: {fault}")
    print(f"test files that are training files too: {len(report.duplicates)}")
    for train, test in report.duplicates:
        print(f"  {test} is {train}")


def _pack_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--output", required=True, metavar="FOLDER", help="to write to, or to go on in")
    add("--shard-images", type=int, default=1024, metavar="N", help="a file; default: %(default)s")
    add("--on-error", choices=("raise", "skip"), default="raise", help="default: %(default)s")


def _pack(options: argparse.Namespace) -> int:
    from rich.progress import Progress

    from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, options.image_size, options.seed, options.on_error)
    with _quiet_tensorflow():
        from keras_resnext.data.pack import write_pack

    with Progress() as bar:
        task = bar.add_task("packing")
        folder = write_pack(
            dataset,
            options.output,
            options.shard_images,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    print(f"Packed in {folder}: keras-resnext train --data {folder}")
    return 0


def _profile_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", default="digits", help=DATA_HELP)
    add("--model", metavar="NAME", help="whose training step is fed; default: the pipeline alone")
    add("--batch-size", type=int, metavar="N", help="default: the data set's own")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    _pipeline_arguments(parser)
    _cache_arguments(parser)
    add("--seconds", type=float, default=3.0, metavar="S", help="a measurement; default: 3")
    add("--output", default="profile.png", metavar="FILE", help="default: %(default)s")


def _profile(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    variant = variants.get(options.model) if options.model else None
    from keras_resnext.data.datasets import load_dataset

    size = options.image_size or (variant and variant.input_size)
    dataset = load_dataset(options.data, size, options.seed, options.on_error or "raise")
    step = _training_step(variant, dataset) if variant else None
    with _quiet_tensorflow():
        from keras_resnext.data.profile import profile_pipeline

    profile = profile_pipeline(
        dataset,
        step,
        options.batch_size,
        seconds=options.seconds,
        seed=options.seed,
        augmentation=options.augmentation,
        mixing=options.mixing,
        cache=_cache(options),
        memory_budget=_budget(options),
    )
    from keras_resnext.plots import plot_profile

    title = f"{variant.name} on {dataset.name}" if variant else dataset.name
    plot_profile(profile, options.output, title)
    _print_profile(profile)
    print(f"Saved in {options.output}")
    return 0


def _training_step(variant, dataset) -> Callable:
    with _quiet_tensorflow():
        import keras

        from keras_resnext.applications import create_model
        from keras_resnext.training.compile import compile_recipe

        keras.distribution.list_devices()
    shape = (dataset.image_size, dataset.image_size, 3)
    model = create_model(variant.name, input_shape=shape, classes=dataset.classes)
    compile_recipe(model, "default", steps=1000)
    return model.train_on_batch


def _print_profile(profile) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("images a second", no_wrap=True)
    for heading in ("by itself", "in place"):
        table.add_column(heading, justify="right")
    for name, rate in profile.stages.items():
        table.add_row(name, f"{rate:,.0f}", f"{profile.in_place[name]:,.0f}")
    if profile.model is not None:
        table.add_section()
        table.add_row("the model's step", f"{profile.model:,.0f}", f"{profile.together:,.0f}")
    Console().print(table)
    if profile.waiting is not None:
        print(f"The step waits for data {profile.waiting:.1%} of the time.")
    print(f"Kept between epochs: {profile.cache.kind}: {profile.cache.reason}")
    print(profile.verdict)


# -------------------------------------------------------------------------------------- predict

_MODEL_HELP = "a run's folder, a .keras file, or a name (see list) with --weights"


def _classifier_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help=_MODEL_HELP)
    parser.add_argument("--weights", metavar="FILE", help="of a named network")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: the run's or the model's own"
    )


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    _classifier_arguments(parser)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, and folders with images in or below")
    add("--top", type=int, default=5, metavar="N", help="classes an image; default: %(default)s")
    add("--batch-size", type=int, default=32, metavar="N", help="default: %(default)s")
    add("--json", action="store_true", help="print JSON")
    add(
        "--explain",
        metavar="FOLDER",
        help="write a Grad-CAM picture of each image there: where the best class was seen",
    )


def _predict(options: argparse.Namespace) -> int:
    _at_least_one("--top", options.top)
    _at_least_one("--batch-size", options.batch_size)
    classifier = _load_classifier(options)

    from keras_resnext.evaluation.predict import find_images, predict

    paths = find_images(options.images)
    answers = predict(classifier, paths, options.top, options.batch_size)
    if options.explain:
        from keras_resnext.evaluation.explain import explain_files

        answers = explain_files(classifier, answers, options.explain)
    answers = list(answers)
    _SHOW_ANSWERS[options.json](answers)
    faults = [answer["error"] for answer in answers if "error" in answer]
    for fault in faults:
        print(f"{PROGRAM}: error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def _load_classifier(options: argparse.Namespace):
    from keras_resnext.evaluation.source import find_model

    find_model(options.model, options.weights)
    with _quiet_tensorflow():
        from keras_resnext.evaluation.predict import load_classifier

        return load_classifier(options.model, options.weights, options.image_size)


def _at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"Invalid value for {name}. Expected at least 1. Received: {value}")


def _print_answers(answers: Sequence[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for answer in answers:
        for place, found in enumerate(answer.get("classes", ())):
            image = answer["image"] if place == 0 else ""
            table.add_row(image, found["name"], f"{found['probability']:.2%}")
        table.add_section()
    if table.row_count:
        Console().print(table)
    explained = [answer["explanation"] for answer in answers if "explanation" in answer]
    if explained:
        print(f"Explained in {', '.join(explained)}")


# --------------------------------------------------------------------------------------- export


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    _classifier_arguments(parser)
    add = parser.add_argument
    add("--format", default="savedmodel", metavar="NAME", help="savedmodel, onnx, openvino, litert")
    add("--precision", default="float32", metavar="NAME", help="float32, bfloat16 or int8")
    add(
        "--preprocess",
        action="store_true",
        help="put resizing and normalizing into it: it takes uint8 images of any size",
    )
    add(
        "--calibrate",
        metavar="FOLDER",
        help="images to check with, and, for int8, to calibrate with; a few hundred are enough",
    )
    add("-o", "--output", required=True, metavar="PATH", help="of the file or folder to write")


def _export(options: argparse.Namespace) -> int:
    from keras_resnext.export import check_format, check_path

    check_format(options.format, options.precision, options.calibrate is not None)
    check_path(options.output, options.format)
    classifier = _load_classifier(options)

    from keras_resnext.evaluation.predict import ImageBatches, find_images, read_image
    from keras_resnext.export import export_model

    layer = classifier.preprocessing if options.preprocess else None
    read = read_image if options.preprocess else classifier.read
    images = None
    if options.calibrate:
        images = ImageBatches(find_images([options.calibrate]), read)
    report = export_model(
        classifier.model, options.output, options.format, options.precision, images, layer
    )
    print(f"Written: {report['path']}")
    print(
        f"Against the model's own outputs on {report['images']} photographs: largest difference "
        f"{report['largest_difference']:.2g} (largest output {report['largest_output']:.2g}), "
        f"the same best class on {report['same_top1']:.1%}"
    )
    return 0


# ------------------------------------------------------------------------------------ benchmark


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("models", nargs="+", metavar="MODEL", help="names (see list) and .keras files")
    add(
        "--forms",
        nargs="+",
        default=["keras", "folded"],
        metavar="NAME",
        help="keras, folded, savedmodel, onnx, openvino, litert; default: keras folded",
    )
    add(
        "--precision",
        nargs="+",
        default=["float32"],
        metavar="NAME",
        help="float32, bfloat16, int8; default: float32",
    )
    add("--batch-size", nargs="+", type=int, default=[1, 16], metavar="N", help="default: 1 16")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add("--seconds", type=float, default=2.0, metavar="X", help="of each; default: %(default)s")
    add("--json", action="store_true", help="print JSON")
    add("--plot", metavar="FILE", help="write a picture (PNG)")


def _benchmark(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    names = [m if os.path.isfile(m) else variants.get(m).name for m in options.models]
    with _quiet_tensorflow():
        import keras

        from keras_resnext.applications import create_model
        from keras_resnext.evaluation.throughput import check, throughput
    check(options.forms, options.precision, options.batch_size)
    shape = (options.image_size, options.image_size, 3) if options.image_size else None
    rows = []
    for name in names:
        if os.path.isfile(name):
            model = keras.saving.load_model(name, compile=False)
        else:
            model = create_model(name, input_shape=shape)
        measured = throughput(
            model, options.forms, options.precision, options.batch_size, options.seconds
        )
        for row in measured:
            rows.append(row)
            print(_measurement(row), file=sys.stderr)
    _SHOW_THROUGHPUT[options.json](rows)
    if options.plot:
        from keras_resnext.plots import plot_throughput

        plot_throughput(rows, options.plot, "Inference on this machine")
    return 0


def _measurement(row: dict) -> str:
    return (
        f"{row['model']}, {row['form']}, {row['precision']}, batch of {row['batch_size']}: "
        f"{row['images_per_second']:.3g} images a second"
    )


def _print_throughput(rows: Sequence[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for heading in ("model", "form", "precision"):
        table.add_column(heading)
    for heading in ("batch", "compile s", "latency ms", "images/s"):
        table.add_column(heading, justify="right")
    for row in rows:
        table.add_row(
            *(row[key] for key in ("model", "form", "precision")),
            str(row["batch_size"]),
            f"{row['compile_seconds']:.1f}",
            f"{row['latency_ms']:.1f}",
            f"{row['images_per_second']:.3g}",
        )
    Console().print(table)


# -------------------------------------------------------------------------------------- recipes


def _recipes_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="explain this one; default: list all")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _recipes(options: argparse.Namespace) -> int:
    from keras_resnext.training import recipes

    if options.name:
        _SHOW_RECIPE[options.json](recipes.get_recipe(options.name))
    else:
        _SHOW_RECIPES[options.json]([recipes.get_recipe(n) for n in recipes.list_recipes()])
    return 0


def _print_recipes(found: Sequence) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("recipe", no_wrap=True)
    for heading in ("model", "epochs", "batch", "about"):
        table.add_column(heading)
    for recipe in found:
        numbers = (recipe.model, recipe.epochs, recipe.batch_size)
        shown = ("" if value is None else str(value) for value in numbers)
        table.add_row(recipe.name, *shown, recipe.about)
    Console().print(table)


def _print_recipe(recipe) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=recipe.name, title_justify="left", show_header=False)
    own = _recipe_fields(recipe)
    for name, value in asdict(recipe).items():
        if name != "name" and (value or name in own):
            table.add_row(name, str(value), style="bold" if name in own else "dim")
    Console().print(table)
    print("Bold: other than in the default. Change any: keras-resnext train --set FIELD=VALUE")


def _recipe_fields(recipe) -> dict:
    from keras_resnext.training.recipes import changes

    return changes(recipe)


# --------------------------------------------------------------------------------------- doctor


def _doctor_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quick", action="store_true", help="measure nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _doctor(options: argparse.Namespace) -> int:
    with _importing():
        import keras

        from keras_resnext.evaluation.doctor import examine

        keras.distribution.list_devices()
    _SHOW_HEALTH[options.json](examine(measure=not options.quick))
    return 0


def _print_health(found: dict) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    for name, version in found["versions"].items():
        table.add_row(name, version)
    table.add_section()
    table.add_row("backend", found["backend"])
    table.add_row("device", found["device"])
    table.add_row("processor has bfloat16", "yes" if found["bfloat16"] else "no")
    table.add_row("TF_ENABLE_ONEDNN_OPTS", found["onednn"])
    table.add_section()
    table.add_row("--precision auto takes", found["precision"])
    table.add_row("--strategy auto takes", found["strategy"])
    for dtype, milliseconds in found["milliseconds"].items():
        table.add_row(f"3x3, 56x56x128, 32 groups, {dtype}", f"{milliseconds:.1f} ms a step")
    Console().print(table)
    for text, thread in found["faults"]:
        print(f"- {text}" + (f" ({thread})" if thread else ""))


# ---------------------------------------------------------------------------------- list and info


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help='such as "ResNeXt*"')
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    found = [variants.get(name) for name in variants.list_models(options.pattern)]
    if not found:
        raise ValueError(unknown("model", options.pattern, variants.list_models()))
    _SHOW_LIST[options.json](found)
    return 0


def _print_models(found: Sequence) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("model", no_wrap=True)
    for heading in ("input", "parameters (M)", "GMACs", "top-1 error (%)"):
        table.add_column(heading, justify="right")
    table.add_column("paper")
    for variant in found:
        error = "" if variant.top1_error is None else f"{variant.top1_error:g}"
        table.add_row(
            variant.name,
            str(variant.input_size),
            f"{variant.total / 1e6:.2f}",
            f"{variant.gmacs:.3f}",
            error,
            variant.paper,
        )
    Console().print(table)


def _info_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="of a model; see list")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _info(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    _SHOW_INFO[options.json](variants.get(options.name))
    return 0


def _print_model(variant) -> None:
    from rich.console import Console
    from rich.table import Table

    fields = _fields(variant)
    table = Table(title=fields.pop("name"), title_justify="left", show_header=False)
    configuration = fields.pop("config")
    for name, value in fields.items():
        table.add_row(name, "not published" if value is None else str(value))
    table.add_section()
    for name, value in configuration.items():
        table.add_row(name, str(value))
    Console().print(table)


def _fields(variant) -> dict:
    return asdict(variant)


def _print_json(data) -> None:
    print(json.dumps(data, indent=2))


_SHOW_LIST = {
    False: _print_models,
    True: lambda found: _print_json([_fields(variant) for variant in found]),
}
_SHOW_ANSWERS = {False: _print_answers, True: _print_json}
_SHOW_THROUGHPUT = {False: _print_throughput, True: _print_json}
_SHOW_HEALTH = {False: _print_health, True: _print_json}
_SHOW_RECIPES = {
    False: _print_recipes,
    True: lambda found: _print_json([_recipe_fields(recipe) for recipe in found]),
}
_SHOW_RECIPE = {
    False: _print_recipe,
    True: lambda recipe: _print_json(asdict(recipe)),
}
_SHOW_INFO = {False: _print_model, True: lambda variant: _print_json(_fields(variant))}

DATA_COMMANDS = (
    Command("show", "Draw what a network will see, with labels.", _show_arguments, _show),
    Command(
        "check", "Report counts, sizes, broken files and duplicates.", _check_arguments, _check
    ),
    Command("pack", "Write a data set as TFRecord shards.", _pack_arguments, _pack),
)
COMMANDS = (
    Command("train", "Train a network on images.", _train_arguments, _train),
    Command("recipes", "List and explain the ways of training.", _recipes_arguments, _recipes),
    Command("tune", "Search hyperparameters at equal cost.", _tune_arguments, _tune),
    Command("predict", "Say what is on images.", _predict_arguments, _predict),
    Command("export", "Write a model for another runtime.", _export_arguments, _export),
    Command("benchmark", "Measure how fast networks answer.", _benchmark_arguments, _benchmark),
    Command("convert", "Convert weights to Keras, or to timm.", _convert_arguments, _convert),
    Command("data", "Show, check or pack a data set.", _data_arguments, lambda options: 2),
    Command("profile", "Say what holds a pipeline back.", _profile_arguments, _profile),
    Command("doctor", "Examine this machine, and say what suits it.", _doctor_arguments, _doctor),
    Command("list", "List the networks.", _list_arguments, _list),
    Command("info", "Show the configuration of a network.", _info_arguments, _info),
)
