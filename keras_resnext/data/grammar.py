"""The grammar of augmentation and mixing: `name` or `name(argument, ...)`, joined by `+`."""

import ast
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from keras_resnext.checks import Rule, check
from keras_resnext.errors import unknown

NONE = "none"
CALL = re.compile(r"(?P<name>\w+)(\((?P<values>[^()]*)\))?")


@dataclass(frozen=True)
class Argument:
    """An argument of a row.

    Args:
        name: str, name of the function's argument.
        default: The default value.
        summary: str, what it means.
        rule: `checks.Rule` for its values.
    """

    name: str
    default: object
    summary: str
    rule: Rule


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        summary: str, what it does, in one sentence.
        function: Function that does it; takes the arguments as keywords.
        arguments: tuple of `Argument`, in the order in which they are given.
    """

    summary: str
    function: Callable
    arguments: tuple[Argument, ...] = ()


@dataclass(frozen=True)
class Call:
    """A row with the values of its arguments, to be called with its other inputs."""

    row: Row
    values: tuple[tuple[str, object], ...] = ()

    def __call__(self, *inputs: object) -> object:
        """Call the row's function."""
        return self.row.function(*inputs, **dict(self.values))


def split_text(text: str, separator: str) -> list[str]:
    """Split a text at separators outside of parentheses."""
    return [part.strip() for part in re.split(rf"{re.escape(separator)}(?![^()]*\))", text)]


def parse_call(kind: str, text: str, table: Mapping[str, Row]) -> Call:
    """Parse `name(argument, name=value, ...)`; `kind` names the table in errors."""
    match = CALL.fullmatch(text)
    name = match["name"] if match else re.match(r"\w*", text)[0]
    if name not in table:
        raise ValueError(unknown(kind, name or text, [NONE, *table]))
    row = table[name]
    given = split_text(match["values"], ",") if match and match["values"] else []
    if match is None or len(given) > len(row.arguments):
        expected = f"Expected {signature(name, row)}. Received: {text}"
        raise ValueError(f"Invalid arguments of `{name}`. {expected}")
    values = {argument.name: argument.default for argument in row.arguments}
    values.update(_value(name, row, place, part) for place, part in enumerate(given))
    return Call(row, tuple(values.items()))


def _value(name: str, row: Row, place: int, text: str) -> tuple[str, object]:
    key, _, value = text.rpartition("=")
    by_name = {argument.name: argument for argument in row.arguments}
    argument = by_name.get(key.strip()) if key else row.arguments[place]
    if argument is None:
        raise ValueError(unknown(f"argument of {name}", key.strip(), list(by_name)))
    with suppress(ValueError, SyntaxError):  # a text then, which the rule may refuse
        value = ast.literal_eval(value.strip())
    check(f"{name}({argument.name})", value, argument.rule)
    whole = isinstance(value, int) and not isinstance(argument.default, int)
    return argument.name, float(value) if whole else value


def signature(name: str, row: Row) -> str:
    """Return a row as users type it, with the defaults of its arguments."""
    values = (
        argument.name if argument.default is None else f"{argument.name}={argument.default}"
        for argument in row.arguments
    )
    return f"{name}({', '.join(values)})" if row.arguments else name


def signatures(table: Mapping[str, Row]) -> str:
    """Return all rows of a table as users type them, for a command's help."""
    return ", ".join(signature(name, row) for name, row in table.items())


def listing(table: Mapping[str, Row]) -> str:
    """Return a table in Markdown, with a line per row."""
    lines = []
    for name, row in table.items():
        arguments = "".join(f" `{a.name}`: {a.summary}." for a in row.arguments)
        lines.append(f"| `{signature(name, row)}` | {row.summary}{arguments} |")
    return "\n".join(lines)
