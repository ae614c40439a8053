"""The networks of a space for given images."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import Complexity
from keras_resnext.search.budget import Widths
from keras_resnext.search.parameters import COSTLY, NETWORK, TRAINING, Choice
from keras_resnext.training.recipe import Recipe

if TYPE_CHECKING:
    from keras_resnext.search.space import Space


@dataclass(frozen=True)
class Draw:
    """A point of a space: fields to change in the configuration and in the recipe."""

    network: Mapping[str, object]
    training: Mapping[str, object]
    complexity: Complexity


class Candidates:
    """The networks of a space that are within its budget on given images.

    `parameters` omits values for which no network is within the budget. If there is no network at
    all, the constructor raises a `ValueError` that describes the nearest.
    """

    def __init__(self, space: "Space", image_size: int, classes: int) -> None:
        self.space, self.image_size, self.classes = space, image_size, classes
        self.base, self.training, self.budget = space.base, space.training, space.make_budget()
        self.widths = Widths(self.base, self.budget, image_size, classes)
        self._all_parameters = space.parameters()
        self._costly = [p for p in self._all_parameters if p.name in COSTLY]
        self._chosen_widths: dict[tuple, tuple[int, Complexity] | None] = {}
        self.parameters = self._possible()

    def draw(self, values: Mapping[str, object]) -> Draw:
        """Return the network and the training that a tuner's values describe."""
        fields, config, chosen = self._resolve(values)
        if chosen is None:
            raise ValueError(f"No width is within {self.widths.describe()}: {dict(values)}")
        width, complexity = chosen
        space = self.space
        network = {
            name: getattr(config, name) for name in sorted({*space.vary, *space.fixed} & NETWORK)
        }
        if self.budget is not None:
            network["width_per_group"] = width
        training = {
            name: value for name, value in {**space.fixed, **fields}.items() if name in TRAINING
        }
        return Draw(network, training, complexity)

    def recipe_of(self, draw: Draw) -> Recipe:
        """Return the recipe that trains a draw on these images."""
        recipe = self.space.recipe_of(draw)
        # The recipe's test size belongs to its own image size.
        test_size = recipe.test_size if recipe.image_size == self.image_size else None
        return recipe.replace(image_size=self.image_size, test_size=test_size)

    def valid(self, values: Mapping[str, object]) -> bool:
        """Return whether values describe a network within the budget, and a recipe."""
        return self._is_network(values) and self._is_recipe(values)

    def _is_network(self, values: Mapping[str, object]) -> bool:
        try:
            return self._resolve(values)[2] is not None
        except ValueError:
            return False

    def _is_recipe(self, values: Mapping[str, object]) -> bool:
        fields = self._fields(values)
        training = {name: value for name, value in fields.items() if name in TRAINING}
        try:
            self.training.replace(**training)
        except ValueError:
            return False
        return True

    def _fields(self, values: Mapping[str, object]) -> dict[str, object]:
        return {p.name: p.value(values[p.name]) for p in self._all_parameters}

    def _resolve(
        self, values: Mapping[str, object]
    ) -> tuple[dict[str, object], ResNetConfig, tuple[int, Complexity] | None]:
        """Return the fields, the configuration without its width, and the width and complexity."""
        fields = self._fields(values)
        network = {name: value for name, value in fields.items() if name in NETWORK}
        config = self.base.replace(**network)
        key = tuple(getattr(config, p.name) for p in self._costly)
        if key not in self._chosen_widths:
            self._chosen_widths[key] = self.widths.choose(config)
        return fields, config, self._chosen_widths[key]

    def _possible(self) -> tuple:
        costly = [p for p in self._costly if isinstance(p, Choice)]
        defaults = {p.name: p.default for p in self._all_parameters}
        possible = [
            keys
            for keys in _combinations(costly, [p.values for p in costly])
            if self._is_network({**defaults, **keys})
        ]
        if not possible:
            raise ValueError(
                f"No network of the space is within {self.widths.describe()}. "
                f"{self._nearest(costly)}"
            )
        keys = {p.name: {values[p.name] for values in possible} for p in costly}
        return tuple(p.only(keys[p.name]) if p.name in keys else p for p in self._all_parameters)

    def _nearest(self, costly: Sequence[Choice]) -> str:
        costs = []
        for values in _combinations(costly, [p.values.values() for p in costly]):
            try:
                scan = self.widths.scan(self.base.replace(**values))
            except ValueError:
                continue
            target = self.widths.target
            costs += [(abs(cost - target), width, cost, values) for width, cost in scan]
        if not costs:
            return "No combination of its values is a network."
        _, width, cost, values = min(costs, key=lambda row: row[:3])
        values = {**values, "width_per_group": width}
        return f"The nearest is {cost / 1e6:,.2f} M: {values}. Change the budget or its tolerance."


def _combinations(parameters: Sequence[Choice], values: Sequence) -> Iterator[dict]:
    names = [p.name for p in parameters]
    for combination in itertools.product(*values):
        yield dict(zip(names, combination, strict=True))
