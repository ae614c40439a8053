"""Rules for arguments, such as `integer(1)`, to check or to list. Nothing here imports Keras."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from keras_resnext.errors import unknown


@dataclass(frozen=True)
class Rule:
    """A condition on a value, and what to expect as it follows "Expected" in a message.

    `names` are the valid names of a choice, the nearest of which a message suggests.
    """

    expected: str
    holds: Callable[[object], bool]
    names: Collection[str] = ()


def check(name: str, value: object, rule: Rule) -> None:
    """Raise a `ValueError` unless a value follows a rule.

    Example:
    >>> check("epochs", 0, integer(least=1))
    Traceback (most recent call last):
    ValueError: Invalid value for `epochs`. Expected an integer of at least 1. Received: epochs=0
    """
    if rule.holds(value):
        return
    if rule.names and isinstance(value, str):
        raise ValueError(unknown(name, value, rule.names))
    raise ValueError(
        f"Invalid value for `{name}`. Expected {rule.expected}. Received: {name}={value!r}"
    )


def check_fields(instance: object, rules: Mapping[str, Rule]) -> None:
    """Check the attributes of an object that a table has rules for."""
    for name, rule in rules.items():
        check(name, getattr(instance, name), rule)


def integer(least: int | None = None, most: int | None = None) -> Rule:
    """Return the rule for an integer between two bounds, both inclusive."""
    return Rule(
        f"an integer{_bounds(least, most)}",
        lambda value: _is_integer(value) and _within(value, least, most),
    )


def integers(least: int | None = None, length: int | None = None) -> Rule:
    """Return the rule for a list or tuple of integers, by default of any length but 0."""
    count = "integers" if length is None else f"{length} integers"
    return Rule(
        f"{count}{_bounds(least, None)}",
        lambda value: (
            isinstance(value, (list, tuple))
            and (len(value) == length if length is not None else len(value) > 0)
            and all(_is_integer(one) and _within(one, least, None) for one in value)
        ),
    )


def number(
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
) -> Rule:
    """Return the rule for a finite number; `above` and `below` are exclusive bounds."""
    return Rule(
        f"a number{_bounds(least, most, above, below)}",
        lambda value: (
            _is_number(value)
            and _within(value, least, most)
            and (above is None or value > above)
            and (below is None or value < below)
        ),
    )


def choice(names: Collection[str]) -> Rule:
    """Return the rule for one of some names."""
    listed = ", ".join(f'"{name}"' for name in names)
    return Rule(
        f"one of {listed}",
        lambda value: isinstance(value, str) and value in names,
        names,
    )


def flag() -> Rule:
    """Return the rule for True or False."""
    return Rule("True or False", lambda value: isinstance(value, bool))


def optional(rule: Rule) -> Rule:
    """Return the rule that also allows None."""
    return Rule(
        f"{rule.expected}, or None",
        lambda value: value is None or rule.holds(value),
        rule.names,
    )


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _within(value: float, least: float | None, most: float | None) -> bool:
    return (least is None or value >= least) and (most is None or value <= most)


def _bounds(
    least: float | None,
    most: float | None,
    above: float | None = None,
    below: float | None = None,
) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    bounds = (("of at least", least), ("of at most", most), ("above", above), ("below", below))
    said = [f"{words} {bound}" for words, bound in bounds if bound is not None]
    return " " + " and ".join(said) if said else ""
