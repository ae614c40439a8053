"""The command `tune`."""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from keras_resnext.cli.shared import INTERRUPTED, Command, changed_arguments

# In the folder of a search.
SEARCH = "search.json"
# Arguments that a resumed search takes.
RESUMABLE = {"--output", "--trials", "--time-limit", "--attempts", "--workers", "--compare"}


def _tune_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--space", metavar="FILE", help="file to search; tuning/ has some; without: resume")
    add("--data", default="digits", metavar="DATA", help="as in train; default: %(default)s")
    add("--output", default="runs/tune", metavar="FOLDER", help="default: %(default)s")
    add(
        "--oracle",
        choices=("random", "bayesian", "hyperband", "grid"),
        default="bayesian",
        help="default: %(default)s",
    )
    add("--trials", type=int, metavar="N", help="default: 30; of grid all; hyperband takes none")
    add("--epochs", type=int, metavar="N", help="epochs per trial; default: the space's")
    add("--executions", type=int, default=1, metavar="N", help="trainings per trial, by seed")
    add("--workers", type=int, default=1, metavar="N", help="trials at a time on this machine")
    add(
        "--objective",
        choices=("top1", "top1_and_speed"),
        default="top1",
        help="with speed: twice the images per second are worth 5 %% of the accuracy",
    )
    add(
        "--holdout",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of the training images that trials are judged by; default: %(default)s",
    )
    add("--patience", type=int, metavar="N", help="epochs without gain that stop a training")
    add("--time-limit", type=float, metavar="SECONDS", help="seconds per trial")
    add("--attempts", type=int, default=3, metavar="N", help="deaths by a signal that fail a trial")
    add("--factor", type=int, default=3, metavar="N", help="hyperband's; default: %(default)s")
    add("--image-size", type=int, metavar="PIXELS", help="default: the model's own")
    add("--on-error", choices=("raise", "skip"), default="raise", help="broken images, as in train")
    add(
        "--compare",
        action="append",
        default=[],
        metavar="FOLDER",
        help="another search, for the picture of the best so far",
    )
    add("--seed", type=int, default=0, metavar="N", help="default: %(default)s")


def _tune(options: argparse.Namespace) -> int:
    """Search, or resume the search in the output's folder; return 1 if no trial was completed."""
    from keras_resnext.search.space import load_space

    space = load_space(options.space) if options.space else None
    if space is None:
        _check_resumable(options)
    others = _compared(options)
    with _without_gpus():
        from keras_resnext.search.driver import resume, search
        from keras_resnext.search.report import write_report
    try:
        if space is None:
            outcome = resume(options.output, options.workers, **_limits(options))
        else:
            outcome = search(space, options.data, options.output, **_settings(options))
    except KeyboardInterrupt:
        print(f"Stopped. To resume: keras-resnext tune --output {options.output}")
        return INTERRUPTED
    finally:
        if Path(options.output, "trials.csv").is_file():
            write_report(options.output, others)
    return _print_outcome(outcome)


def _check_resumable(options: argparse.Namespace) -> None:
    if not Path(options.output, SEARCH).is_file():
        raise ValueError(
            f'"{options.output}" holds no search to resume, and there is no --space. Expected '
            "the file of a space, such as tuning/digits.py."
        )
    others = changed_arguments(options, _tune_arguments) - RESUMABLE
    if others:
        raise ValueError(
            "Without --space a search is resumed with its own settings. Expected only "
            f"{', '.join(sorted(RESUMABLE))}. Received: {', '.join(sorted(others))}"
        )


def _limits(options: argparse.Namespace) -> dict[str, object]:
    limits = {name: getattr(options, name) for name in ("trials", "time_limit")}
    if "--attempts" in changed_arguments(options, _tune_arguments):
        limits["attempts"] = options.attempts
    return limits


def _settings(options: argparse.Namespace) -> dict[str, object]:
    names = ("oracle", "trials", "epochs", "executions", "workers", "objective", "holdout")
    names += ("patience", "time_limit", "attempts", "factor", "image_size", "on_error", "seed")
    return {name: getattr(options, name) for name in names}


def _compared(options: argparse.Namespace) -> dict[str, str]:
    """Return the folders of other searches by their names, or by path if a name is taken."""
    for path in options.compare:
        if not Path(path, SEARCH).is_file():
            raise ValueError(f'--compare "{path}" holds no search: {SEARCH} is missing.')
    names = {path: Path(path).name for path in options.compare}
    taken = [Path(path).name for path in options.compare] + [_oracle(options)]
    return {
        name if taken.count(name) == 1 else str(Path(path).absolute()): path
        for path, name in names.items()
    }


def _oracle(options: argparse.Namespace) -> str:
    """Return the oracle of the search, which is the label of its own curve."""
    path = Path(options.output, SEARCH)
    return json.loads(path.read_text())["oracle"] if path.is_file() else options.oracle


@contextmanager
def _without_gpus() -> Iterator[None]:
    """Import KerasTuner on TensorFlow, which can be kept off the GPUs: they are for the trials.

    This process only waits, whatever the backend of the trials.
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


def _print_outcome(outcome: dict) -> int:
    from keras_resnext.search.folder import Folder, training_command

    print(f"{outcome['completed']} trials completed, {outcome['failed']} failed.")
    if outcome["stopped"]:
        print(f"Stopped early: {outcome['stopped']}")
    best, output = outcome["best"], outcome["output"]
    if best is None:
        return 1
    print(f"Best: trial {best['trial']}, top-1 {best['top1']:.2%} on the held-out images.")
    print(f"Saved in {output}: report.html, trials.csv, best/model.keras, best/recipe.json")
    print(f"To train it on all images: {training_command(Folder(output))}")
    return 0


COMMANDS = (Command("tune", "Search hyperparameters at equal cost.", _tune_arguments, _tune),)
