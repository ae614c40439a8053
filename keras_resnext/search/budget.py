"""The cost of the networks of a search, and the width per group that meets it."""

import contextlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from keras_resnext.checks import Rule, check, check_fields, choice, number
from keras_resnext.models import variants
from keras_resnext.models.config import ResNetConfig
from keras_resnext.models.counting import Complexity, count

COSTS = ("macs", "parameters")
# A network costs the more the wider it is: widths that are far too narrow are skipped in strides.
STRIDES = (64, 16, 4)
AMOUNT = Rule("a number above 0, or the name of a model", number(above=0).holds)


@dataclass(frozen=True)
class Budget:
    """The cost of every network of a search: a number of MACs or parameters, or a model's."""

    cost: str
    amount: float | str
    tolerance: float = 0.05

    def __post_init__(self) -> None:
        if isinstance(self.amount, str):
            residual(self.amount)
        else:
            check(self.cost, self.amount, AMOUNT)
        check_fields(self, {"cost": choice(COSTS), "tolerance": number(above=0, below=1)})

    def of(self, complexity: Complexity) -> int:
        """Return the cost of a network."""
        return getattr(complexity, self.cost)


def residual(name: str) -> variants.Variant:
    """Return a variant whose cardinality and width can be searched."""
    variant = variants.get(name)
    if not isinstance(variant.config, ResNetConfig):
        raise ValueError(
            f'"{variant.name}" has no cardinality and width to search. Expected a residual '
            "network: see `keras-resnext list`."
        )
    return variant


class Widths:
    """The width per group with which a variation of `base` is within a budget, if there is one."""

    def __init__(
        self, base: ResNetConfig, budget: Budget | None, image_size: int, classes: int
    ) -> None:
        self.base, self.budget = base, budget
        self.image_size, self.classes = image_size, classes
        self._scans: dict[ResNetConfig, list[tuple[int, int]]] = {}
        self.target = budget and budget.amount
        if isinstance(self.target, str):
            self.target = self._cost(residual(self.target).config)

    def describe(self) -> str:
        """Return the budget in words."""
        if self.budget is None:
            return "no budget"
        return (
            f"{self.budget.tolerance:.0%} of {self.target / 1e6:,.2f} M {self.budget.cost} "
            f"({self.image_size} px, {self.classes} classes)"
        )

    def choose(self, config: ResNetConfig) -> tuple[int, Complexity] | None:
        """Return the width per group of a network and its complexity, or None if no width fits."""
        width = config.width_per_group if self.budget is None else self._fitting(config)
        if width is None:
            return None
        config = config.replace(width_per_group=width)
        return width, self._count(config)

    def scan(self, config: ResNetConfig) -> list[tuple[int, int]]:
        """Return widths and costs in order, from one below the budget to the first above it."""
        key = config.replace(width_per_group=self.base.width_per_group)
        if key not in self._scans:
            self._scans[key] = list(self._costs_by_width(config))
        return self._scans[key]

    def _cost(self, config: ResNetConfig) -> int:
        return self.budget.of(self._count(config))

    def _count(self, config: ResNetConfig) -> Complexity:
        if config.drop_path or config.drop_block:  # they count their steps, which costs nothing
            config = config.replace(drop_path=0.0, drop_block=0.0)
        return count(config, self.image_size, self.classes)

    def _cost_at(self, config: ResNetConfig, width: int) -> int | None:
        try:
            return self._cost(config.replace(width_per_group=width))
        except ValueError:
            return None  # some attentions need a width that divides

    def _costs_by_width(self, config: ResNetConfig) -> Iterator[tuple[int, int]]:
        if config.block == "basic":
            yield 64, self._cost(config)
            return
        low, high = ((1 + sign * self.budget.tolerance) * self.target for sign in (-1, 1))
        start = -(-64 // min(config.filters))
        for stride in STRIDES:
            while (cost := self._cost_at(config, start + stride)) is not None and cost < low:
                start += stride
        for width in itertools.count(start):
            cost = self._cost_at(config, width)
            if cost is not None:
                yield width, cost
                if cost > high:
                    return

    def _fitting(self, config: ResNetConfig) -> int | None:
        """Return the width that best preserves the complexity of the regular blocks, or None.

        This is the rule of the ResNeXt paper (section 3.3). By the cost of the whole network, which
        includes strided blocks, ResNeXt50 would be 1x66d instead of 1x64d.
        """
        room = self.budget.tolerance * self.target
        fitting = [width for width, cost in self.scan(config) if abs(cost - self.target) <= room]
        if not fitting:
            return None
        preserved = self._preserved(config)
        return min(fitting, key=lambda width: abs(self._blocks_cost(config, width) - preserved))

    def _preserved(self, config: ResNetConfig) -> float:
        """Return what the regular blocks would cost if the network cost exactly the budget."""
        with contextlib.suppress(ValueError):  # a block without such groups is its own measure
            config = config.replace(cardinality=self.base.cardinality)
        scan = self.scan(config)
        below = [row for row in scan if row[1] <= self.target] or scan[:1]
        (width, cost), above = below[-1], scan[len(below) : len(below) + 1]
        blocks = self._blocks_cost(config, width)
        if not above:
            return blocks
        ((wider, next_cost),) = above
        share = max(0.0, (self.target - cost) / (next_cost - cost))
        return blocks + share * (self._blocks_cost(config, wider) - blocks)

    def _blocks_cost(self, config: ResNetConfig, width: int) -> float:
        """Return the cost of all blocks, counting each as a regular one of its stage."""
        shrinks = 4 if self.budget.cost == "macs" else 1
        ends = 2 * config.channels(1)
        total = 0
        for stage, (blocks, planes) in enumerate(zip(config.blocks, config.filters, strict=True)):
            d = planes * width // 64
            total += blocks * config.cardinality * d * (ends * planes + 9 * d) / shrinks**stage
        return total
