"""What a cumulative histogram tells: moments and shares. Pure.

A histogram is a mapping from upper bound (`inf` included) to the cumulative count, or to its rate.
"""

import math
from collections.abc import Mapping

Histogram = Mapping[float, float]
LARGEST_BOUND = 1e12
"""Beyond it a bound is as good as none: no length and no time is as large, and its square loses all others."""


def second_moment(buckets: Histogram, mean: float) -> float:
    """Mean of the squared value behind a histogram, given the exact mean.

    Within a bucket values are taken as uniform; beyond the last finite bound as equal to it. The histogram tells the
    relative spread (second moment over squared mean), the exact mean its scale.
    """
    total = first = second = previous = low = 0.0
    for bound, cumulative in sorted(buckets.items()):
        weight = max(0.0, cumulative - previous)
        high = low if bound > LARGEST_BOUND else max(low, bound)
        total += weight
        first += weight * (low + high) / 2
        second += weight * (low * low + low * high + high * high) / 3
        previous, low = max(previous, cumulative), high
    square = (first / total) ** 2 if total > 0 else 0.0
    if square <= 0:
        return mean * mean
    spread = max(1.0, (second / total) / square)
    return spread * mean * mean


def share_above(buckets: Histogram, limit: float) -> float | None:
    """Share of the values above a limit, 0 to 1; None without any value.

    Within the bucket of the limit values are taken as uniform; beyond the last finite bound as above the limit.
    """
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    low = below = 0.0
    for bound in bounds:
        cumulative = min(total, max(below, buckets[bound]))
        if bound >= limit:
            part = 0.0 if math.isinf(bound) else (limit - low) / (bound - low)
            return max(0.0, 1 - (below + part * (cumulative - below)) / total)
        low, below = bound, cumulative
    return 0.0
