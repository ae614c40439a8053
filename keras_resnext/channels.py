"""Numbers of channels that layers and their counts must agree on. Nothing here imports Keras."""

import math


def reduced_channels(channels: int, ratio: float, divisor: int, keep: float = 0.0) -> int:
    """Return the multiple of `divisor` nearest to `channels * ratio`, at least `divisor`.

    It is rounded up if rounding down would leave less than the share `keep`.
    """
    wanted = channels * ratio
    nearest = max(divisor, int(wanted + divisor / 2) // divisor * divisor)
    return nearest if nearest >= keep * wanted else nearest + divisor


def neighbors(channels: int) -> int:
    """Return how many channels a gate of ECA sees, by the rule of its paper."""
    return max(int((math.log2(channels) + 1) / 2) | 1, 3)
