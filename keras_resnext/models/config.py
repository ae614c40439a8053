"""Frozen, self-validating descriptions of a network. Nothing here imports Keras."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import ClassVar, Self

from keras_resnext.checks import (
    Rule,
    check,
    check_fields,
    choice,
    flag,
    integer,
    integers,
    number,
    optional,
)
from keras_resnext.errors import unknown
from keras_resnext.models import big_little
from keras_resnext.models.attention import ATTENTIONS
from keras_resnext.models.blocks import BLOCKS, BRANCHED_FORMS, DOWNSAMPLINGS, nearest_width
from keras_resnext.models.shortcuts import SHORTCUTS
from keras_resnext.models.stems import STEM_POOLS, STEMS


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The fields that all families of networks share.

    Attributes:
        use_bias: bool, whether convolutions have a bias.
        norm_momentum: float, momentum of the batch norm's moving statistics (PyTorch's .1 is .9
            here).
        norm_epsilon: float, what the batch norm adds to the variance.
        dropout: float, rate of the dropout before the classifier.
        l2: float, factor of `keras.regularizers.L2` on every kernel; half of what the papers and
            PyTorch call weight decay.
    """

    use_bias: bool = False
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    l2: float = 0.0

    RULES: ClassVar[Mapping[str, Rule]] = {
        "use_bias": flag(),
        "norm_momentum": number(0, below=1),
        "norm_epsilon": number(0, below=1),
        "dropout": number(0, below=1),
        "l2": number(0),
    }

    def __post_init__(self):
        for field in dataclasses.fields(self):  # so that configurations compare and hash
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        check_fields(self, self.RULES)

    @property
    def bias_before_norm(self) -> bool:
        """Whether convolutions followed by a batch norm have a bias."""
        return self.use_bias

    @property
    def native_size(self) -> int:
        """Height and width, in pixels, of the images that the network was published with."""
        raise NotImplementedError

    @property
    def smallest_input(self) -> int:
        """The smallest height and width, in pixels, that leave one pixel at the end."""
        raise NotImplementedError

    @property
    def needs_size(self) -> bool:
        """Whether the network can only be built for images of a known size."""
        return False

    @property
    def depth(self) -> int:
        """Number of layers with weights on the main path, as in the network's name."""
        raise NotImplementedError

    def replace(self, **overrides: object) -> Self:
        """Return the configuration with some fields changed.

        Raises:
            ValueError: If a field is unknown (the nearest is named), or a value is wrong.
        """
        fields = [field.name for field in dataclasses.fields(self)]
        for name in overrides:
            if name not in fields:
                raise ValueError(unknown("configuration field", name, fields))
        return dataclasses.replace(self, **overrides)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetConfig(NetworkConfig):
    """A residual network: ResNet, ResNeXt, and everything that was assembled on them.

    Attributes:
        blocks: tuple of int, residual blocks in each stage.
        filters: tuple of int, planes of each stage. A stage's output has `planes` channels with
            basic blocks and `4 * planes` with the others; each stage after the first halves the
            image.
        block: str, `"basic"` (two 3x3) or `"bottleneck"` (1x1, 3x3, 1x1), or a bottleneck of the
            same cost with another middle: `"separable"` (depthwise 3x3, then 1x1),
            `"multi_kernel"` (half of the groups with 3x3, half with 5x5), `"multi_dilation"`
            (3x3, half of the groups with dilation 2).
        cardinality: int, groups of the bottleneck's 3x3 convolution, the paper's C.
        width_per_group: int, the paper's d at 64 planes. The 3x3 convolution is
            `floor(planes * d / 64) * C` channels wide.
        form: str, which of the three equivalent forms of the ResNeXt block (figure 3 of the
            paper): `"a"`, C branches summed; `"b"`, C branches concatenated; `"c"`, one grouped
            convolution.
        stem: str, `"7x7"` (stride 2), `"deep"` (three 3x3 instead, ResNet-D), `"tiered"` (the
            same, of rising width) or `"cifar"` (one 3x3 at stride 1).
        stem_filters: int, channels after the stem.
        stem_pool: str, what follows the stem: `"max"` (3x3 stride 2), `"blur"` (the maximum at
            stride 1, blurred), `"average"` (2x2) or `"none"`. None: `"none"` after the CIFAR
            stem, else `"max"`.
        shortcut: str, what joins a block's input to its output if their shapes differ. `"A"`:
            the identity, subsampled and with zero channels appended; `"B"`: a 1x1 convolution;
            `"C"`: a 1x1 convolution in every block; `"D"`: an average over 2x2 instead of the
            stride, then a 1x1 convolution; `"D3"`: the same over 3x3 (Big-Little's). `"none"`:
            no block has a shortcut.
        stride_on: str, which convolution of a bottleneck is strided, `"3x3"` (ResNeXt,
            torchvision, timm) or `"1x1"`, the first (the ResNet paper, keras.applications).
        stride_block: str, which block of a stage is strided, the `"first"`, or the `"last"` of
            the stage before (keras.applications' V2).
        downsample: str, how the strided 3x3 of a block halves the image: `"stride"`, or at
            stride 1 and followed by `"blur"` (anti-aliasing) or `"average"` (over 2x2).
        attention: str, `"se"` (squeeze-excite) or `"eca"` on each block's output; or a selective
            kernel instead of the 3x3: `"sk"` (a plain and a dilated 3x3), `"sk_split"` (each
            on half of the input channels), `"sk_assembled"` (one 3x3 of twice the width, as in
            the assembled paper).
        attention_ratio: float, the reduction inside `"se"` and the selective kernels; None takes
            the published: 1/16, for `"sk_split"` in basic blocks 1/8, for `"sk_assembled"` 1/2.
        attention_bias: bool, whether squeeze-excite has biases.
        big_little: None, or (alpha, beta): each stage but the last has a deep branch at half the
            resolution, and one of 1/alpha of the width and 1/beta of the depth at full resolution.
        preactivation: bool, whether normalization and activation come before each convolution
            (ResNet V2).
        zero_gamma: bool, whether each block's last batch norm starts at zero, so that the block
            begins as its shortcut (Goyal et al., 2017). Not with pre-activation, whose blocks
            end in a convolution.
        drop_block: float, share of a feature map that DropBlock drops in the last two stages.
        drop_block_size: int, its blocks' height and width, in pixels.
        drop_path: float, chance that stochastic depth drops the last block; it rises linearly
            from the first.
        drop_steps: int, training steps over which both rise from 0; 0 keeps them constant.
        use_bias, norm_momentum, norm_epsilon, dropout, l2: See `NetworkConfig`. In a
            pre-activation network those convolutions have biases that no batch norm follows
            (as in keras.applications).

    Raises:
        ValueError: If a value or a combination describes no network.

    References:
        [He et al., 2015](https://arxiv.org/abs/1512.03385),
        [He et al., 2016](https://arxiv.org/abs/1603.05027),
        [Xie et al., 2017](https://arxiv.org/abs/1611.05431),
        [He et al., 2019](https://arxiv.org/abs/1812.01187) (D),
        [Chen et al., 2019](https://arxiv.org/abs/1807.03848) (Big-Little),
        [Lee et al., 2020](https://arxiv.org/abs/2001.06268) (all of it together)

    Example:
    >>> ResNetConfig(cardinality=32, width_per_group=4).widths
    (128, 256, 512, 1024)
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    filters: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "bottleneck"
    cardinality: int = 1
    width_per_group: int = 64
    form: str = "c"
    stem: str = "7x7"
    stem_filters: int = 64
    stem_pool: str | None = None
    shortcut: str = "B"
    stride_on: str = "3x3"
    stride_block: str = "first"
    downsample: str = "stride"
    attention: str = "none"
    attention_ratio: float | None = None
    attention_bias: bool = True
    big_little: tuple[int, int] | None = None
    preactivation: bool = False
    zero_gamma: bool = False
    drop_block: float = 0.0
    drop_block_size: int = 7
    drop_path: float = 0.0
    drop_steps: int = 0

    RULES: ClassVar[Mapping[str, Rule]] = NetworkConfig.RULES | {
        "blocks": integers(1),
        "filters": integers(1),
        "block": choice(BLOCKS),
        "cardinality": integer(1),
        "width_per_group": integer(1),
        "form": choice((*BRANCHED_FORMS, "c")),
        "stem": choice(STEMS),
        "stem_filters": integer(1),
        "stem_pool": optional(choice(STEM_POOLS)),
        "shortcut": choice(SHORTCUTS),
        "stride_on": choice(("3x3", "1x1")),
        "stride_block": choice(("first", "last")),
        "downsample": choice(DOWNSAMPLINGS),
        "attention": choice(ATTENTIONS),
        "attention_ratio": optional(number(0)),
        "attention_bias": flag(),
        "big_little": optional(integers(1, length=2)),
        "preactivation": flag(),
        "zero_gamma": flag(),
        "drop_block": number(0, below=1),
        "drop_block_size": integer(1),
        "drop_path": number(0, below=1),
        "drop_steps": integer(0),
    }

    def __post_init__(self):
        super().__post_init__()
        for problem in self._problems():
            raise ValueError(problem)

    def _problems(self) -> Iterator[str]:
        """Yield a sentence for each reason why these values do not describe a network."""
        if len(self.blocks) != len(self.filters):
            yield (
                "`blocks` and `filters` need one number per stage each. "
                f"Received: blocks={self.blocks}, filters={self.filters}"
            )
        yield from BLOCKS[self.block].problems(self)
        if min(planes * self.width_per_group // 64 for planes in self.filters) < 1:
            yield (
                f"width_per_group={self.width_per_group} leaves no channel in a group of the "
                f"stage with {min(self.filters)} planes: floor(planes * width_per_group / 64) "
                "must be at least 1."
            )
        yield from ATTENTIONS[self.attention].problems(self)
        yield from self._shortcut_problems()
        if self.form != "c" and (
            self.block != "bottleneck" or ATTENTIONS[self.attention].middle or self.use_bias
        ):
            yield (
                f'form="{self.form}" is of the ResNeXt block: it needs block="bottleneck", no '
                "selective kernel and use_bias=False."
            )
        if self.preactivation and self.zero_gamma:
            yield (
                "`zero_gamma` is about the last batch norm of a block, and a pre-activation block "
                "ends in a convolution: set preactivation=False or zero_gamma=False."
            )
        if self.downsample != "stride" and self.stride_on == "1x1":
            yield (f'downsample="{self.downsample}" follows the strided 3x3: use stride_on="3x3".')
        if self.big_little is not None:
            yield from big_little.problems(self)

    def _shortcut_problems(self) -> Iterator[str]:
        if self.shortcut == "none" and self.zero_gamma:
            yield (
                "`zero_gamma` begins each block as its shortcut, and without one as nothing at "
                'all: set zero_gamma=False, or a shortcut other than "none".'
            )
        if self.shortcut == "none" and self.drop_path:
            yield (
                '`drop_path` drops a block down to its shortcut: use a shortcut other than "none".'
            )
        channels = (self.stem_filters, *self.outputs)
        if self.shortcut == "A" and any(b < a for a, b in itertools.pairwise(channels)):
            yield (
                'shortcut="A" appends channels and takes none away. Received: a stem and stages '
                f"of {channels} channels"
            )

    @property
    def bias_before_norm(self) -> bool:
        """Whether convolutions followed by a batch norm have a bias."""
        return self.use_bias and not self.preactivation

    @property
    def pool(self) -> str:
        """What follows the stem, after resolving a `stem_pool` of None."""
        return self.stem_pool or STEMS[self.stem].pool

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the 3x3 convolution in each stage."""
        return tuple(self.width(planes) for planes in self.filters)

    def width(self, planes: int) -> int:
        """Return the channels of the 3x3 convolution in a block of that many planes.

        A bottleneck has `floor(planes * d / 64) * C`. Other kinds of middle get the width at which
        a block costs as much as that bottleneck.
        """
        d = planes * self.width_per_group // 64
        return BLOCKS[self.block].width(planes, d, self.cardinality)

    @property
    def outputs(self) -> tuple[int, ...]:
        """Channels at the end of each stage."""
        return tuple(self.channels(planes) for planes in self.filters)

    def channels(self, planes: int) -> int:
        """Return the output channels of a block of that many planes."""
        return planes * BLOCKS[self.block].expansion

    @property
    def little_planes(self) -> tuple[int, ...]:
        """Planes of Big-Little's light branch in each stage that has one."""
        if self.big_little is None:
            return ()
        return tuple(planes // self.big_little[0] for planes in self.filters[:-1])

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride of each stage, taken in its first or last block by `stride_block`."""
        later = (2,) * (len(self.blocks) - 1)
        return (1, *later) if self.stride_block == "first" else (*later, 1)

    @property
    def native_size(self) -> int:
        """32 for the networks of 32x32 images, 224 for the others."""
        return STEMS[self.stem].native_size

    @property
    def smallest_input(self) -> int:
        """The total stride, which leaves one pixel at the end."""
        return self.total_stride

    @property
    def total_stride(self) -> int:
        """Image pixels per pixel of the last feature map, along one axis."""
        return STEMS[self.stem].strides * STEM_POOLS[self.pool].strides * math.prod(self.strides)

    @property
    def depth(self) -> int:
        """Number of layers with weights on the main path, as in the network's name."""
        return BLOCKS[self.block].depth * sum(self.blocks) + 2


def width_for_cardinality(cardinality: int, planes: int = 64, base_width: int = 64) -> int:
    """Return the width per group that preserves a bottleneck's cost at another cardinality.

    The cost of the first stage's bottleneck is `C * (2 * 4 * planes * d + 9 * d * d)` multiply-adds
    per pixel (the ResNeXt paper, section 3.3 and table 2).

    Args:
        cardinality: int, the number of groups C.
        planes: int, the planes of the stage; its block has `4 * planes` inputs and outputs.
        base_width: int, the width d of the bottleneck of one group whose cost is preserved.

    Returns:
        int, the width d nearest in cost, at least 1.

    Raises:
        ValueError: If a number is not a positive integer.

    Example:
    >>> [width_for_cardinality(c) for c in (1, 2, 4, 8, 32)]
    [64, 40, 24, 14, 4]
    """
    check("cardinality", cardinality, integer(1))
    check("planes", planes, integer(1))
    check("base_width", base_width, integer(1))

    def cost(groups: int, width: int) -> int:
        return groups * (8 * planes * width + 9 * width * width)

    return nearest_width(cost(1, base_width), lambda width: cost(cardinality, width))
