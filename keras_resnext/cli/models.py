"""list and info."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict

from keras_resnext.cli.shared import Command, print_json
from keras_resnext.errors import unknown


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
        table.add_row(name, "-" if value is None else str(value))
    table.add_section()
    for name, value in configuration.items():
        table.add_row(name, str(value))
    Console().print(table)


def _fields(variant) -> dict:
    return asdict(variant)


_SHOW_LIST = {
    False: _print_models,
    True: lambda found: print_json([_fields(variant) for variant in found]),
}


_SHOW_INFO = {False: _print_model, True: lambda variant: print_json(_fields(variant))}

COMMANDS = (
    Command("list", "List the networks.", _list_arguments, _list),
    Command("info", "Show the configuration of a network.", _info_arguments, _info),
)
