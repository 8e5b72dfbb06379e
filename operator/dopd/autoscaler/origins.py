"""The load as it was seen every six minutes of the past, and what came within the lead after that.

Voices are judged at these times. All that is here is computed from the minutes, so that a process that has just read
a history knows what one that ran all along knows.
"""

from dataclasses import dataclass
from math import ceil, exp

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.minutes import MINUTE_SECONDS, Minutes
from dopd.autoscaler.tuning import Tuning

Floats = npt.NDArray[np.float64]

ORIGIN_MINUTES = 6
ORIGIN_SECONDS = ORIGIN_MINUTES * MINUTE_SECONDS
DAY_ORIGINS = 240
WIDER_MINUTES = 1
"""A day and a week ago, the load is looked at from so long before to so long after the lead."""
PERIODS = {"day": DAY_ORIGINS, "week": 7 * DAY_ORIGINS}
"""Voices that say what came so many origins before."""


def judged_lead(lead_seconds: float) -> float:
    """The lead that voices are judged at: no shorter than from one origin to the next.

    Between two shorter ones a jump would be seen by no origin, and whether a voice that knows the morning is believed
    would hang on the minute at which it comes.
    """
    return max(lead_seconds, ORIGIN_SECONDS)


@dataclass(frozen=True)
class Origins:
    """Of origins `first`, `first` + 1, ...; origin k is at k * 360 s. Every array has one value for each.

    Attributes:
        first: number of the first.
        load: of the minute before it, in busy workers; NaN where it is not known.
        level: slow mean of the load.
        peak: busiest minute within the lead after it; NaN until that is over, or where no minute of it is known.
        greatest: busiest minute that was seen before it.
        seasons: what each voice of PERIODS names, NaN where it knows nothing.
    """

    first: int
    load: Floats
    level: Floats
    peak: Floats
    greatest: Floats
    seasons: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.load)

    @property
    def ended(self) -> int:
        """How many leads are over."""
        known = np.flatnonzero(np.isfinite(self.peak))
        return int(known[-1]) + 1 if len(known) else 0

    @property
    def seconds(self) -> Floats:
        """When each was."""
        return np.arange(self.first, self.first + len(self), dtype=float) * ORIGIN_SECONDS


def origins_of(minutes: Minutes, lead_seconds: float, tuning: Tuning) -> Origins:
    """All origins that the minutes tell of, the newest one at the end of the last full six minutes."""
    first = ceil((minutes.first + 1) / ORIGIN_MINUTES)
    count = max(0, minutes.next // ORIGIN_MINUTES - first + 1)
    values = minutes.values
    at = (first + np.arange(count)) * ORIGIN_MINUTES - minutes.first  # index of the first minute after the origin
    lead = max(1, ceil(lead_seconds / MINUTE_SECONDS - 0.01))
    ahead = _busiest(values, lead)
    around = _busiest(values, lead + 2 * WIDER_MINUTES)
    load = values[at - 1] if count else np.empty(0)
    over = at + lead <= len(values)
    peak = np.where(over, ahead[np.minimum(at, len(ahead) - 1)], np.nan) if len(ahead) else np.full(count, np.nan)
    greatest = np.fmax.accumulate(values)[at - 1] if count else np.empty(0)
    level = _levels(values, at, tuning)
    return Origins(
        first,
        load,
        level,
        peak,
        greatest,
        {name: _before(around, at - period * ORIGIN_MINUTES - WIDER_MINUTES) for name, period in PERIODS.items()},
    )


def _busiest(values: Floats, window: int) -> Floats:
    """The greatest of the `window` values from each on; NaN where none of them is known."""
    if len(values) < window:
        return np.empty(0)
    # Powers of two, then two that overlap: log(window) passes and not window.
    found, width = values, 1
    while 2 * width <= window:
        found = np.fmax(found[: len(found) - width], found[width:])
        width *= 2
    return np.fmax(found[: len(values) - window + 1], found[window - width :])


def _before(around: Floats, at: npt.NDArray[np.int64]) -> Floats:
    inside = (at >= 0) & (at < len(around))
    if not inside.any():
        return np.full(len(at), np.nan)
    return np.where(inside, around[np.clip(at, 0, len(around) - 1)], np.nan)


def _levels(values: Floats, at: npt.NDArray[np.int64], tuning: Tuning) -> Floats:
    share = 1 - exp(-ORIGIN_SECONDS / tuning.level_seconds)
    known = np.isfinite(values)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, values, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    starts = np.maximum(at - ORIGIN_MINUTES, 0)
    told = counts[at] - counts[starts]
    means = (sums[at] - sums[starts]) / np.maximum(told, 1)
    levels, level = np.empty(len(at)), float("nan")
    for i, (mean, number) in enumerate(zip(means.tolist(), told.tolist(), strict=True)):
        if number:
            level = mean if level != level else level + share * (mean - level)
        levels[i] = level
    return levels
