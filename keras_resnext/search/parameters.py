"""The hyperparameters of a space, each with a list of values or a range."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields

from keras_resnext.checks import check, choice, number
from keras_resnext.errors import unknown
from keras_resnext.models.config import ResNetConfig
from keras_resnext.training.recipe import DESCRIPTION, Recipe

TRAINING = frozenset(row.name for row in fields(Recipe)) - set(DESCRIPTION)
NETWORK = frozenset(row.name for row in fields(ResNetConfig)) - TRAINING
# Fields of a network that change its shapes or its multiply-adds.
COSTLY = NETWORK - {
    "dropout",
    "drop_block",
    "drop_block_size",
    "drop_path",
    "drop_steps",
    "zero_gamma",
    "l2",
    "norm_epsilon",
    "norm_momentum",
}
SCALES = ("linear", "log")
SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Choice:
    """A hyperparameter with a list of values, each under a key that JSON can hold."""

    name: str
    values: Mapping[object, object]
    default: object

    def value(self, key: object) -> object:
        """Return the value of a tuner's key."""
        return self.values[key]

    def extremes(self) -> Iterator[object]:
        """Yield the values to check."""
        yield from self.values.values()

    def only(self, keys: Collection[object]) -> "Choice":
        """Return the same hyperparameter with only some of its values."""
        values = {key: value for key, value in self.values.items() if key in keys}
        default = self.default if self.default in values else next(iter(values))
        return Choice(self.name, values, default)


@dataclass(frozen=True)
class Range:
    """A hyperparameter between two values, drawn uniformly on a "linear" or "log" scale."""

    name: str
    low: float
    high: float
    scale: str
    default: float

    def value(self, key: float) -> float:
        """Return a tuner's number, rounded to significant digits."""
        return float(f"{key:.{SIGNIFICANT_DIGITS}g}")

    def extremes(self) -> Iterator[float]:
        """Yield the values to check."""
        yield from (self.low, self.high)


def make_parameter(name: str, values: object, default: object) -> Choice | Range:
    """Return the hyperparameter described by a tuple of values or by a range."""
    if isinstance(values, Mapping):
        return _range(name, values, default)
    if not isinstance(values, tuple) or not values:
        raise ValueError(
            f'"{name}" needs a list of values, or {{"low": .., "high": .., "scale": "log"}}. '
            f"Received: {values!r}"
        )
    keys = _keys(values)
    if len(set(keys)) != len(keys):
        raise ValueError(f'"{name}" has a value twice. Received: {list(values)}')
    by_key = dict(zip(keys, values, strict=True))
    first = next((key for key, value in by_key.items() if value == default), keys[0])
    return Choice(name, by_key, first)


def _range(name: str, bounds: Mapping, default: object) -> Range:
    for key in bounds:
        if key not in ("low", "high", "scale"):
            raise ValueError(
                unknown(f'part of the range of "{name}"', key, ("low", "high", "scale"))
            )
    low, high = bounds.get("low"), bounds.get("high")
    scale = bounds.get("scale", "linear")
    check("scale", scale, choice(SCALES))
    if not (_is_number(low) and _is_number(high) and low < high and math.isfinite(high - low)):
        raise ValueError(f'"{name}" needs numbers low < high. Received: {dict(bounds)}')
    if scale == "log" and low <= 0:
        raise ValueError(f'"{name}" needs low > 0 on a logarithmic scale. Received: {dict(bounds)}')
    if type(default) is int:
        raise ValueError(f'"{name}" is an integer: give a list of values. Received: {dict(bounds)}')
    if not _is_number(default) or not low <= default <= high:
        default = math.sqrt(low * high) if scale == "log" else (low + high) / 2
    return Range(name, float(low), float(high), scale, float(default))


def _keys(values: Sequence) -> list:
    if all(type(value) is int for value in values) or all(isinstance(v, str) for v in values):
        return list(values)
    if all(_is_number(value) for value in values):
        return [float(value) for value in values]
    return [repr(value) for value in values]


_is_number = number().holds
