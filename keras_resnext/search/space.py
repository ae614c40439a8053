"""Search spaces: networks of equal cost, and their training. Imports no Keras."""

import ast
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

from keras_resnext.errors import unknown
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.search.budget import COSTS, Budget, residual
from keras_resnext.search.candidates import Candidates, Draw
from keras_resnext.search.parameters import COSTLY, NETWORK, TRAINING, Choice, Range, make_parameter
from keras_resnext.training.recipe import Recipe, check_no_l2
from keras_resnext.training.recipes import get_recipe

# What the search itself decides.
DECIDED = {
    "seed": "each execution has its own",
    "image_size": "it is that of the search",
    "test_size": "it is that of the search",
    "on_error": "it is that of the search",
}


@dataclass(frozen=True, kw_only=True)
class Space:
    """A search space, validated when it is created.

    Args:
        model: str, name of the model (see `list_models`) that all networks are variations of.
        vary: Mapping from names of fields of `ResNetConfig` or `Recipe` to lists of values or to
            `{"low": .., "high": .., "scale": "log"}` (or "linear").
        budget: Mapping `{"macs": .., "tolerance": 0.05}` or `{"parameters": ..}` with a number
            or the name of a model. The width per group then follows from everything else.
            Defaults to no budget.
        fixed: Mapping from names of fields to values other than the model's and the recipe's.
        recipe: str, name of the recipe (see `list_recipes`) that all trainings are variations of.
        weights: str, pretrained weights that every trial starts from, as in `create_model`. The
            shape of the network is then fixed.

    Raises:
        ValueError: If the values do not describe a space; the nearest valid name is given.

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

    def __post_init__(self) -> None:
        set_ = functools.partial(object.__setattr__, self)
        set_("model", residual(self.model).name)
        for name in ("vary", "fixed"):
            value = getattr(self, name)
            if not isinstance(value, Mapping):
                raise ValueError(f"`{name}` needs a dictionary. Received: {name}={value!r}")
            set_(name, _as_tuples(value))
        names = {*self.vary, *self.fixed}
        if "weight_decay" in names and "decoupled" not in names:
            set_("fixed", {**self.fixed, "decoupled": None})  # see `settings.with_one_decay`
        if not self.vary:
            raise ValueError("`vary` is empty. Expected at least one hyperparameter to search.")
        if self.budget is not None:
            if not isinstance(self.budget, Mapping):
                raise ValueError(
                    'A budget needs {"macs": ..} or {"parameters": ..}, a number or the name of a '
                    f"model. Received: budget={self.budget!r}"
                )
            set_("budget", _as_tuples(self.budget))
            self.make_budget()
        for name in (*self.vary, *self.fixed):
            self._check_name(name)
        _ = self.base, self.training  # whose fixed fields are checked together
        self._check_combinations()

    @property
    def base(self) -> ResNetConfig:
        """Return the configuration of the model, with the fixed fields."""
        own = {name: value for name, value in self.fixed.items() if name in NETWORK}
        return variants.get(self.model).config.replace(**{**self.training.network, **own})

    @property
    def training(self) -> Recipe:
        """Return the recipe, with the fixed fields."""
        own = {name: value for name, value in self.fixed.items() if name in TRAINING}
        return get_recipe(self.recipe).replace(**own)

    def recipe_of(self, draw: Draw) -> Recipe:
        """Return the recipe that trains a draw, including the network and its fields."""
        network = {**self.training.network, **draw.network}
        return self.training.replace(**draw.training, model=self.model, network=network)

    def make_budget(self) -> Budget | None:
        """Return the budget as an object."""
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
        """Return the hyperparameters, before values outside of the budget are removed."""
        return tuple(self._parameter(name) for name in self.vary)

    def on(self, image_size: int, classes: int) -> Candidates:
        """Return the candidates for images of a size in pixels and a number of classes."""
        return Candidates(self, image_size, classes)

    def to_dict(self) -> dict:
        """Return the space as JSON values."""
        return {row.name: getattr(self, row.name) for row in fields(self)}

    def _check_name(self, name: str) -> None:
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
        if self.weights is not None and name in COSTLY:
            raise ValueError(
                f'"{name}" changes the shape of the network, which is that of the weights '
                f'"{self.weights}".'
            )

    def _check_combinations(self) -> None:
        """Raise an error for a value that is valid with no values of the others."""
        for base, own in ((self.base, NETWORK), (self.training, TRAINING)):
            tried = {p.name: tuple(p.extremes()) for p in self.parameters() if p.name in own}
            for name, values in tried.items():
                for value in values:
                    _check_some_combination(base, {**tried, name: (value,)})

    def _parameter(self, name: str) -> Choice | Range:
        default = getattr(self.training if name in TRAINING else self.base, name)
        return make_parameter(name, self.vary[name], default)


def load_space(path: str | Path) -> Space:
    """Read a space from a Python file of assignments.

    The file is parsed but never run: it may contain only comments and `name = literal` for
    arguments of `Space`.

    Args:
        path: str, path of the file.

    Returns:
        The `Space`.

    Raises:
        ValueError: If the file cannot be read, contains anything else, or does not describe a
            space.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f'The space "{path}" cannot be read: {error}') from error
    try:
        arguments = dict(_assignments(text))
        for name in ("vary", "fixed"):
            check_no_l2(arguments.get(name, {}))
        return space_from(arguments)
    except (ValueError, SyntaxError, RecursionError) as error:
        raise ValueError(f'The space "{path}": {error}') from error


def space_from(arguments: Mapping[str, object]) -> Space:
    """Return the space of some arguments, or raise a `ValueError`."""
    valid = [row.name for row in fields(Space)]
    for name in arguments:
        if name not in valid:
            raise ValueError(unknown("name", name, valid))
    for name in ("model", "vary"):
        if name not in arguments:
            raise ValueError(f"`{name}` is missing.")
    return Space(**arguments)


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


def _check_some_combination(base: ResNetConfig | Recipe, tried: Mapping[str, Sequence]) -> None:
    """Raise the first error if every combination of values is invalid."""
    first_error = None
    for values in itertools.product(*tried.values()):
        try:
            base.replace(**dict(zip(tried, values, strict=True)))
        except ValueError as error:
            first_error = first_error or error
        else:
            return
    raise first_error


def _as_tuples(value: object) -> object:
    if isinstance(value, list | tuple):
        return tuple(_as_tuples(member) for member in value)
    if isinstance(value, Mapping):
        return {key: _as_tuples(member) for key, member in value.items()}
    return value
