"""What the verbs share: arguments, imports in silence, and printing."""

import argparse
import ast
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from keras_resnext.data.augment import AUGMENTATIONS
from keras_resnext.data.grammar import signatures
from keras_resnext.data.mixing import MIXINGS

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
    f"none, {signatures(AUGMENTATIONS)}, the path of a policy file, or several joined by +, as in "
    "resized_crop(0.35)+flip+randaugment(7); default: the data set's own"
)


MIXING_HELP = (
    f"none, {signatures(MIXINGS)}, or by probability and by epoch, as in "
    '"mixup(0.2)*0.5+cutmix*0.5,none@80" (from epoch 80 on nothing)'
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


def cache_arguments(parser: argparse.ArgumentParser) -> None:
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


def set_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="change the model's configuration (see info), any number of times",
    )


def changed_arguments(
    options: argparse.Namespace, add_arguments: Callable[[argparse.ArgumentParser], None]
) -> set[str]:
    """The arguments of a command, as they are typed, that are not as they are by default."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return {
        action.option_strings[-1]
        for action in parser._actions
        if getattr(options, action.dest) != action.default
    }


def check_folder_of(argument: str, path: str | None) -> None:
    """Refuse, before any work, a file whose folder is not there."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise ValueError(
            f"Invalid value for {argument}. Expected a file in a folder that is there. "
            f"Received: {path}"
        )


def cache_of(options: argparse.Namespace) -> str | bool:
    return False if options.cache == "none" else options.cache or "auto"


def budget_of(options: argparse.Namespace) -> int | None:
    return None if options.memory_budget is None else int(options.memory_budget * 1e9)


@contextmanager
def importing() -> Iterator[None]:
    """Import TensorFlow or what needs it."""
    with ending_at_once(), quiet_tensorflow():
        yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process while there is nothing to be kept.

    A KeyboardInterrupt within an import may be swallowed by what is being imported.
    """
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
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


def override(text: str) -> tuple[str, object]:
    """From ``key=value`` to a key and a Python value; what is no literal is a string."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f'Invalid value for --set. Expected KEY=VALUE. Received: "{text}"')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def print_json(data) -> None:
    print(json.dumps(data, indent=2))
