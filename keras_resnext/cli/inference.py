"""The commands `predict`, `export`, `benchmark` and `convert`."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from keras_resnext.checks import check, integer
from keras_resnext.cli.shared import (
    PROGRAM,
    Command,
    check_folder_of,
    override,
    print_json,
    quiet_tensorflow,
    set_argument,
)
from keras_resnext.model_files import find_model, find_trained_model, open_model

if TYPE_CHECKING:
    from keras_resnext.evaluation.classifier import Classifier


def _convert_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", help="a .safetensors, .pth or keras.applications' .h5; or .keras")
    parser.add_argument("target", help="a .keras or .weights.h5; or a .safetensors for timm")
    parser.add_argument("--model", required=True, metavar="NAME", help="ours or timm's; see list")
    parser.add_argument("--classes", type=int, metavar="N", help="default: those of the source")
    set_argument(parser)


def _convert(options: argparse.Namespace) -> int:
    overrides = dict(override(text) for text in options.overrides)
    with quiet_tensorflow():
        from keras_resnext.convert import convert
    model = convert(options.source, options.target, options.model, options.classes, **overrides)
    print(f"{options.target}: {model.name}, {model.count_params() / 1e6:.2f} M parameters")
    return 0


MODEL_HELP = "a run's folder, a .keras file, or a name (see list) with --weights"


def classifier_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that name a trained model."""
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    parser.add_argument("--weights", metavar="FILE", help="weights of a named network, as in train")
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="default: the run's or the model's own"
    )


def _predict_arguments(parser: argparse.ArgumentParser) -> None:
    classifier_arguments(parser)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, and folders with images in or below")
    add("--top", type=int, default=5, metavar="N", help="classes per image; default: %(default)s")
    add("--batch-size", type=int, default=32, metavar="N", help="default: %(default)s")
    add("--json", action="store_true", help="print JSON")
    add(
        "--explain",
        metavar="FOLDER",
        help="write a Grad-CAM picture of each image there: where the best class was seen",
    )


def _predict(options: argparse.Namespace) -> int:
    check("--top", options.top, integer(1))
    check("--batch-size", options.batch_size, integer(1))
    find_trained_model(options.model, options.weights)
    with quiet_tensorflow():
        from keras_resnext.evaluation.throughput import one_operation_at_a_time

        one_operation_at_a_time()
    classifier = load_classifier(options)

    from keras_resnext.evaluation.image_files import find_images
    from keras_resnext.evaluation.predict import predict

    paths = find_images(options.images)
    answers = predict(classifier, paths, options.top, options.batch_size)
    if options.explain:
        from keras_resnext.evaluation.explain import explain_files

        answers = explain_files(classifier, answers, options.explain)
    answers = list(answers)
    if options.json:
        print_json(answers)
    else:
        _print_answers(answers)
    faults = [answer["error"] for answer in answers if "error" in answer]
    for fault in faults:
        print(f"{PROGRAM}: error: {fault}", file=sys.stderr)
    return 1 if faults else 0


def load_classifier(options: argparse.Namespace) -> "Classifier":
    """Load the model that the command line names; check the name before importing TensorFlow."""
    find_trained_model(options.model, options.weights)
    with quiet_tensorflow():
        from keras_resnext.evaluation.classifier import load_classifier

        return load_classifier(options.model, options.weights, options.image_size)


def _print_answers(answers: Sequence[dict]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("image", overflow="fold")
    table.add_column("class", overflow="fold")
    table.add_column("probability", justify="right")
    for answer in answers:
        for place, row in enumerate(answer.get("classes", ())):
            image = answer["image"] if place == 0 else ""
            table.add_row(image, row["name"], f"{row['probability']:.2%}")
        table.add_section()
    if table.row_count:
        Console(markup=False).print(table)  # a name may have brackets
    pictures = [answer["explanation"] for answer in answers if "explanation" in answer]
    if pictures:
        print(f"Explained in {', '.join(pictures)}")


def _export_arguments(parser: argparse.ArgumentParser) -> None:
    classifier_arguments(parser)
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
    add("-o", "--output", required=True, metavar="PATH", help="file or folder to write")


def _export(options: argparse.Namespace) -> int:
    from keras_resnext.export import check_format, check_path

    check_format(options.format, options.precision, options.calibrate is not None)
    check_path(options.output, options.format)
    classifier = load_classifier(options)

    from keras_resnext.evaluation.image_files import ImageBatches, find_images, read_image
    from keras_resnext.export import export_model

    if options.preprocess and classifier.model.inputs[0].dtype == "uint8":
        raise ValueError(f'"{options.model}" takes uint8 images already: leave --preprocess out.')
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


def _benchmark_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="names (see list), .keras files and folders of runs",
    )
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
    add(
        "--seconds",
        type=float,
        default=2.0,
        metavar="X",
        help="time per measurement; default: %(default)s",
    )
    add("--json", action="store_true", help="print JSON")
    add("--plot", metavar="FILE", help="write a picture (PNG)")


def _benchmark(options: argparse.Namespace) -> int:
    check_folder_of("--plot", options.plot)
    sources = [find_model(model) for model in options.models]
    files = [source for source in sources if isinstance(source, Path)]
    if options.image_size and files:
        raise ValueError(f"--image-size is for named networks: {files[0]} has its own.")
    with quiet_tensorflow():
        from keras_resnext.evaluation.throughput import (
            check_measurable,
            one_operation_at_a_time,
            throughput,
        )
    one_operation_at_a_time()
    measured = options.forms, options.precision, options.batch_size
    check_measurable(*measured)
    rows = []
    for source in sources:
        model = open_model(source, image_size=options.image_size)
        for row in throughput(model, *measured, options.seconds):
            rows.append(row)
            print(_measurement(row), file=sys.stderr)
    if options.json:
        print_json(rows)
    else:
        _print_throughput(rows)
    if options.plot:
        from keras_resnext.plots import plot_throughput

        plot_throughput(rows, options.plot, "Inference on this machine")
    return 0


def _measurement(row: dict) -> str:
    return (
        f"{row['model']}, {row['form']}, {row['precision']}, batch of {row['batch_size']}: "
        f"{row['images_per_second']:.3g} images per second"
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


COMMANDS = (
    Command("predict", "Classify images.", _predict_arguments, _predict),
    Command("export", "Write a model for another runtime.", _export_arguments, _export),
    Command("benchmark", "Measure how fast networks predict.", _benchmark_arguments, _benchmark),
    Command("convert", "Convert weights to Keras, or to timm.", _convert_arguments, _convert),
)
