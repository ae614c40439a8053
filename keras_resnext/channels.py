"""Numbers of channels that layers and counts of them have to agree about. Imports no Keras."""

import math


def reduced_channels(channels: int, ratio: float, divisor: int, keep: float = 0.0) -> int:
    """Return the multiple of `divisor` nearest to `channels * ratio`.

    Args:
        channels: int, the channels before the reduction.
        ratio: float, the share of them that is wanted.
        divisor: int, also the least that is returned.
        keep: float, the share of what was wanted below which rounding goes up, not down.

    Example:
    >>> reduced_channels(256, 1 / 16, 8), reduced_channels(64, 1 / 16, 8)
    (16, 8)
    """
    wanted = channels * ratio
    nearest = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return nearest if nearest >= keep * wanted else nearest + divisor


def neighbors(channels: int) -> int:
    """Return how many channels a gate of ECA sees, by the rule of its paper.

    Example:
    >>> neighbors(256), neighbors(2048)
    (5, 7)
    """
    return max(int((math.log2(channels) + 1) / 2) | 1, 3)
