"""What a search may try: networks of equal cost, and how they are trained. Imports no Keras."""

import ast
import contextlib
import functools
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from keras_resnext.errors import one_of, unknown
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import Complexity, count
from keras_resnext.training.recipes import DESCRIPTION, Recipe, get_recipe

# What is a field of both (the L2 penalty) is the recipe's.
TRAINING = frozenset(row.name for row in fields(Recipe)) - set(DESCRIPTION)
NETWORK = frozenset(row.name for row in fields(ResNetConfig)) - TRAINING
# Fields of a network that change neither its shapes nor its multiply-adds.
COSTLESS = frozenset(
    ("dropout", "drop_block", "drop_block_size", "drop_path", "drop_steps", "zero_gamma")
) | {"norm_epsilon", "norm_momentum"}
# What the search itself decides.
DECIDED = {
    "seed": "each execution has its own",
    "image_size": "it is that of the search",
    "test_size": "it is that of the search",
    "on_error": "it is that of the search",
}
SCALES = ("linear", "log")
COSTS = ("macs", "parameters")
SIGNIFICANT_DIGITS = 4


@dataclass(frozen=True)
class Budget:
    """What every network of a search costs.

    Args:
        cost: "macs" (multiply-adds for one image) or "parameters".
        amount: That many; or the name of a model: as many as it has on the same images.
        tolerance: Share of the amount that a network may be above or below it.

    Raises:
        ValueError: For a value that cannot be.
    """

    cost: str
    amount: int | float | str
    tolerance: float = 0.05

    def __post_init__(self):
        one_of("cost", self.cost, COSTS)
        if isinstance(self.amount, str):
            _residual(self.amount)
        elif not _is_number(self.amount) or not 0 < self.amount < math.inf:
            raise ValueError(
                "A budget needs a number above 0, or the name of a model. Received: "
                f"{self.cost}={self.amount!r}"
            )
        if not _is_number(self.tolerance) or not 0 < self.tolerance < 1:
            raise ValueError(
                "`tolerance` needs 0 < tolerance < 1, a share of the budget. Received: "
                f"tolerance={self.tolerance!r}"
            )

    def of(self, complexity: Complexity) -> int:
        """What counts of a network's complexity."""
        return getattr(complexity, self.cost)


@dataclass(frozen=True)
class Choice:
    """A hyperparameter with a list of values.

    Args:
        name: Of the field.
        values: By what a tuner knows them by: numbers and text are themselves, others their repr.
        default: One of the keys.
    """

    name: str
    values: Mapping[object, object]
    default: object

    def value(self, chosen: object) -> object:
        """The value of the field that a tuner's choice stands for."""
        return self.values[chosen]


@dataclass(frozen=True)
class Range:
    """A hyperparameter that may have any value between two.

    Args:
        name: Of the field.
        low: The least.
        high: The greatest.
        scale: "linear" or "log": where a draw is uniform.
        default: Between them.
    """

    name: str
    low: float
    high: float
    scale: str
    default: float

    def value(self, chosen: float) -> float:
        """The number that a tuner's choice stands for, with as many digits as matter."""
        return float(f"{chosen:.{SIGNIFICANT_DIGITS}g}")


@dataclass(frozen=True)
class Draw:
    """A point of a space.

    Args:
        network: Fields to change in the configuration of the model, the width included.
        training: Fields of the recipe.
        complexity: Of the network.
    """

    network: Mapping[str, object]
    training: Mapping[str, object]
    complexity: Complexity


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space: data, checked when it is made.

    Args:
        model: The network that all are changes of: a row of ``models.variants``.
        vary: What is searched: fields of ``ResNetConfig`` and of ``Recipe``, each with a list of
            values or ``{"low": .., "high": .., "scale": "log"}`` (or "linear").
        budget: ``{"macs": .., "tolerance": 0.05}`` or ``{"parameters": ..}``, a number or the name
            of a model. The width per group then follows from everything else. None: no budget.
        fixed: Fields that have one value, other than the model's and the recipe's own.
        recipe: That all trainings are changes of: a row of ``training.recipes``.
        weights: Pretrained weights that every trial goes on from, as in ``create_model``; the
            network's shape is theirs then.

    Raises:
        ValueError: For anything that is no space; the nearest valid name is given.

    Example:

    >>> space = Space(
    ...     model="ResNeXt50",
    ...     budget={"macs": "ResNeXt50", "tolerance": 0.05},
    ...     vary={"cardinality": [1, 2, 4, 8, 32]},
    ... )
    >>> candidates = space.on(image_size=224, classes=1000)
    >>> [candidates.draw({"cardinality": c}).network["width_per_group"] for c in (1, 2, 4, 8, 32)]
    [64, 40, 24, 14, 4]
    """

    model: str
    vary: Mapping[str, object]
    budget: Mapping[str, object] | None = None
    fixed: Mapping[str, object] = field(default_factory=dict)
    recipe: str = "default"
    weights: str | None = None

    def __post_init__(self):
        set_ = functools.partial(object.__setattr__, self)
        set_("model", _residual(self.model).name)
        for name in ("vary", "fixed"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise ValueError(f"`{name}` needs a dictionary. Received: {name}={value!r}")
            set_(name, {key: _as_tuples(member) for key, member in value.items()})
        if not self.vary:
            raise ValueError("`vary` is empty. Expected at least one hyperparameter to search.")
        if self.budget is not None:
            if not isinstance(self.budget, Mapping):
                raise ValueError(
                    'A budget needs {"macs": ..} or {"parameters": ..}, a number or the name of a '
                    f"model. Received: budget={self.budget!r}"
                )
            set_("budget", {key: _as_tuples(member) for key, member in self.budget.items()})
            self.spending()
        for name in (*self.vary, *self.fixed):
            self._check_name(name)
        _ = self.base, self.training  # whose fixed fields are checked together
        self._check_combinations()

    @property
    def base(self) -> ResNetConfig:
        """The configuration that draws are changes of."""
        own = {name: value for name, value in self.fixed.items() if name in NETWORK}
        return variants.get(self.model).config.replace(**{**self.training.network, **own})

    @property
    def training(self) -> Recipe:
        """The recipe that draws are changes of."""
        own = {name: value for name, value in self.fixed.items() if name in TRAINING}
        return get_recipe(self.recipe).replace(**own)

    def recipe_of(self, draw: "Draw") -> Recipe:
        """Give a draw as the recipe that trains it: it names the network and its fields."""
        network = {**self.training.network, **draw.network}
        return self.training.replace(**draw.training, model=self.model, network=network)

    def spending(self) -> Budget | None:
        """The budget."""
        if self.budget is None:
            return None
        costs = [name for name in self.budget if name in COSTS]
        for name in self.budget:
            if name not in (*COSTS, "tolerance"):
                raise ValueError(unknown("budget", name, (*COSTS, "tolerance")))
        if len(costs) != 1:
            raise ValueError(f"A budget needs one of {', '.join(COSTS)}. Received: {self.budget}")
        rest = {name: value for name, value in self.budget.items() if name == "tolerance"}
        return Budget(costs[0], self.budget[costs[0]], **rest)

    def parameters(self) -> tuple[Choice | Range, ...]:
        """What is searched, as written, the impossible included."""
        return tuple(self._parameter(name, values) for name, values in self.vary.items())

    def on(self, image_size: int, classes: int) -> "Candidates":
        """Bind the space to images: what a network costs depends on them.

        Args:
            image_size: Height and width, pixels.
            classes: Number of classes.

        Returns:
            Candidates.

        Raises:
            ValueError: If no network of the space is within the budget.
        """
        return Candidates(self, image_size, classes)

    def written(self) -> dict:
        """The space as a file has it, of what JSON can hold."""
        return {row.name: getattr(self, row.name) for row in fields(self)}

    def _check_name(self, name):
        if name in DECIDED:
            raise ValueError(f'"{name}" cannot be part of a space: {DECIDED[name]}.')
        if name == "epochs" and name in self.vary:
            raise ValueError(
                '"epochs" cannot be varied: they are those of the search. Put them into `fixed`, '
                "or give them to the search (`epochs`)."
            )
        if name not in NETWORK | TRAINING:
            raise ValueError(unknown("hyperparameter", name, sorted(NETWORK | TRAINING)))
        if name in self.vary and name in self.fixed:
            raise ValueError(f'"{name}" is in `vary` and in `fixed`. Expected it in one of them.')
        if name == "width_per_group" and self.budget is not None:
            raise ValueError(
                'Under a budget "width_per_group" follows from the cardinality: take it out of '
                "the space, or take the budget out."
            )
        if self.weights is not None and name in NETWORK - COSTLESS:
            raise ValueError(
                f'"{name}" changes the shape of the network, which is that of the weights '
                f'"{self.weights}".'
            )

    def _check_combinations(self):
        """Refuse a value that is impossible whatever the values of the others are."""
        for base, own in ((self.base, NETWORK), (self.training, TRAINING)):
            tried = {p.name: tuple(_extremes(p)) for p in self.parameters() if p.name in own}
            for name, values in tried.items():
                for value in values:
                    _check_some_combination(base, {**tried, name: (value,)})

    def _parameter(self, name, values):
        default = getattr(self.training if name in TRAINING else self.base, name)
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
        known = dict(zip(keys, values, strict=True))
        first = next((key for key, value in known.items() if value == default), keys[0])
        return Choice(name, known, first)


class Candidates:
    """The networks of a space that can be trained on given images, within its budget.

    Args:
        space: The space.
        image_size: Height and width, pixels.
        classes: Number of classes.

    Raises:
        ValueError: If there is none.
    """

    def __init__(self, space: Space, image_size: int, classes: int):
        self.space, self.image_size, self.classes = space, image_size, classes
        self.base, self.training, self.budget = space.base, space.training, space.spending()
        self.target = self._target()
        self._written = space.parameters()
        self._found, self._scans = {}, {}
        self.parameters = self._possible()

    def draw(self, values: Mapping[str, object]) -> Draw:
        """Turn a tuner's values into a network of the right width and its training.

        Args:
            values: Of each of ``parameters`` by its name; others are passed over.

        Returns:
            Draw.

        Raises:
            ValueError: If these values together describe no network within the budget.
        """
        chosen, config, found = self._resolve(values)
        if found is None:
            raise ValueError(f"No width is within {self.describe()}: {dict(values)}")
        width, complexity = found
        network = {
            name: getattr(config, name)
            for name in sorted({*self.space.vary, *self.space.fixed} & NETWORK)
        }
        if self.budget is not None:
            network["width_per_group"] = width
        training = {
            name: value
            for name, value in {**self.space.fixed, **chosen}.items()
            if name in TRAINING
        }
        return Draw(network, training, complexity)

    def recipe_of(self, draw: Draw) -> Recipe:
        """Give a draw as the recipe that trains it on these images."""
        recipe = self.space.recipe_of(draw)
        # The recipe's test images are for its own training images.
        test_size = recipe.test_size if recipe.image_size == self.image_size else None
        return recipe.replace(image_size=self.image_size, test_size=test_size)

    def valid(self, values: Mapping[str, object]) -> bool:
        """Say whether values together describe a network within the budget, and a recipe."""
        return self._is_network(values) and self._is_recipe(values)

    def describe(self) -> str:
        """Say what the budget is."""
        if self.budget is None:
            return "no budget"
        return (
            f"{self.budget.tolerance:.0%} of {self.target / 1e6:,.2f} M {self.budget.cost} "
            f"({self.image_size} px, {self.classes} classes)"
        )

    def _is_network(self, values):
        try:
            return self._resolve(values)[2] is not None
        except ValueError:
            return False

    def _is_recipe(self, values):
        chosen = {p.name: p.value(values[p.name]) for p in self._written if p.name in TRAINING}
        try:
            self.training.replace(**chosen)
        except ValueError:
            return False
        return True

    def _resolve(self, values):
        """The fields, the configuration before its width is chosen, and the width and its cost."""
        chosen = {p.name: p.value(values[p.name]) for p in self._written}
        network = {name: value for name, value in chosen.items() if name in NETWORK}
        config = self.base.replace(**network)
        key = tuple(getattr(config, p.name) for p in self._costly())
        if key not in self._found:
            self._found[key] = self._find(config)
        return chosen, config, self._found[key]

    def _costly(self):
        """The parameters that what a network costs depends on."""
        return [p for p in self._written if p.name in NETWORK - COSTLESS]

    def _find(self, config):
        width = config.width_per_group if self.budget is None else self._width(config)
        if width is None:
            return None
        config = config.replace(width_per_group=width)
        return width, count(config, self.image_size, self.classes)

    def _target(self):
        if self.budget is None or not isinstance(self.budget.amount, str):
            return self.budget and self.budget.amount
        config = _residual(self.budget.amount).config
        return self.budget.of(count(config, self.image_size, self.classes))

    def _possible(self):
        """The parameters, without the values that no combination within the budget has."""
        costly = [p for p in self._costly() if isinstance(p, Choice)]
        defaults = {p.name: p.default for p in self._written}
        names = [p.name for p in costly]
        found = [
            dict(zip(names, keys, strict=True))
            for keys in itertools.product(*(p.values for p in costly))
            if self._is_network({**defaults, **dict(zip(names, keys, strict=True))})
        ]
        if not found:
            raise ValueError(
                f"No network of the space is within {self.describe()}. {self._nearest(costly)}"
            )
        kept = {name: {values[name] for values in found} for name in names}
        return tuple(_keeping(p, kept[p.name]) if p.name in kept else p for p in self._written)

    def _nearest(self, costly):
        """Say what the space has instead."""
        costs = []
        for keys in itertools.product(*(p.values.items() for p in costly)):
            values = {p.name: value for p, (_, value) in zip(costly, keys, strict=True)}
            try:
                scan = self._scan(self.base.replace(**values))
            except ValueError:
                continue
            costs += [(abs(cost - self.target), width, cost, values) for width, cost in scan]
        if not costs:
            return "No combination of its values is a network."
        _, width, cost, values = min(costs, key=lambda row: row[:3])
        values = {**values, "width_per_group": width}
        return f"The nearest is {cost / 1e6:,.2f} M: {values}. Change the budget or its tolerance."

    def _width(self, config):
        """The width per group within the budget, or None.

        Of several the one that preserves the complexity of the regular blocks best (the ResNeXt
        paper, section 3.3), which the base model's cardinality has at the whole budget. (The cost
        of the whole network also depends on how wide the strided blocks are: by that alone
        ResNeXt50 would be 1x66d, not 1x64d.)
        """
        room = self.budget.tolerance * self.target
        fitting = [d for d, cost in self._scan(config) if abs(cost - self.target) <= room]
        if not fitting:
            return None
        preserved = self._preserved(config)
        return min(fitting, key=lambda d: abs(self._blocks_cost(config, d) - preserved))

    def _preserved(self, config):
        """What the regular blocks would cost if the whole network cost just the budget."""
        with contextlib.suppress(ValueError):  # a block without such groups is its own measure
            config = config.replace(cardinality=self.base.cardinality)
        scan = self._scan(config)
        below = [row for row in scan if row[1] <= self.target] or scan[:1]
        (d, cost), above = below[-1], scan[len(below) : len(below) + 1]
        blocks = self._blocks_cost(config, d)
        if not above:
            return blocks
        (next_d, next_cost) = above[0]
        share = max(0.0, (self.target - cost) / (next_cost - cost))
        return blocks + share * (self._blocks_cost(config, next_d) - blocks)

    def _blocks_cost(self, config, width):
        """The budget's cost of the blocks, each as a regular one of its stage."""
        shrinks = 4 if self.budget.cost == "macs" else 1
        ends = 2 * config.channels(1)
        total = 0
        for stage, (blocks, planes) in enumerate(zip(config.blocks, config.filters, strict=True)):
            d = planes * width // 64
            total += blocks * config.cardinality * d * (ends * planes + 9 * d) / shrinks**stage
        return total

    def _scan(self, config):
        """Each width and its cost, from the narrowest to the first above the budget."""
        key = config.replace(width_per_group=self.base.width_per_group)
        if key not in self._scans:
            self._scans[key] = list(self._costs_by_width(config))
        return self._scans[key]

    def _costs_by_width(self, config) -> Iterator[tuple[int, int]]:
        if config.block == "basic":
            yield 64, self.budget.of(count(config, self.image_size, self.classes))
            return
        limit = (1 + self.budget.tolerance) * self.target
        for width in itertools.count(-(-64 // min(config.filters))):
            try:
                candidate = config.replace(width_per_group=width)
            except ValueError:
                continue  # some attentions want a width that divides
            cost = self.budget.of(count(candidate, self.image_size, self.classes))
            yield width, cost
            if cost > limit:
                return


def load_space(path: str | Path) -> Space:
    """Read a space from a Python file of assignments.

    The file is parsed, never run: all it may hold is ``name = literal``, the names being the
    arguments of ``Space``, and comments.

    Args:
        path: Of the file.

    Returns:
        Space.

    Raises:
        ValueError: If it cannot be read, holds anything else, or describes no space.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'The space "{path}" cannot be read: {error}') from error
    try:
        found = dict(_assignments(text))
        return space_from(found)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise ValueError(f'The space "{path}": {error}') from error


def space_from(written: Mapping[str, object]) -> Space:
    """Make a space of what a file has.

    Args:
        written: What ``Space.written`` gives.

    Returns:
        Space.

    Raises:
        ValueError: For an unknown or missing name, or no space.
    """
    known = [row.name for row in fields(Space)]
    for name in written:
        if name not in known:
            raise ValueError(unknown("name", name, known))
    for name in ("model", "vary"):
        if name not in written:
            raise ValueError(f"`{name}` is missing.")
    return Space(**written)


def _assignments(text: str) -> Iterator[tuple[str, object]]:
    for number, node in enumerate(ast.parse(text).body):
        if number == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue  # its docstring
        targets = node.targets if isinstance(node, ast.Assign) else []
        if len(targets) != 1 or not isinstance(targets[0], ast.Name):
            raise ValueError(f"line {node.lineno}: expected `name = literal`, and nothing else.")
        try:
            yield targets[0].id, ast.literal_eval(node.value)
        except ValueError as error:
            raise ValueError(
                f"line {node.lineno}: `{targets[0].id}` needs a literal: numbers, text, lists and "
                "dictionaries of them."
            ) from error


def _residual(name) -> variants.Variant:
    variant = variants.get(name)
    if not isinstance(variant.config, ResNetConfig):
        raise ValueError(
            f'"{variant.name}" has no cardinality and width to search. Expected a residual '
            "network: see `keras-resnext list`."
        )
    return variant


def _range(name, given, default):
    known = ("low", "high", "scale")
    for key in given:
        if key not in known:
            raise ValueError(unknown(f'part of the range of "{name}"', key, known))
    low, high = given.get("low"), given.get("high")
    scale = given.get("scale", "linear")
    one_of("scale", scale, SCALES)
    if not (_is_number(low) and _is_number(high) and low < high and math.isfinite(high - low)):
        raise ValueError(f'"{name}" needs numbers low < high. Received: {dict(given)}')
    if scale == "log" and low <= 0:
        raise ValueError(f'"{name}" needs low > 0 on a logarithmic scale. Received: {dict(given)}')
    if type(default) is int:
        raise ValueError(f'"{name}" is an integer: give a list of values. Received: {dict(given)}')
    if not _is_number(default) or not low <= default <= high:
        default = math.sqrt(low * high) if scale == "log" else (low + high) / 2
    return Range(name, float(low), float(high), scale, float(default))


def _keys(values: Sequence) -> list:
    """What a tuner knows values by: it takes whole numbers, numbers or text, all of one kind."""
    if all(type(value) is int for value in values) or all(isinstance(v, str) for v in values):
        return list(values)
    if all(_is_number(value) for value in values):
        return [float(value) for value in values]
    return [repr(value) for value in values]


def _keeping(choice: Choice, keys) -> Choice:
    values = {key: value for key, value in choice.values.items() if key in keys}
    default = choice.default if choice.default in values else next(iter(values))
    return Choice(choice.name, values, default)


def _check_some_combination(base: ResNetConfig | Recipe, tried: Mapping[str, Sequence]) -> None:
    """Raise the error of the configuration, or recipe, if it refuses every combination."""
    refused = None
    for values in itertools.product(*tried.values()):
        try:
            base.replace(**dict(zip(tried, values, strict=True)))
        except ValueError as error:
            refused = refused or error
        else:
            return
    raise refused


def _extremes(parameter) -> Iterator:
    if isinstance(parameter, Range):
        yield from (parameter.low, parameter.high)
    else:
        yield from parameter.values.values()


def _is_number(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_tuples(value):
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(member) for member in value)
    if isinstance(value, Mapping):
        return {key: _as_tuples(member) for key, member in value.items()}
    return value
