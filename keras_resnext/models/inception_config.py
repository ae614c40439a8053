"""The description of an Inception network. Nothing here imports Keras."""

import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from typing import ClassVar, NamedTuple

from keras_resnext.checks import Rule, check, choice, flag, integer, integers, number, optional
from keras_resnext.models.config import NetworkConfig

# The paths of every kind of module, which run side by side on its input; their outputs are
# concatenated. A path lists its layers: `1x7` is a convolution with that kernel (height x width),
# its normalization and ReLU; `max3x3` and `avg3x3` are poolings; `/2` is a stride. After these, `v`
# means no padding, `c` PyTorch's `ceil_mode` (poolings), and nothing a padding that leaves
# `ceil(size / stride)` pixels. `1x3|3x1` at the end of a path are two layers on the same input.
# A network's `Module` adds the filters of the convolutions, in the order in which they are written.
# Figures are those of the papers.
MODULES = {
    # Szegedy et al., 2014: figure 2 (b), and the same as torchvision has it; figure 2 (a)
    "v1": ("1x1", "1x1 3x3", "1x1 5x5", "max3x3 1x1"),
    "v1_3x3": ("1x1", "1x1 3x3", "1x1 3x3", "max3x3 1x1"),
    "v1_naive": ("1x1", "3x3", "5x5", "max3x3"),
    # Ioffe and Szegedy, 2015: figure 5. The first is the A of Inception-v4 as well.
    "double_3x3": ("1x1", "1x1 3x3", "1x1 3x3 3x3", "avg3x3 1x1"),
    "double_3x3_max": ("1x1", "1x1 3x3", "1x1 3x3 3x3", "max3x3 1x1"),
    "double_3x3_reduction": ("1x1 3x3/2", "1x1 3x3 3x3/2", "max3x3/2"),
    # Szegedy et al., 2015 and 2016, in their published code
    "a": ("1x1", "1x1 5x5", "1x1 3x3 3x3", "avg3x3 1x1"),
    "a_reduction": ("3x3/2v", "1x1 3x3 3x3/2v", "max3x3/2v"),
    "b": ("1x1", "1x1 1x7 7x1", "1x1 7x1 1x7 7x1 1x7", "avg3x3 1x1"),
    "b_reduction": ("1x1 3x3/2v", "1x1 1x7 7x1 3x3/2v", "max3x3/2v"),
    "c": ("1x1", "1x1 1x3|3x1", "1x1 3x3 1x3|3x1", "avg3x3 1x1"),
    "c_v4": ("1x1", "1x1 1x3|3x1", "1x1 3x1 1x3 1x3|3x1", "avg3x3 1x1"),
    # Szegedy et al., 2016: figures 10 to 19
    "residual_a": ("1x1", "1x1 3x3", "1x1 3x3 3x3"),
    "residual_b": ("1x1", "1x1 1x7 7x1"),
    "residual_b_reduction": ("1x1 3x3/2v", "1x1 3x3/2v", "1x1 3x3 3x3/2v", "max3x3/2v"),
    "residual_c": ("1x1", "1x1 1x3 3x1"),
}
# In these a linear 1x1 convolution follows the concatenation and is added to the input.
RESIDUAL_MODULES = ("residual_a", "residual_b", "residual_c")


class Stem(NamedTuple):
    """The layers before the first module, as a sequence of modules."""

    modules: tuple[tuple[str, ...], ...]
    native_size: int


STEMS = {
    "v1": Stem((("7x7/2 max3x3/2c 1x1 3x3 max3x3/2c",),), 224),
    "v2": Stem((("7x7/2 max3x3/2 1x1 3x3 max3x3/2",),), 224),
    "v3": Stem((("3x3/2v 3x3v 3x3 max3x3/2v 1x1 3x3v max3x3/2v",),), 299),
    "v4": Stem(
        (
            ("3x3/2v 3x3v 3x3",),
            ("max3x3/2v", "3x3/2v"),
            ("1x1 3x3v", "1x1 1x7 7x1 3x3v"),
            ("3x3/2v", "max3x3/2v"),
        ),
        299,
    ),
    "resnet_v1": Stem((("3x3/2v 3x3v 3x3 max3x3/2v 1x1 3x3v 3x3/2v",),), 299),
}


class Head(NamedTuple):
    """An auxiliary classifier: a path, then the layers before its last dense layer."""

    path: str
    filters: tuple[int, ...]
    hidden: int | None  # units of a dense layer on all pixels; None for their average
    dropout: float


HEADS = {
    "v1": Head("avg5x5/3v 1x1", (128,), 1024, 0.7),
    "v3": Head("avg5x5/3v 1x1 5x5v", (128, 768), None, 0.0),
}


class Module(NamedTuple):
    """A module of a network: its kind, one of `MODULES`, and the filters of its convolutions."""

    kind: str
    filters: tuple[int, ...]


class Step(NamedTuple):
    """A layer of a path: `operation` is `"conv"`, `"max"` or `"avg"`."""

    operation: str
    kernel: tuple[int, int]
    stride: int
    padding: str
    filters: int | None = None
    name: str = ""


def _is_halving_pool(text: object) -> bool:
    try:
        ((step,),) = parse(text)
    except (AttributeError, TypeError, ValueError):
        return False
    return step.operation == "max" and step.stride == 2


def _each(expected: str, holds: Callable[[object], bool]) -> Rule:
    """Return the rule for a tuple of any length whose items follow a rule."""
    return Rule(expected, lambda values: isinstance(values, tuple) and all(map(holds, values)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class InceptionConfig(NetworkConfig):
    """An Inception network: a stem, stages of modules, and what their layers have in common.

    Stages are numbered by resolution: stage 2 is at an eighth of the image, stage 3 at a
    sixteenth, stage 4 at a thirty-second; the stem precedes them. A module is called
    `stage2_block1`, its last layer `stage2_block1_out`. Comments in
    `keras_resnext.models.inception_tables` map these names to those of the papers.

    Attributes:
        stem: str, the first layers: `"v1"`, `"v2"`, `"v3"`, `"v4"` or `"resnet_v1"`.
        stem_filters: tuple of int, filters of the stem's convolutions, in order.
        stages: tuple of tuples, the modules of each stage, each a `Module` or a pair of its kind
            and filters. A stage after the first begins with a module that halves the image or
            with one of the `pools`.
        pools: tuple of str, the max poolings before the stages after the first, such as
            `"max3x3/2c"`; empty if modules halve the image.
        final_filters: int, filters of a 1x1 convolution after the last module; None for none.
        norm: bool, whether convolutions are normalized (batch norm).
        norm_scale: bool, whether the batch norm has a scale, gamma. keras.applications and
            TensorFlow's published checkpoints have none, timm's and torchvision's have one.
        pool_padding: str, how average poolings inside modules treat the border: `"same"` takes
            the mean of the pixels inside the image (TensorFlow), `"counted"` counts zeros around
            it (timm's and torchvision's v3).
        residual_scales: tuple of float, factors of the residual branches, one per stage.
        linear_last: bool, whether the last residual module has scale 1 and no ReLU, as in the
            published checkpoints of Inception-ResNet-v2.
        auxiliary: bool, whether to train with auxiliary classifiers, see `AuxiliaryModel`. The
            model without its top has none.
        auxiliary_head: str, the kind of auxiliary classifier, `"v1"` or `"v3"`.
        auxiliary_after: tuple of str, names of the modules that auxiliary classifiers follow,
            such as `"stage3_block1"`; empty for a network without any.
        auxiliary_weight: float, weight of each auxiliary loss.
        use_bias, norm_momentum, norm_epsilon, dropout, l2: See `NetworkConfig`.

    Raises:
        ValueError: If a value or a combination describes no network.

    References:
        [Szegedy et al., 2014](https://arxiv.org/abs/1409.4842),
        [Ioffe and Szegedy, 2015](https://arxiv.org/abs/1502.03167),
        [Szegedy et al., 2015](https://arxiv.org/abs/1512.00567),
        [Szegedy et al., 2016](https://arxiv.org/abs/1602.07261)

    Example:
    >>> config = InceptionConfig(
    ...     stem="v1",
    ...     stem_filters=(64, 64, 192),
    ...     stages=[[("v1", (64, 96, 128, 16, 32, 32)), ("v1", (128, 128, 192, 32, 96, 64))]],
    ... )
    >>> config.depth, config.smallest_input
    (8, 7)
    """

    stem: str
    stem_filters: tuple[int, ...]
    stages: tuple[tuple[Module, ...], ...]
    pools: tuple[str, ...] = ()
    final_filters: int | None = None
    norm: bool = True
    norm_scale: bool = True
    norm_momentum: float = 0.99
    norm_epsilon: float = 1e-3
    pool_padding: str = "same"
    residual_scales: tuple[float, ...] = ()
    linear_last: bool = False
    auxiliary: bool = False
    auxiliary_head: str | None = None
    auxiliary_after: tuple[str, ...] = ()
    auxiliary_weight: float = 0.3

    RULES: ClassVar[Mapping[str, Rule]] = NetworkConfig.RULES | {
        "stem": choice(STEMS),
        "stages": _each("a tuple of stages", lambda stage: isinstance(stage, (tuple, list))),
        "pools": _each('max poolings of stride 2 such as "max3x3/2c"', _is_halving_pool),
        "final_filters": optional(integer(1)),
        "norm": flag(),
        "norm_scale": flag(),
        "pool_padding": choice(("same", "counted")),
        "residual_scales": _each("a tuple of numbers above 0", number(above=0).holds),
        "linear_last": flag(),
        "auxiliary": flag(),
        "auxiliary_head": optional(choice(HEADS)),
        "auxiliary_after": _each("a tuple of names", lambda name: isinstance(name, str)),
        "auxiliary_weight": number(0),
    }

    def __post_init__(self):
        super().__post_init__()
        count = sum(_convolutions(paths) for paths in STEMS[self.stem].modules)
        check("stem_filters", self.stem_filters, integers(1, length=count))
        object.__setattr__(self, "stages", _stages(self.stages))
        for problem in self._problems():
            raise ValueError(problem)
        for name in self.auxiliary_after:
            check("auxiliary_after", name, choice(self.modules))

    def _problems(self) -> Iterator[str]:
        """Yield a sentence for each reason why these values do not describe a network."""
        for position, stage in enumerate(self.stages, start=2):
            halving = [_is_reduction(module.kind) for module in stage]
            if halving != [position > 2 and not self.pools] + [False] * (len(stage) - 1):
                yield (
                    "`stages` after the first need a reduction as their first module, or one "
                    "pooling each in `pools`, and a reduction can stand nowhere else. Received: "
                    f"stage {position} = {[module.kind for module in stage]}, pools={self.pools}"
                )
        if self.pools and len(self.pools) != len(self.stages) - 1:
            yield (
                "`pools` needs one pooling for every stage after the first, or none. "
                f"Received: pools={self.pools} for {len(self.stages)} stages"
            )
        residual = any(m.kind in RESIDUAL_MODULES for stage in self.stages for m in stage)
        wanted = len(self.stages) if residual else 0
        if len(self.residual_scales) != wanted:
            yield (
                "`residual_scales` needs one number per stage in a network with residual "
                f"modules, and none in another: {wanted} here. "
                f"Received: residual_scales={self.residual_scales}"
            )
        if self.linear_last and self.stages[-1][-1].kind not in RESIDUAL_MODULES:
            yield (
                "`linear_last` is about a network whose last module is residual. Received: "
                f"linear_last=True with {self.stages[-1][-1].kind!r} as the last module"
            )
        if self.auxiliary and not (self.auxiliary_after and self.auxiliary_head):
            yield (
                "`auxiliary` needs `auxiliary_head` and `auxiliary_after`, which say what the "
                "auxiliary classifiers are and where. This network was published without."
            )

    @property
    def modules(self) -> dict[str, Module]:
        """The modules by name, such as `stage2_block1`."""
        return {
            f"stage{stage}_block{block}": module
            for stage, modules in enumerate(self.stages, start=2)
            for block, module in enumerate(modules, start=1)
        }

    @property
    def native_size(self) -> int:
        """224 for v1 and v2, 299 for the others."""
        return STEMS[self.stem].native_size

    @property
    def smallest_input(self) -> int:
        """What leaves a pixel at the end and in the auxiliary classifiers, if there are any."""
        size = 1
        for stage in range(len(self.stages) + 1, 1, -1):
            names = [name for name in self.modules if name.startswith(f"stage{stage}_")]
            for name in reversed(names):
                if self.auxiliary and name in self.auxiliary_after:
                    size = max(size, _needed(parse(HEADS[self.auxiliary_head].path), 1))
                size = max(_needed(path, size) for path in _paths(self.modules[name].kind))
            if stage > 2 and self.pools:
                size = _needed(parse(self.pools[stage - 3]), size)
        for paths in reversed(STEMS[self.stem].modules):
            size = max(_needed(parse(path), size) for path in paths)
        return size

    @property
    def needs_size(self) -> bool:
        """Whether auxiliary classifiers look at all pixels of a feature map."""
        return self.auxiliary and HEADS[self.auxiliary_head].hidden is not None

    @property
    def depth(self) -> int:
        """Number of layers with weights on the longest path, 22 for v1."""
        longest = sum(max(map(_length, map(parse, p))) for p in STEMS[self.stem].modules)
        for module in self.modules.values():
            expansion = module.kind in RESIDUAL_MODULES
            longest += max(map(_length, _paths(module.kind))) + expansion
        return longest + (self.final_filters is not None) + 1


def stem_modules(config: InceptionConfig) -> tuple:
    """Return the stem: modules, each a tuple of paths of named steps with their filters."""
    filters, counters = iter(config.stem_filters), _counters()
    return tuple(
        tuple(_fill(path, filters, counters, "") for path in paths)
        for paths in STEMS[config.stem].modules
    )


@functools.cache
def module_paths(module: Module) -> tuple:
    """Return the paths of a module, of steps named `branch2_conv1` with their filters."""
    filters = iter(module.filters)
    paths = enumerate(MODULES[module.kind], start=1)
    return tuple(_fill(path, filters, _counters(), f"branch{n}_") for n, path in paths)


def head_path(config: InceptionConfig) -> tuple:
    """Return the path of an auxiliary classifier, of steps named `conv1`, `pool1`."""
    head = HEADS[config.auxiliary_head]
    return _fill(head.path, iter(head.filters), _counters(), "")


@functools.cache
def parse(path: str) -> tuple[tuple[Step, ...], ...]:
    """Return the layers of a path: a tuple of positions, each a tuple of `Step`."""
    return tuple(tuple(map(_step, position.split("|"))) for position in path.split())


def _step(text: str) -> Step:
    match = re.fullmatch(r"(max|avg|)([1-9])x([1-9])(?:/([2-9]))?([vc]?)", text)
    if not match:
        raise ValueError(f'"{text}" is not a layer such as "3x3", "1x7/2v" or "max3x3/2c".')
    operation, height, width, stride, padding = match.groups()
    return Step(
        operation or "conv",
        (int(height), int(width)),
        int(stride or 1),
        {"": "same", "v": "valid", "c": "ceil"}[padding],
    )


def _fill(path: str, filters: Iterator[int], counters: dict, prefix: str) -> tuple:
    """Return the steps of a path with their names, and the convolutions with their filters."""
    return tuple(
        tuple(
            step._replace(
                filters=next(filters) if step.operation == "conv" else None,
                name=f"{prefix}{name}",
            )
            for step, name in zip(position, _names(position, counters), strict=True)
        )
        for position in parse(path)
    )


def _counters() -> dict[str, Iterator[int]]:
    return {"conv": itertools.count(1), "pool": itertools.count(1)}


def _names(position: tuple[Step, ...], counters: dict) -> list[str]:
    kind = "conv" if position[0].operation == "conv" else "pool"
    number = next(counters[kind])
    letters = [""] if len(position) == 1 else "abcdef"[: len(position)]
    return [f"{kind}{number}{letter}" for letter in letters]


def _paths(kind: str) -> list[tuple]:
    return [parse(path) for path in MODULES[kind]]


def _length(path: tuple) -> int:
    return sum(position[0].operation == "conv" for position in path)


def _convolutions(paths: tuple[str, ...]) -> int:
    return sum(step.operation == "conv" for path in paths for p in parse(path) for step in p)


def _is_reduction(kind: str) -> bool:
    return any(step.stride > 1 for path in _paths(kind) for (step, *_) in path)


def _needed(path: tuple, size: int) -> int:
    """Return the smallest input of a path that leaves `size` pixels of output."""
    for position in reversed(path):
        size = max(
            (size - 1) * step.stride
            + kernel
            - {"same": kernel - 1, "valid": 0, "ceil": 1}[step.padding]
            for step in position
            for kernel in step.kernel
        )
    return size


def _stages(stages: tuple) -> tuple[tuple[Module, ...], ...]:
    if not stages or not all(stages):
        raise ValueError(f"`stages` needs at least one module per stage. Received: {stages}")
    return tuple(tuple(map(_module, stage)) for stage in stages)


def _module(module: object) -> Module:
    try:
        kind, filters = module
    except (TypeError, ValueError):
        raise ValueError(
            "`stages` needs modules, pairs of a kind and its filters. "
            f"Received: {module!r} as a module"
        ) from None
    check("stages", kind, choice(MODULES))
    count = _convolutions(MODULES[kind])
    if not integers(1, length=count).holds(filters):
        raise ValueError(
            f"`stages` needs {count} integers of at least 1 in {kind!r}, the filters of its "
            f"convolutions. Received: {filters!r}"
        )
    return Module(kind, tuple(filters))
