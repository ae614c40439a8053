"""What joins a block's input to its output: each kind is a row of `SHORTCUTS`.

Nothing here imports Keras.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from keras_resnext.models.primitives import Map, Primitives

if TYPE_CHECKING:
    from keras_resnext.models.blocks import Place


@dataclass(frozen=True, kw_only=True)
class Shortcut:
    """A way to join a block's input to its output.

    Args:
        make: function `(net, x, active, place)` that returns the shortcut of a block, or None if
            it has none. `x` is the block's input and `active` what a projection takes: the same,
            or in a pre-activation block the normalized input.
        timm: dict from our name of a layer inside a block to timm's, `{}` if it has no weights,
            None if timm has no such network.
        projects: bool, whether it can change the number of channels freely.
    """

    make: Callable[..., Map | None]
    timm: Mapping[str, str] | None
    projects: bool = True


def identity(net: Primitives, x: Map, place: "Place") -> Map:
    """x, subsampled if the block has a stride."""
    if place.strides == 1:
        return x
    return net.max_pool(x, 1, place.strides, f"{place.name}_shortcut_subsample")


def projection(net: Primitives, x: Map, place: "Place", strides: int) -> Map:
    """[1x1, BN](x), in a pre-activation block without BN."""
    name = f"{place.name}_shortcut"
    y = net.convolution(x, net.config.channels(place.planes), 1, name, strides)
    return y if net.config.preactivation else net.norm_drop(y, name, place.drop_block)


def zero_padded(net: Primitives, x: Map, active: Map, place: "Place") -> Map:
    """The identity, with zero channels appended."""
    missing = net.config.channels(place.planes) - net.channels(x)
    x = identity(net, x, place)
    return net.zero_channels(x, missing, f"{place.name}_shortcut_zeros") if missing else x


def projected(net: Primitives, x: Map, active: Map, place: "Place") -> Map:
    """The identity, or [1x1, BN](x) if the number of channels changes."""
    if _changes_channels(net, x, place):
        return projection(net, active, place, place.strides)
    return identity(net, x, place)


def always_projected(net: Primitives, x: Map, active: Map, place: "Place") -> Map:
    """[1x1, BN](x)."""
    return projection(net, active, place, place.strides)


def averaged(net: Primitives, x: Map, active: Map, place: "Place") -> Map:
    """The identity, or [mean of 2x2 instead of the stride, 1x1, BN](x) if a shape changes."""
    if place.strides > 1:
        name = f"{place.name}_shortcut_pool"
        active = net.average_pool(active, place.strides, place.strides, name, padding="same")
        return projection(net, active, place, 1)
    return projected(net, x, active, place)


def averaged_3x3(net: Primitives, x: Map, active: Map, place: "Place") -> Map:
    """As `averaged`, with the mean of 3x3 that counts zeros around the image (Big-Little's)."""
    if place.strides > 1:
        name = f"{place.name}_shortcut"
        active = net.zero_pad(active, 1, f"{name}_pad")
        active = net.average_pool(active, 3, place.strides, f"{name}_pool")
        return projection(net, active, place, 1)
    return projected(net, x, active, place)


def none(net: Primitives, x: Map, active: Map, place: "Place") -> None:
    """Nothing."""


def _changes_channels(net: Primitives, x: Map, place: "Place") -> bool:
    return place.projects or net.channels(x) != net.config.channels(place.planes)


_TIMM = {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}

SHORTCUTS = {
    "A": Shortcut(make=zero_padded, timm={}, projects=False),
    "B": Shortcut(make=projected, timm=_TIMM),
    "C": Shortcut(make=always_projected, timm=_TIMM),
    "D": Shortcut(
        make=averaged, timm={"shortcut": "downsample.1", "shortcut_norm": "downsample.2"}
    ),
    "D3": Shortcut(make=averaged_3x3, timm=None),
    "none": Shortcut(make=none, timm={}, projects=False),
}
