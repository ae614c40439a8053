"""The commands `list` and `info`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from keras_resnext.cli.shared import Command, print_json
from keras_resnext.errors import unknown

if TYPE_CHECKING:
    from keras_resnext.models.variants import Variant


def _list_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("pattern", nargs="?", default="*", help='such as "ResNeXt*"')
    parser.add_argument("--json", action="store_true", help="print JSON")


def _list(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    rows = [variants.get(name) for name in variants.list_models(options.pattern)]
    if not rows:
        raise ValueError(unknown("model", options.pattern, variants.list_models()))
    if options.json:
        print_json([asdict(row) for row in rows])
    else:
        _print_models(rows)
    return 0


def _print_models(rows: "Sequence[Variant]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("model", no_wrap=True)
    for heading in ("input", "parameters (M)", "GMACs", "top-1 error (%)"):
        table.add_column(heading, justify="right")
    table.add_column("paper")
    for variant in rows:
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
    parser.add_argument("name", help="name of a model; see list")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _info(options: argparse.Namespace) -> int:
    from keras_resnext.models import variants

    row = variants.get(options.name)
    if options.json:
        print_json(asdict(row))
    else:
        _print_model(row)
    return 0


def _print_model(variant: "Variant") -> None:
    from rich.console import Console
    from rich.table import Table

    fields = asdict(variant)
    table = Table(title=fields.pop("name"), title_justify="left", show_header=False)
    configuration = fields.pop("config")
    for name, value in fields.items():
        table.add_row(name, "-" if value is None else str(value))
    table.add_section()
    for name, value in configuration.items():
        table.add_row(name, str(value))
    Console().print(table)


COMMANDS = (
    Command("list", "List the networks.", _list_arguments, _list),
    Command("info", "Show the configuration of a network.", _info_arguments, _info),
)
