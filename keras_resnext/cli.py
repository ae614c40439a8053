"""The ``keras-resnext`` command: parsing and printing only.

Keras, TensorFlow, NumPy and Matplotlib are imported within the functions that run a sub-command,
after everything that can be checked without them: ``--help`` and a mistyped name answer at once.
"""

import argparse
import ast
import json
import os
import shlex
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
        The exit code: 0, 1 if training diverged or an image was unreadable, 2 for wrong
        arguments, 130 after Ctrl-C.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    options = build_parser().parse_args(arguments)
    options.command = shlex.join([PROGRAM, *arguments])
    try:
        return options.run(options)
    except (ValueError, ArithmeticError) as error:
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

    def _all(self) -> Iterator[argparse.ArgumentParser]:
        yield self
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from action.choices.values()


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
    from keras_resnext.models.variants import DEFAULT_MODEL

    add = parser.add_argument
    add(
        "--model",
        default=DEFAULT_MODEL,
        metavar="NAME",
        help="default: %(default)s; see list; or keras:NAME of keras.applications",
    )
    add(
        "--data",
        default="digits",
        help="digits, a folder of class folders (with train/ and test/ in it or without) or an "
        ".npz; default: %(default)s",
    )
    add("--epochs", type=int, metavar="N", help="default: the data set's own")
    add("--batch-size", type=int, metavar="N", help="default: the data set's own")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add(
        "--precision",
        choices=("float32", "mixed_float16", "mixed_bfloat16"),
        default="float32",
        help="default: %(default)s",
    )
    add(
        "--learning-rate",
        type=float,
        metavar="X",
        help="the highest; default: 0.1, in proportion above a batch of 256",
    )
    add(
        "--weight-decay",
        type=float,
        default=5e-3,
        metavar="X",
        help="decoupled, of kernels; default: %(default)s, as an L2 penalty of a tenth of that "
        "(for a penalty in the loss: --set l2=0.0005)",
    )
    add("--label-smoothing", type=float, default=0.0, metavar="X", help="default: %(default)s")
    add("--augmentation", metavar="NAME", help="none, shift, shift_flip or resized_crop_flip")
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")
    add("--output", metavar="FOLDER", help="default: runs/MODEL-DATA, -2, -3, ...")
    add("--overwrite", action="store_true", help="replace the run that --output holds")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change the model's configuration (see info), any number of times",
    )


def _train(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants
    from keras_resnext.training.run_folder import check_output
    from keras_resnext.training.settings import TrainSettings

    size = options.image_size or BASELINE_SIZE
    if not options.model.lower().startswith(BASELINE):
        variant = variants.get(options.model)
        options.model, size = variant.name, options.image_size or variant.input_size
    overrides = dict(_override(text) for text in options.overrides)
    check_output(options.output, options.overwrite)
    fields = ("epochs", "batch_size", "precision", "learning_rate", "weight_decay")
    fields += ("label_smoothing", "augmentation", "seed")
    settings = TrainSettings(**{name: getattr(options, name) for name in fields})

    from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, size, options.seed)
    summary = _fit(dataset, settings, overrides, options)
    _print_summary(summary)
    return INTERRUPTED if summary["interrupted"] else 0


def _fit(dataset, settings, overrides: dict, options: argparse.Namespace) -> dict:
    with _quiet_tensorflow():
        import keras

        from keras_resnext.models.applications import create_model
        from keras_resnext.training.fit import train
        from keras_resnext.training.precision import precision

        keras.utils.set_random_seed(settings.seed)
        keras.distribution.list_devices()  # has its say on a missing GPU
    with precision(settings.precision):
        model = create_model(
            options.model,
            weights=None,
            input_shape=(dataset.image_size, dataset.image_size, 3),
            classes=dataset.classes,
            **overrides,
        )
    record = {
        "command": options.command,
        "model": options.model,
        "configuration": _configuration(options.model) | overrides,
    }
    return train(
        model, dataset, settings, options.output, overwrite=options.overwrite, record=record
    )


def _configuration(model: str) -> dict:
    from keras_resnext.models import variants

    return {} if model.lower().startswith(BASELINE) else asdict(variants.get(model).config)


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
    yield "time", f"{summary['seconds']:.1f} seconds"
    yield "parameters", f"{summary['parameters'] / 1e6:.2f} M"
    yield "multiply-adds", f"{summary['macs'] / 1e9:.3f} G an image"


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

        from keras_resnext.evaluation.throughput import check, throughput
        from keras_resnext.models.applications import create_model
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
_SHOW_INFO = {False: _print_model, True: lambda variant: _print_json(_fields(variant))}

COMMANDS = (
    Command("train", "Train a network on images.", _train_arguments, _train),
    Command("predict", "Say what is on images.", _predict_arguments, _predict),
    Command("export", "Write a model for another runtime.", _export_arguments, _export),
    Command("benchmark", "Measure how fast networks answer.", _benchmark_arguments, _benchmark),
    Command("list", "List the networks.", _list_arguments, _list),
    Command("info", "Show the configuration of a network.", _info_arguments, _info),
)
