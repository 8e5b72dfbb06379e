"""What the load was, bin by bin: the history that a forecast begins with."""

from collections.abc import Sequence
from dataclasses import dataclass

from dopd.planning.demand import Demand

FALSE_RISE = 100.0
AROUND_BINS = 5
"""A bin that is so many times the busiest of those around it, of which some are not empty, is a counter that fell."""


@dataclass(frozen=True)
class PastLoad:
    """Load of one bin of the past.

    Attributes:
        end_seconds: end of the bin, seconds since the epoch.
        seconds: width of the bin.
        demand: what arrived in it. Where no request told lengths, those of the nearest bin that knows them; a bin
            without requests has rate 0 and such lengths. All lengths are 0 only where no bin at all knows any.
    """

    end_seconds: float
    seconds: float
    demand: Demand


def believable(past: Sequence[PastLoad]) -> list[PastLoad]:
    """The past without bins that stand alone, far above all around them.

    The newest bin is left out too while it does: the next ones tell whether the load has risen.
    """
    rates = [one.demand.requests_per_second for one in past]
    found = []
    for i, one in enumerate(past):
        around = rates[max(0, i - AROUND_BINS) : i] + rates[i + 1 : i + 1 + AROUND_BINS]
        busiest = max(around, default=0.0)
        if not busiest or rates[i] <= FALSE_RISE * busiest:
            found.append(one)
    return found
