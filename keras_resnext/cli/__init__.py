"""The `keras-resnext` command: parsing and printing only.

Functions that run a sub-command import Keras, TensorFlow, NumPy and Matplotlib themselves, after
all checks that need none of them: `--help` and a mistyped name respond at once.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata

from keras_resnext.cli import data, inference, models, search, training
from keras_resnext.cli.shared import INTERRUPTED, PROGRAM
from keras_resnext.errors import unknown
from keras_resnext.version import __version__


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command, by default with the arguments of this process, and return its exit code.

    1 if training diverged, an image was unreadable or a file could not be written, 2 for wrong
    arguments, 130 after Ctrl-C.
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
    """Return the parser of the command and all its sub-commands."""
    parser = Parser(prog=PROGRAM, description="ResNet and ResNeXt for Keras 3.")
    parser.add_argument("--version", action=Version, nargs=0, help="print versions and exit")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        own = commands.add_parser(command.name, help=command.summary, description=command.summary)
        command.add_arguments(own)
        own.set_defaults(run=command.run, parser=own)
    return parser


class Parser(argparse.ArgumentParser):
    """An `ArgumentParser` that names the nearest valid argument."""

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            name = action.dest if action.option_strings else "command"
            raise argparse.ArgumentError(None, unknown(name, value, action.choices))

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse all arguments, or exit with the nearest name for an unknown one."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            parser = options.parser
            valid = sorted(parser._option_string_actions)
            parser.error(unknown("argument", rest[0].split("=")[0], valid))
        return options


class Version(argparse.Action):
    """Print the versions that a bug report needs."""

    def __call__(self, parser: argparse.ArgumentParser, *_) -> None:
        """Print them, and exit."""
        versions = [f"{PROGRAM} {__version__}"]
        for name in ("keras", "tensorflow", "jax", "torch"):
            with suppress(metadata.PackageNotFoundError):
                versions.append(f"{name} {metadata.version(name)}")
        print(", ".join(versions))
        parser.exit()


COMMANDS = (
    *training.COMMANDS,
    *search.COMMANDS,
    *inference.COMMANDS,
    *data.COMMANDS,
    *models.COMMANDS,
)
