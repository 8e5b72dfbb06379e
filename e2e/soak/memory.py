"""Whether the memory of the operator's processes stayed flat. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from statistics import fmean, median

WARM_UP_SECONDS = 360.0
"""Left out at a process' start: caches fill, and the forecaster's history grows for its first 300 s."""
JUDGED_SECONDS = 480.0
"""A process is judged by so many seconds beyond that at least."""
FLAT_SHARE_PER_HOUR = 0.10
"""Memory is flat where it grows by less than this share of its mean in an hour of the clock. It would take ten hours to
double, at a pass each three seconds, five times as often as by default; and a smaller slope can not be told from what
an allocator gives back and takes within some minutes."""


@dataclass(frozen=True)
class Reading:
    """The resident memory of the operator at one moment.

    Attributes:
        at_seconds: since the load began.
        process: which one it was.
        mib: its memory.
    """

    at_seconds: float
    process: str
    mib: float


@dataclass(frozen=True)
class Trend:
    """How the memory of one process moved, its warm-up left out.

    Attributes:
        process: which one.
        seconds: between its first and last reading that count.
        readings: that count.
        mean_mib: of them.
        mib_per_hour: slope, by Theil and Sen.
    """

    process: str
    seconds: float
    readings: int
    mean_mib: float
    mib_per_hour: float

    @property
    def share_per_hour(self) -> float:
        """The slope as a share of the mean."""
        return self.mib_per_hour / self.mean_mib

    @property
    def flat(self) -> bool:
        """Whether it grows by less than the bound. What shrinks is no leak."""
        return self.share_per_hour < FLAT_SHARE_PER_HOUR


def slope(points: Sequence[tuple[float, float]]) -> float:
    """The median of the slopes between all pairs (Theil and Sen): a few jumps do not move it.

    Args:
        points: (x, y), at least two, of different x.
    """
    return median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))


def trends(readings: Iterable[Reading]) -> list[Trend]:
    """Of each process that lived long enough to be judged, in order.

    Args:
        readings: in order of time.
    """
    by_process: dict[str, list[Reading]] = {}
    for reading in readings:
        by_process.setdefault(reading.process, []).append(reading)
    found = []
    for process, own in by_process.items():
        counted = [each for each in own if each.at_seconds >= own[0].at_seconds + WARM_UP_SECONDS]
        seconds = counted[-1].at_seconds - counted[0].at_seconds if counted else 0.0
        if seconds >= JUDGED_SECONDS:
            mean = fmean(each.mib for each in counted)
            by_hour = slope([(each.at_seconds / 3600, each.mib) for each in counted])
            found.append(Trend(process, seconds, len(counted), mean, by_hour))
    return found


def restarts(readings: Sequence[Reading]) -> list[tuple[float, float]]:
    """The moments at which another process was there, as the last look at one and the first at the next, seconds."""
    return [(one.at_seconds, two.at_seconds) for one, two in pairwise(readings) if one.process != two.process]
