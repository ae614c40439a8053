"""The common parts of the commands: arguments, quiet imports, and printing."""

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
# The prefix of a network of keras.applications, and its default image size in pixels.
BASELINE, BASELINE_SIZE = "keras:", 224
# Networks for images smaller than this, in pixels, are not for photographs.
SMALL = 64

DATA_HELP = (
    "digits; tfds:NAME; a folder of class folders (with train/ and test/ in it or without); a .csv "
    "of path, label and split; an .npz; a folder of `data pack`; default: %(default)s"
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
    "how images are cached between epochs: auto, memory (decoded), encoded, a folder for a file, "
    "or none; default: auto"
)


@dataclass(frozen=True)
class Command:
    """A row of the table of sub-commands; `run` returns the exit code."""

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def cache_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for caching, and for broken images."""
    add = parser.add_argument
    add("--cache", metavar="WHAT", help=CACHE_HELP)
    add(
        "--memory-budget",
        type=float,
        metavar="GB",
        help="memory for cached images; default: 60 %% of what is free",
    )
    add(
        "--on-error",
        choices=("raise", "skip"),
        help="list broken images and stop, or skip them; default: raise",
    )


def set_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--set KEY=VALUE`."""
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
    """Return the arguments of a command that differ from their defaults, as they are typed."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    return {
        action.option_strings[-1]
        for action in parser._actions
        if getattr(options, action.dest) != action.default
    }


def check_folder_of(argument: str, path: str | None) -> None:
    """Raise a `ValueError`, before any work, for a file in a folder that does not exist."""
    if path is not None and not Path(path).absolute().parent.is_dir():
        raise ValueError(
            f"Invalid value for {argument}. Expected a file in a folder that exists. "
            f"Received: {path}"
        )


def cache_of(options: argparse.Namespace) -> str | bool:
    """Return the value of `cache` that `--cache` stands for."""
    return False if options.cache == "none" else options.cache or "auto"


def budget_of(options: argparse.Namespace) -> int | None:
    """Return the memory budget in bytes."""
    return None if options.memory_budget is None else int(options.memory_budget * 1e9)


@contextmanager
def importing() -> Iterator[None]:
    """Import TensorFlow, or modules that do, quietly and interruptible by Ctrl-C."""
    with ending_at_once(), quiet_tensorflow():
        yield


@contextmanager
def ending_at_once() -> Iterator[None]:
    """Let Ctrl-C end the process: an imported module may swallow a KeyboardInterrupt."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Hide what TensorFlow's C++ prints to stderr on import, unless a log level is set.

    TensorFlow prints before it reads its log level.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    stderr = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)
        os.close(nowhere)


def override(text: str) -> tuple[str, object]:
    """Parse `key=value` into a key and a Python literal, or a string if it is none."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f'Invalid value for --set. Expected KEY=VALUE. Received: "{text}"')
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return key, value


def print_json(data: object) -> None:
    """Print data as indented JSON."""
    print(json.dumps(data, indent=2))
