"""What the load was, bin by bin: the history that a forecast begins with."""

from dataclasses import dataclass

from dopd.planning.demand import Demand


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
