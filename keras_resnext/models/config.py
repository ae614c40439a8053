"""Frozen, self-validating descriptions of a network. Nothing here imports Keras."""

import dataclasses
import itertools
import math

from keras_resnext.errors import one_of, unknown

# A block's output channels, in planes.
EXPANSION = {
    "basic": 1,
    "bottleneck": 4,
    "separable": 4,
    "multi_kernel": 4,
    "multi_dilation": 4,
}
STEM_STRIDES = {"7x7": 2, "deep": 2, "tiered": 2, "cifar": 1}
STEM_POOL_STRIDES = {"max": 2, "blur": 2, "average": 2, "none": 1}
SHORTCUTS = ("A", "B", "C", "D", "D3", "none")
SELECTIVE_KERNELS = ("sk", "sk_split", "sk_assembled")
ATTENTIONS = ("none", "se", "eca", *SELECTIVE_KERNELS)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """What the description of every network has; each family adds its own fields.

    Attributes:
        use_bias: whether convolutions have a bias.
        norm_momentum: of the batch norm's moving statistics (PyTorch's .1 is .9 here).
        norm_epsilon: of the batch norm.
        dropout: rate of the dropout before the classifier.
        l2: factor of `keras.regularizers.L2` on every kernel; half of what the papers and
            PyTorch call weight decay.
    """

    use_bias: bool = False
    norm_momentum: float = 0.9
    norm_epsilon: float = 1e-5
    dropout: float = 0.0
    l2: float = 0.0

    @property
    def bias_before_norm(self):
        """Whether a convolution has a bias that a batch norm follows."""
        return self.use_bias

    def __post_init__(self):
        one_of("use_bias", self.use_bias, (True, False))
        _in_range("norm_momentum", self.norm_momentum, 0, 1)
        _in_range("norm_epsilon", self.norm_epsilon, 0, 1)
        _in_range("dropout", self.dropout, 0, 1)
        _in_range("l2", self.l2, 0, math.inf)

    @property
    def native_size(self):
        """Height and width, in pixels, of the images the network was published with."""
        raise NotImplementedError

    @property
    def smallest_input(self):
        """The least height and width, in pixels, that leave something at the end."""
        raise NotImplementedError

    @property
    def depth(self):
        """Layers with weights on the main path: the number in a network's name."""
        raise NotImplementedError

    def replace(self, **overrides):
        """Return the configuration with some fields changed.

        Raises:
            ValueError: for an unknown field, with the nearest one, or a wrong value.
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
        blocks: residual blocks in each stage.
        filters: planes of each stage. A stage's output has `planes` channels with basic
            blocks and `4 * planes` with the others; each stage after the first halves the
            image.
        block: `"basic"` (two 3x3) or `"bottleneck"` (1x1, 3x3, 1x1), or a bottleneck of the same
            cost with another middle: `"separable"` (depthwise 3x3, then 1x1),
            `"multi_kernel"` (half of the groups with 3x3, half with 5x5), `"multi_dilation"`
            (3x3, half of the groups with dilation 2).
        cardinality: groups of the bottleneck's 3x3 convolution, the paper's C.
        width_per_group: the paper's d at 64 planes. The 3x3 convolution is
            `floor(planes * d / 64) * C` channels wide.
        form: of the three equivalent forms of the ResNeXt block (figure 3 of the paper):
            `"a"`, C branches summed; `"b"`, C branches concatenated; `"c"`, one grouped
            convolution.
        stem: `"7x7"` (stride 2), `"deep"` (three 3x3 in its place, ResNet-D), `"tiered"` (the
            same, of rising width) or `"cifar"` (one 3x3 at stride 1).
        stem_filters: channels after the stem.
        stem_pool: what follows the stem: `"max"` (3x3 stride 2), `"blur"` (the maximum at stride
            1, blurred), `"average"` (2x2) or `"none"`. None: `"none"` after the CIFAR stem, else
            `"max"`.
        shortcut: what joins a block's input to its output where their shapes differ. `"A"`:
            the identity, subsampled and with zero channels appended; `"B"`: a 1x1 convolution;
            `"C"`: a 1x1 convolution in every block; `"D"`: an average over 2x2 in place of
            the stride, then a 1x1 convolution; `"D3"`: the same over 3x3 (Big-Little's).
            `"none"`: no block has a shortcut.
        stride_on: which convolution of a bottleneck is strided, `"3x3"` (ResNeXt,
            torchvision, timm) or `"1x1"`, the first (the ResNet paper, keras.applications).
        stride_block: which block of a stage is strided, the `"first"`, or the `"last"` of the
            stage before (keras.applications' V2).
        downsample: how the strided 3x3 of a block halves the image: `"stride"`, or at stride 1
            and followed by `"blur"` (anti-aliasing) or `"average"` (over 2x2).
        attention: `"se"` (squeeze-excite) or `"eca"` on each block's output; or a selective
            kernel in place of the 3x3: `"sk"` (a plain and a dilated 3x3), `"sk_split"` (each
            on half of the input channels), `"sk_assembled"` (one 3x3 of twice the width, as in
            the assembled paper).
        attention_ratio: the reduction inside `"se"` and the selective kernels; None takes the
            published: 1/16, for `"sk_split"` in basic blocks 1/8, for `"sk_assembled"` 1/2.
        attention_bias: whether squeeze-excite has biases.
        big_little: None, or (alpha, beta): each stage but the last as a deep branch at half the
            resolution, and one of 1/alpha of the width and 1/beta of the depth at the whole.
        preactivation: normalization and activation before each convolution (ResNet V2).
        zero_gamma: start each block's last batch norm at zero, so that it begins as its
            shortcut (Goyal et al., 2017). Not with pre-activation, whose blocks end in a
            convolution.
        drop_block: share of a feature map that DropBlock drops in the last two stages.
        drop_block_size: its blocks' height and width, in pixels.
        drop_path: chance that stochastic depth drops the last block; it rises linearly from
            the first.
        drop_steps: training steps over which both rise from 0; 0 keeps them constant.
        use_bias, norm_momentum, norm_epsilon, dropout, l2: see `NetworkConfig`. Of a
            pre-activation network those convolutions have biases that no batch norm follows
            (as in keras.applications).

    Raises:
        ValueError: for a value or a combination that describes no network.

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

    def __post_init__(self):
        super().__post_init__()
        for field in ("blocks", "filters"):
            object.__setattr__(self, field, _positive_integers(field, getattr(self, field)))
        for field in ("cardinality", "width_per_group", "stem_filters", "drop_block_size"):
            _positive_integers(field, (getattr(self, field),))
        one_of("block", self.block, EXPANSION)
        one_of("form", self.form, ("a", "b", "c"))
        one_of("stem", self.stem, STEM_STRIDES)
        one_of("stem_pool", self.stem_pool, (None, *STEM_POOL_STRIDES))
        one_of("shortcut", self.shortcut, SHORTCUTS)
        one_of("stride_on", self.stride_on, ("3x3", "1x1"))
        one_of("stride_block", self.stride_block, ("first", "last"))
        one_of("downsample", self.downsample, ("stride", "blur", "average"))
        one_of("attention", self.attention, ATTENTIONS)
        for field in ("attention_bias", "preactivation", "zero_gamma"):
            one_of(field, getattr(self, field), (True, False))
        if self.attention_ratio is not None:
            _in_range("attention_ratio", self.attention_ratio, 0, math.inf)
        if self.big_little is not None:
            pair = _positive_integers("big_little", self.big_little)
            if len(pair) != 2:
                raise ValueError(f"`big_little` needs (alpha, beta). Received: big_little={pair}")
            object.__setattr__(self, "big_little", pair)
        _in_range("drop_block", self.drop_block, 0, 1)
        _in_range("drop_path", self.drop_path, 0, 1)
        _integer_from_zero("drop_steps", self.drop_steps)
        for wrong, message in self._impossible():
            if wrong:
                raise ValueError(message)

    def _impossible(self):
        """Yield each combination that describes no network: whether it is here, and why not."""
        bottleneck = self.block != "basic"
        selective = self.attention in SELECTIVE_KERNELS
        yield (
            len(self.blocks) != len(self.filters),
            "`blocks` and `filters` need one number a stage each. "
            f"Received: blocks={self.blocks}, filters={self.filters}",
        )
        yield (
            not bottleneck and (self.cardinality, self.width_per_group) != (1, 64),
            "A basic block has no groups (the ResNeXt paper, section 3.3): use "
            'block="bottleneck", or cardinality=1 and width_per_group=64. Received: '
            f"cardinality={self.cardinality}, width_per_group={self.width_per_group}",
        )
        yield (
            not bottleneck and self.stride_on == "1x1",
            'A basic block has no 1x1 convolution: use stride_on="3x3".',
        )
        yield (
            bottleneck and min(p * self.width_per_group // 64 for p in self.filters) < 1,
            f"width_per_group={self.width_per_group} leaves no channel in a group of the "
            f"stage with {min(self.filters)} planes: floor(planes * width_per_group / 64) "
            "must be at least 1.",
        )
        yield (
            self.preactivation and self.zero_gamma,
            "`zero_gamma` is the last batch norm of a block, which a pre-activation block "
            "does not end in: set preactivation=False or zero_gamma=False.",
        )
        yield (
            self.shortcut == "none" and self.zero_gamma,
            "`zero_gamma` begins each block as its shortcut, and without one as nothing at all: "
            'set zero_gamma=False, or another than shortcut="none".',
        )
        yield (
            self.block.startswith("multi_") and self.cardinality % 2,
            f'block="{self.block}" halves the groups: `cardinality` must be even. '
            f"Received: cardinality={self.cardinality}",
        )
        yield (
            self.block == "separable" and self.cardinality != 1,
            'block="separable" has one group a channel already: use cardinality=1. '
            f"Received: cardinality={self.cardinality}",
        )
        yield from self._impossible_options(selective)
        yield from self._impossible_channels()
        if self.big_little is not None:
            yield from self._impossible_with_big_little()

    def _impossible_options(self, selective):
        yield (
            selective and self.block not in ("basic", "bottleneck"),
            f'attention="{self.attention}" takes the place of the 3x3 convolution: use '
            f'block="bottleneck" or "basic". Received: block="{self.block}"',
        )
        yield (
            self.form != "c" and (self.block != "bottleneck" or selective or self.use_bias),
            f'form="{self.form}" is of the ResNeXt block: it needs block="bottleneck", no '
            "selective kernel and use_bias=False.",
        )
        yield (
            self.downsample != "stride" and self.stride_on == "1x1",
            f'downsample="{self.downsample}" follows the strided 3x3: use stride_on="3x3".',
        )
        yield (
            self.drop_path and self.shortcut == "none",
            '`drop_path` drops a block down to its shortcut: use another than shortcut="none".',
        )

    def _impossible_channels(self):
        channels = (self.stem_filters, *self.outputs)
        yield (
            self.shortcut == "A" and any(b < a for a, b in itertools.pairwise(channels)),
            'shortcut="A" appends channels and takes none away. Received: a stem and stages of '
            f"{channels} channels",
        )
        inputs = channels if self.block == "basic" else self.widths
        groups = 2 * (self.cardinality if self.block == "bottleneck" else 1)
        yield (
            self.attention == "sk_split" and any(width % groups for width in inputs),
            'attention="sk_split" halves the input of the 3x3 convolutions: its width must be '
            f"divisible by {groups}. Received: widths {inputs}",
        )

    def _impossible_with_big_little(self):
        alpha, _ = self.big_little
        thin = [planes // alpha for planes in self.filters[:-1]]
        rests = [planes % alpha for planes in (self.stem_filters, *self.filters[:-1])]
        yield (
            self.preactivation or self.stride_block == "last" or self.shortcut in ("A", "none"),
            "`big_little` adds its branches before an activation, and its branches have fewer "
            'channels than their input: it needs preactivation=False, stride_block="first" and a '
            f'shortcut that projects. Received: shortcut="{self.shortcut}"',
        )
        yield (
            self.pool != "max",
            "`big_little` has a stem of its own in place of the 3x3 max pool. "
            f'Received: stem="{self.stem}", stem_pool="{self.stem_pool}"',
        )
        yield (
            len(self.blocks) < 2 or min(self.blocks[:-1]) < 2,
            "`big_little` needs two stages, and two blocks in each stage but the last: one "
            f"merges. Received: blocks={self.blocks}",
        )
        yield (
            any(rests),
            f"`big_little` divides the planes and `stem_filters` by alpha={alpha}, which must "
            f"leave no rest. Received: filters={self.filters}, stem_filters={self.stem_filters}",
        )
        yield (
            self.block != "basic" and min(p * self.width_per_group // 64 for p in thin) < 1,
            f"`big_little` with alpha={alpha} leaves no channel in a group of the little branch: "
            f"increase `width_per_group`. Received: width_per_group={self.width_per_group}",
        )
        groups = 2 * (self.cardinality if self.block == "bottleneck" else 1)
        yield (
            self.attention == "sk_split" and any(self.width(p) % groups for p in thin),
            f'attention="sk_split" halves the input of the 3x3 convolutions, which alpha={alpha} '
            f"leaves too narrow for groups of {groups // 2} in the little branch.",
        )

    @property
    def bias_before_norm(self):
        """Whether a convolution has a bias that a batch norm follows."""
        return self.use_bias and not self.preactivation

    @property
    def pool(self):
        """What follows the stem, also where `stem_pool` leaves it to the stem."""
        return self.stem_pool or ("none" if self.stem == "cifar" else "max")

    @property
    def widths(self):
        """Channels of the 3x3 convolution in each stage."""
        return tuple(self.width(planes) for planes in self.filters)

    def width(self, planes):
        """Channels of the 3x3 convolution in a block of that many planes.

        A bottleneck's are `floor(planes * d / 64) * C`. The other kinds of middle take the
        width at which a block costs as much as that bottleneck.
        """
        if self.block == "basic":
            return planes
        d = planes * self.width_per_group // 64
        if self.block in ("bottleneck", "multi_dilation"):
            return d * self.cardinality
        ends = 2 * EXPANSION[self.block] * planes
        target = self.cardinality * d * (ends + 9 * d)
        if self.block == "separable":
            return _nearest_width(target, lambda width: width * (ends + 9 + width))
        # half of the groups take 25 multiply-adds a channel pair and half 9
        c = self.cardinality
        return c * _nearest_width(target, lambda width: c * width * (ends + 17 * width))

    @property
    def outputs(self):
        """Channels at the end of each stage."""
        return tuple(planes * EXPANSION[self.block] for planes in self.filters)

    @property
    def strides(self):
        """The stride of each stage, taken in its first or last block by `stride_block`."""
        later = (2,) * (len(self.blocks) - 1)
        return (1, *later) if self.stride_block == "first" else (*later, 1)

    @property
    def native_size(self):
        """32 for the nets of 32x32 images, 224 for the others."""
        return 32 if self.stem == "cifar" else 224

    @property
    def smallest_input(self):
        """Where one pixel is left at the end."""
        return self.total_stride

    @property
    def total_stride(self):
        """Image pixels to one pixel of the last feature map."""
        stem = STEM_STRIDES[self.stem] * STEM_POOL_STRIDES[self.pool]
        return stem * math.prod(self.strides)

    @property
    def depth(self):
        """Layers with weights on the main path: the number in a network's name."""
        per_block = {"basic": 2}.get(self.block, 3)
        return per_block * sum(self.blocks) + 2


def width_for_cardinality(cardinality, planes=64, base_width=64):
    """Return the width per group that keeps a bottleneck's cost at another cardinality.

    The cost of the first stage's bottleneck, `C * (2 * 4 * planes * d + 9 * d * d)`
    multiply-adds a pixel, is held at that of one group of `base_width` channels (the ResNeXt
    paper, section 3.3 and table 2).

    Args:
        cardinality: int, the number of groups C.
        planes: int, the planes of the stage; its block has `4 * planes` inputs and outputs.
        base_width: int, the width d of the bottleneck of one group whose cost is kept.

    Returns:
        int, the width d nearest in cost, at least 1.

    Raises:
        ValueError: if a number is not a positive integer.

    Example:

    >>> [width_for_cardinality(c) for c in (1, 2, 4, 8, 32)]
    [64, 40, 24, 14, 4]
    """
    for name, value in (
        ("cardinality", cardinality),
        ("planes", planes),
        ("base_width", base_width),
    ):
        _positive_integers(name, (value,))

    def cost(groups, width):
        return groups * (8 * planes * width + 9 * width * width)

    return _nearest_width(cost(1, base_width), lambda width: cost(cardinality, width))


def _nearest_width(target, cost):
    """The width, at least 1, whose cost is nearest to the target; the cost rises with it."""
    width = 1
    while cost(width + 1) <= target:
        width += 1
    return min((width, width + 1), key=lambda w: abs(cost(w) - target))


def _positive_integers(name, values):
    values = tuple(values) if isinstance(values, (list, tuple)) else (values,)
    valid = all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
    if not values or not valid:
        raise ValueError(f"`{name}` needs positive integers. Received: {name}={values}")
    return values


def _in_range(name, value, low, high):
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not low <= value < high:
        raise ValueError(f"`{name}` needs {low} <= {name} < {high}. Received: {name}={value!r}")


def _integer_from_zero(name, value):
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"`{name}` must be an integer, 0 or more. Received: {name}={value!r}")
