"""Which bins to believe: one that stands alone, far from all around it, moves no level.

A counter that seems to start anew when it did not, a clock that jumps or a pod that two jobs scrape for a moment puts
the count of weeks into one bin. No smoother survives that: a level follows a share of every innovation, whatever its
size. So innovations are bounded before any model sees them (robust filtering: Masreliez and Martin, Robust Bayesian
estimation for the linear model and robustifying the Kalman filter, IEEE Trans. Automatic Control 22, 1977). The bin is
withheld until the next one tells: if that lies beyond the same bound, the load has moved and is believed from then on;
if not, the bin stays unknown. So a real step is followed one bin later, and a false bin never.

The bound asks three things of a bin: to be more than four times the median before it and the newest bin that was
believed; to be further from that median than three times what all but the furthest twentieth of the newest bins were;
and to be higher than the load has been for a day: where it has been, it may be again. A fall is believed at once:
services do stop, and a plan that heeds the present load too gives workers up slowly.

Distances are taken between square roots, as the noise of a count grows like that. What was doubted counts among them: a
service whose load comes in bursts is believed when it bursts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from statistics import median

LEVEL_BINS = 10  # measured bins whose median a new one is compared with
KEPT_DISTANCES = 400  # newest bins whose distances tell what is usual
USUAL_SHARE = 0.95  # of those, the ones that are not counted as far
BEYOND_USUAL = 3.0  # times further than usual: about six standard deviations where the noise is normal
BEYOND_LEVEL = 4.0  # within this factor of the level or of the newest bin it is believed; a pause begins there, too


@dataclass(frozen=True)
class Screened:
    """What to make of one bin.

    Attributes:
        seen: what a model may learn from; NaN for a bin that is withheld or was not measured.
        bounded: the bin, or where it was withheld the bound that it crossed: what errors are counted against, so that
            one bin can neither hide nor make more than one large error.
    """

    seen: float
    bounded: float

    @property
    def doubted(self) -> bool:
        """Whether the bin was measured and is withheld."""
        return math.isnan(self.seen) and not math.isnan(self.bounded)


class Screen:
    """Looks at the bins of one series in their order. Scale does not matter; missing bins are passed on.

    Args:
        day_bins: bins of a day.
    """

    def __init__(self, day_bins: int) -> None:
        self._day: deque[float] = deque(maxlen=day_bins)  # what was believed
        self._levels: deque[float] = deque(maxlen=LEVEL_BINS)
        self._distances: deque[float] = deque(maxlen=KEPT_DISTANCES)
        self._newest = math.nan  # that was believed
        self._beyond = False  # whether the newest measured bin lay beyond the bound

    def look(self, value: float) -> Screened:
        """Judge the next bin; NaN is a missing one."""
        if math.isnan(value):
            return Screened(value, value)
        if len(self._levels) < LEVEL_BINS:
            self._levels.append(value)
            self._believe(value)
            return Screened(value, value)
        level = median(self._levels)
        root = math.sqrt(level)
        high = max(level, self._newest) * BEYOND_LEVEL
        if value > high:  # the rest takes most of the time, and few bins come so far
            high = max(high, (root + BEYOND_USUAL * self._usual()) ** 2)
        beyond = value > high and value > max(self._day)
        believed = self._beyond or not beyond
        bound = max(high, *self._day) if beyond else value
        self._beyond = beyond
        self._distances.append(abs(math.sqrt(value) - root))
        self._levels.append(value)
        if believed:
            self._believe(value)
        return Screened(value, value) if believed else Screened(math.nan, bound)

    def _believe(self, value: float) -> None:
        self._newest = value
        self._day.append(value)

    def _usual(self) -> float:
        """The distance that all but the furthest bins keep to; at least one bin is left out."""
        if not self._distances:
            return 0.0
        ordered = sorted(self._distances)
        return ordered[max(0, min(len(ordered) - 2, math.ceil(USUAL_SHARE * len(ordered)) - 1))]
