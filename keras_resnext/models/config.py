"""Frozen, self-validating descriptions of a network. Nothing here imports Keras."""

import dataclasses
import math

from keras_resnext.errors import one_of, unknown

EXPANSION = {"basic": 1, "bottleneck": 4}
STEM_STRIDES = {"imagenet": 4, "cifar": 1}


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
    """A residual network: ResNet, ResNeXt, their plain and pre-activation kin.

    Attributes:
        blocks: residual blocks in each stage.
        filters: planes of each stage. A stage's output has `planes` channels with basic
            blocks and `4 * planes` with bottlenecks; each stage after the first halves the
            image.
        block: `"basic"` (two 3x3) or `"bottleneck"` (1x1, 3x3, 1x1).
        cardinality: groups of the bottleneck's 3x3 convolution, the paper's C.
        width_per_group: the paper's d at 64 planes. The 3x3 convolution is
            `floor(planes * d / 64) * C` channels wide.
        stem: `"imagenet"` (7x7 stride 2, 3x3 max pool stride 2) or `"cifar"` (3x3).
        stem_filters: channels after the stem.
        shortcut: what joins a block's input to its output where their shapes differ. `"A"`:
            the identity, subsampled and with zero channels appended; `"B"`: a 1x1 convolution;
            `"C"`: a 1x1 convolution in every block. `"none"`: no block has a shortcut.
        stride_on: which convolution of a bottleneck is strided, `"3x3"` (ResNeXt,
            torchvision, timm) or `"1x1"`, the first (the ResNet paper, keras.applications).
        stride_block: which block of a stage is strided, the `"first"`, or the `"last"` of the
            stage before (keras.applications' V2).
        preactivation: normalization and activation before each convolution (ResNet V2).
        zero_gamma: start each block's last batch norm at zero, so that it begins as its
            shortcut (Goyal et al., 2017). Not with pre-activation, whose blocks end in a
            convolution.
        use_bias, norm_momentum, norm_epsilon, dropout, l2: see `NetworkConfig`
            (keras.applications' V1 has biases).

    Raises:
        ValueError: for a value or a combination that describes no network.

    References:
        [He et al., 2015](https://arxiv.org/abs/1512.03385),
        [He et al., 2016](https://arxiv.org/abs/1603.05027),
        [Xie et al., 2017](https://arxiv.org/abs/1611.05431)

    Example:

    >>> ResNetConfig(cardinality=32, width_per_group=4).group_widths
    (128, 256, 512, 1024)
    """

    blocks: tuple[int, ...] = (3, 4, 6, 3)
    filters: tuple[int, ...] = (64, 128, 256, 512)
    block: str = "bottleneck"
    cardinality: int = 1
    width_per_group: int = 64
    stem: str = "imagenet"
    stem_filters: int = 64
    shortcut: str = "B"
    stride_on: str = "3x3"
    stride_block: str = "first"
    preactivation: bool = False
    zero_gamma: bool = False

    def __post_init__(self):
        super().__post_init__()
        for field in ("blocks", "filters"):
            object.__setattr__(self, field, _positive_integers(field, getattr(self, field)))
        if len(self.blocks) != len(self.filters):
            raise ValueError(
                "`blocks` and `filters` need one number a stage each. "
                f"Received: blocks={self.blocks}, filters={self.filters}"
            )
        for field in ("cardinality", "width_per_group", "stem_filters"):
            _positive_integers(field, (getattr(self, field),))
        one_of("block", self.block, EXPANSION)
        one_of("stem", self.stem, STEM_STRIDES)
        one_of("shortcut", self.shortcut, ("A", "B", "C", "none"))
        one_of("stride_on", self.stride_on, ("3x3", "1x1"))
        one_of("stride_block", self.stride_block, ("first", "last"))
        for field in ("preactivation", "zero_gamma"):
            one_of(field, getattr(self, field), (True, False))
        self._check_combinations()

    def _check_combinations(self):
        if self.block == "basic" and (self.cardinality, self.width_per_group) != (1, 64):
            raise ValueError(
                "A basic block has no groups (the ResNeXt paper, section 3.3): use "
                'block="bottleneck", or cardinality=1 and width_per_group=64. Received: '
                f"cardinality={self.cardinality}, width_per_group={self.width_per_group}"
            )
        if self.block == "basic" and self.stride_on == "1x1":
            raise ValueError('A basic block has no 1x1 convolution: use stride_on="3x3".')
        if self.block == "bottleneck" and min(self.group_widths) < 1:
            raise ValueError(
                f"width_per_group={self.width_per_group} leaves no channel in a group of the "
                f"stage with {min(self.filters)} planes: floor(planes * width_per_group / 64) "
                "must be at least 1."
            )
        if self.preactivation and self.zero_gamma:
            raise ValueError(
                "`zero_gamma` is the last batch norm of a block, which a pre-activation block "
                "does not end in: set preactivation=False or zero_gamma=False."
            )

    @property
    def group_widths(self):
        """Channels of the 3x3 convolution in each stage, `floor(planes * d / 64) * C`."""
        return tuple(p * self.width_per_group // 64 * self.cardinality for p in self.filters)

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
        return STEM_STRIDES[self.stem] * math.prod(self.strides)

    @property
    def depth(self):
        """Layers with weights on the main path: the number in a network's name."""
        per_block = {"basic": 2, "bottleneck": 3}[self.block]
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

    target = cost(1, base_width)
    root = -4 * planes + math.sqrt(16 * planes**2 + 9 * target / cardinality)
    below = max(1, math.floor(root / 9))
    return min((below, below + 1), key=lambda width: abs(cost(cardinality, width) - target))


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
