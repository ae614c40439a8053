"""The commands `data` and `profile`."""

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from keras_resnext.cli.inference import MODEL_HELP, load_classifier
from keras_resnext.cli.shared import (
    AUGMENTATION_HELP,
    DATA_HELP,
    MIXING_HELP,
    Command,
    budget_of,
    cache_arguments,
    cache_of,
    check_folder_of,
    print_json,
    quiet_tensorflow,
)
from keras_resnext.data.augment import parse_augmentation
from keras_resnext.data.mixing import parse_mixing

if TYPE_CHECKING:
    import numpy as np

    from keras_resnext.data.audit import Audit
    from keras_resnext.data.parts import Dataset
    from keras_resnext.data.profile import Profile
    from keras_resnext.models.variants import Variant


def _data_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in DATA_COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.summary)
        own.add_argument("--data", default="digits", help=DATA_HELP)
        own.add_argument("--image-size", type=int, metavar="PIXELS", help=_SIZE_HELP)
        own.add_argument("--seed", type=int, default=0, metavar="N", help=_DEFAULT)
        command.add_arguments(own)
        own.set_defaults(run=command.run, parser=own)


_DEFAULT = "default: %(default)s"
_SIZE_HELP = "default: the images' own; for policy the model's"


def _pipeline_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--augmentation", metavar="NAME", help=AUGMENTATION_HELP)
    parser.add_argument("--mixing", default="none", metavar="NAMES", help=MIXING_HELP)


def _parsed(options: argparse.Namespace) -> dict:
    """Parse what `_pipeline_arguments` adds, before anything heavy is imported."""
    augmentation = options.augmentation and parse_augmentation(options.augmentation)
    return {"augmentation": augmentation, "mixing": parse_mixing(options.mixing)}


def _show_arguments(parser: argparse.ArgumentParser) -> None:
    _pipeline_arguments(parser)
    add = parser.add_argument
    add("--count", type=int, default=24, metavar="N", help=f"images; {_DEFAULT}")
    add("--output", default="data.png", metavar="FILE", help=_DEFAULT)


def _show(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    check_folder_of("--output", options.output)
    parsed = _parsed(options)
    dataset = load_dataset(options.data, options.image_size, options.seed)
    with quiet_tensorflow():
        from keras_resnext.data.profile import example_batch
        from keras_resnext.data.undecodable import naming_undecodable

    with naming_undecodable(dataset):
        settings = {"seed": options.seed, "cache": False, **parsed}
        images, labels = example_batch(dataset, options.count, **settings)
    from keras_resnext.plots import plot_grid

    captions = [_caption(label, dataset.class_names) for label in labels]
    title = f"{dataset.name}: {options.augmentation or dataset.augmentation}, {options.mixing}"
    plot_grid(images, captions, options.output, title)
    print(f"Saved in {options.output}: {len(images)} images of {dataset.name} as they are fed.")
    return 0


def _caption(label: "np.ndarray", names: Sequence[str]) -> str:
    """Return the names of a label's classes, with their weights if there are several."""
    strongest = [int(number) for number in label.argsort()[::-1][:4] if label[number] > 0.005]
    if len(strongest) == 1:
        return names[strongest[0]]
    return "\n".join(f"{names[number]} {label[number]:.2f}" for number in strongest)


def _check_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _check(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    # Any size will do here, and images may differ in size.
    dataset = load_dataset(options.data, options.image_size or 224, options.seed, "skip")
    with quiet_tensorflow():
        from keras_resnext.data.audit import audit_dataset

    report = audit_dataset(dataset)
    if options.json:
        print_json(asdict(report))
    else:
        _print_report(report)
    return 1 if report.broken else 0


def _print_report(report: "Audit") -> None:
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
    Console(markup=False).print(table)  # a name may have brackets
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
    add("--output", required=True, metavar="FOLDER", help="to write to, or to resume in")
    add("--shard-images", type=int, default=1024, metavar="N", help=f"per file; {_DEFAULT}")
    add("--on-error", choices=("raise", "skip"), default="raise", help=_DEFAULT)


def _pack(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    dataset = load_dataset(options.data, options.image_size, options.seed, options.on_error)
    with quiet_tensorflow():
        from keras_resnext.data.pack import write_pack
        from keras_resnext.data.undecodable import without_undecodable

    if options.on_error == "skip":
        dataset = without_undecodable(dataset)
    with _progress("packing") as progress:
        folder = write_pack(dataset, options.output, options.shard_images, progress)
    print(f"Packed in {folder}: keras-resnext train --data {folder}")
    return 0


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar, and yield a function of the numbers of completed and of all things."""
    from rich.progress import Progress

    with Progress() as bar:
        task = bar.add_task(title)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _policy_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help=f"{MODEL_HELP}; not trained on the test part of --data")
    add("--weights", metavar="FILE", help="weights of a named network: as in train")
    for name, count, text in (
        ("--trials", 200, "sub-policies to draw"),
        ("--keep", 25, "how many of them make the policy"),
        ("--images", 1000, "most test images to search on"),
    ):
        add(name, type=int, default=count, metavar="N", help=f"{text}; {_DEFAULT}")
    add("--output", default="policy.json", metavar="FILE", help=_DEFAULT)


def _policy(options: argparse.Namespace) -> int:
    from keras_resnext.data.datasets import load_dataset

    check_folder_of("--output", options.output)
    if not options.output.endswith(".json"):
        raise ValueError(
            f"Invalid value for --output. Expected a .json file. Received: {options.output}"
        )
    classifier = load_classifier(options)
    with quiet_tensorflow():
        from keras_resnext.data.policy_search import search_policy, write_policy
        from keras_resnext.evaluation.classifier import as_predictor
    size = options.image_size or classifier.preprocessing.size
    dataset = load_dataset(options.data, size, options.seed)
    predict, dataset = as_predictor(classifier, dataset)
    with _progress("searching") as progress:
        result = search_policy(
            predict,
            dataset,
            trials=options.trials,
            keep=options.keep,
            images=options.images,
            seed=options.seed,
            progress=progress,
        )
    write_policy(result, options.output)
    print(f"Loss on {result.images:,} held-out images: {result.plain:.4f} as they are, ", end="")
    print(f"{result.losses[0]:.4f} to {result.losses[-1]:.4f} changed by the policy.")
    print(f"Saved in {options.output}: keras-resnext train --augmentation {options.output}")
    return 0


def _profile_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--data", default="digits", help=DATA_HELP)
    add(
        "--model",
        metavar="NAME",
        help="network whose training step is fed; default: the pipeline alone",
    )
    add("--batch-size", type=int, metavar="N", help="default: the data set's own")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add("--seed", type=int, default=0, metavar="N", help=_DEFAULT)
    _pipeline_arguments(parser)
    cache_arguments(parser)
    add("--seconds", type=float, default=3.0, metavar="S", help="per measurement; default: 3")
    add("--output", default="profile.png", metavar="FILE", help=_DEFAULT)


def _profile(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    check_folder_of("--output", options.output)
    parsed = _parsed(options)
    variant = variants.get(options.model) if options.model else None
    from keras_resnext.data.datasets import load_dataset

    size = options.image_size or (variant and variant.input_size)
    dataset = load_dataset(options.data, size, options.seed, options.on_error or "raise")
    with quiet_tensorflow():
        from keras_resnext.data.profile import profile_pipeline
        from keras_resnext.data.undecodable import naming_undecodable, without_undecodable

    if options.on_error == "skip":
        dataset = without_undecodable(dataset)
    step = _training_step(variant, dataset) if variant else None
    with naming_undecodable(dataset):
        profile = profile_pipeline(
            dataset,
            step,
            options.batch_size,
            seconds=options.seconds,
            seed=options.seed,
            cache=cache_of(options),
            memory_budget=budget_of(options),
            **parsed,
        )
    _print_profile(profile)
    from keras_resnext.plots import plot_profile

    title = f"{variant.name} on {dataset.name}" if variant else dataset.name
    plot_profile(profile, options.output, title)
    print(f"Saved in {options.output}")
    return 0


def _training_step(variant: "Variant", dataset: "Dataset") -> Callable:
    with quiet_tensorflow():
        import keras

        from keras_resnext.applications import create_model
        from keras_resnext.training.build import compile_recipe
        from keras_resnext.training.environment import devices

        devices()
    shape = (dataset.image_size, dataset.image_size, 3)
    model = create_model(variant.name, input_shape=shape, classes=dataset.classes)
    compile_recipe(model, "default", steps=1000)
    if keras.backend.backend() == "tensorflow":
        return model.train_on_batch
    return lambda images, labels: model.train_on_batch(images.numpy(), labels.numpy())


def _print_profile(profile: "Profile") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("images per second", no_wrap=True)
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


DATA_COMMANDS = (
    Command("show", "Draw what a network will see, with labels.", _show_arguments, _show),
    Command(
        "check", "Report counts, sizes, broken files and duplicates.", _check_arguments, _check
    ),
    Command("pack", "Write a data set as TFRecord shards.", _pack_arguments, _pack),
    Command("policy", "Search a policy of augmentation.", _policy_arguments, _policy),
)

COMMANDS = (
    Command(
        "data",
        "Show, check or pack a data set, or search its augmentation.",
        _data_arguments,
        lambda options: 2,
    ),
    Command("profile", "Find what holds an input pipeline back.", _profile_arguments, _profile),
)
