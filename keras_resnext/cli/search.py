"""tune."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_resnext.cli.shared import INTERRUPTED, Command, changed_arguments

# In the folder of a search.
SEARCH = "search.json"
# What may be given to go on with a search.
GOES_ON = {"--output", "--trials", "--time-limit", "--attempts", "--workers", "--compare"}


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--space", metavar="FILE", help="what is searched: see tuning/ for ready ones")
    add("--data", default="digits", metavar="DATA", help="as in train; default: %(default)s")
    add("--output", default="runs/tune", metavar="FOLDER", help="default: %(default)s")
    add(
        "--oracle",
        choices=("random", "bayesian", "hyperband", "grid"),
        default="bayesian",
        help="default: %(default)s",
    )
    add("--trials", type=int, metavar="N", help="default: 30; of grid all; hyperband takes none")
    add("--epochs", type=int, metavar="N", help="of a trial; default: the space's")
    add("--executions", type=int, default=1, metavar="N", help="trainings of a trial, by seed")
    add("--workers", type=int, default=1, metavar="N", help="trials at a time on this machine")
    add(
        "--objective",
        choices=("top1", "top1_and_speed"),
        default="top1",
        help="with speed: twice the images a second are worth 5 %% of the accuracy",
    )
    add(
        "--holdout",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="of the training images, that trials are judged by; default: %(default)s",
    )
    add("--patience", type=int, metavar="N", help="epochs without gain that stop a training")
    add("--time-limit", type=float, metavar="SECONDS", help="of a trial")
    add("--attempts", type=int, default=3, metavar="N", help="deaths by a signal that fail a trial")
    add("--factor", type=int, default=3, metavar="N", help="hyperband's; default: %(default)s")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add("--on-error", choices=("raise", "skip"), default="raise", help="broken images, as in train")
    add(
        "--compare",
        action="append",
        default=[],
        metavar="FOLDER",
        help="of another search, for the picture of the best so far",
    )
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _tune(options: argparse.Namespace) -> int:
    """Search, or go on with the search that the output holds; 1 if no trial was completed."""
    from keras_resnext.search.space import load_space

    space = load_space(options.space) if options.space else None
    if space is None:
        _check_goes_on(options)
    compared = _compared(options)
    with _without_gpus():
        from keras_resnext.search.report import write_report
        from keras_resnext.search.run import go_on, search
    try:
        found = _run(space, options, search, go_on)
    except KeyboardInterrupt:
        print(f"Stopped. To go on: keras-resnext tune --output {options.output}")
        return INTERRUPTED
    finally:
        if Path(options.output, "trials.csv").is_file():
            write_report(options.output, compared)
    return _tell(found)


def _check_goes_on(options) -> None:
    if not Path(options.output, SEARCH).is_file():
        raise ValueError(
            f'"{options.output}" holds no search to go on with, and there is no --space. Expected '
            "the file of a space, such as tuning/digits.py."
        )
    ignored = changed_arguments(options, _tune_arguments) - GOES_ON
    if ignored:
        raise ValueError(
            "Without --space a search goes on as it was asked for: only "
            f"{', '.join(sorted(GOES_ON))} may be given. Received: {', '.join(sorted(ignored))}"
        )


def _compared(options) -> dict[str, str]:
    """The folders of other searches by their label: their name, or path where that is another's."""
    for path in options.compare:
        if not Path(path, SEARCH).is_file():
            raise ValueError(f'--compare "{path}" holds no search: {SEARCH} is not there.')
    taken = [Path(path).name for path in options.compare]
    taken.append(_oracle(options))
    labels = {path: Path(path).name for path in options.compare}
    return {
        name if taken.count(name) == 1 else str(Path(path).absolute()): path
        for path, name in labels.items()
    }


def _oracle(options) -> str:
    """That of the search: what its own curve is called."""
    path = Path(options.output, SEARCH)
    return json.loads(path.read_text())["oracle"] if path.is_file() else options.oracle


def _run(space, options, search, go_on) -> dict:
    if space is None:
        limits = {name: getattr(options, name) for name in ("trials", "time_limit")}
        if "--attempts" in changed_arguments(options, _tune_arguments):
            limits["attempts"] = options.attempts
        return go_on(options.output, options.workers, **limits)
    names = ("oracle", "trials", "epochs", "executions", "workers", "objective", "holdout")
    names += ("patience", "time_limit", "attempts", "factor", "image_size", "on_error", "seed")
    given = {name: getattr(options, name) for name in names}
    return search(space, options.data, options.output, **given)


@contextmanager
def _without_gpus() -> Iterator[None]:
    """Import KerasTuner and leave every GPU to the trials: this process only waits.

    Under TensorFlow whatever the trials' backend is, because that can be kept from them.
    """
    before = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]
        if before is not None:
            os.environ["KERAS_BACKEND"] = before
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _tell(found: dict) -> int:
    from keras_resnext.search.folder import Folder, training_command

    print(f"{found['completed']} trials completed, {found['failed']} failed.")
    if found["stopped"]:
        print(f"Given up: {found['stopped']}")
    best, output = found["best"], found["output"]
    if best is None:
        return 1
    print(f"Best: trial {best['trial']}, top-1 {best['top1']:.2%} on the held-out images.")
    print(f"Saved in {output}: report.html, trials.csv, best/model.keras, best/recipe.json")
    print(f"To train it on all images: {training_command(Folder(output))}")
    return 0


COMMANDS = (Command("tune", "Search hyperparameters at equal cost.", _tune_arguments, _tune),)
