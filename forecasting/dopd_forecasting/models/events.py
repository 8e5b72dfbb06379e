"""Wall-clock events that the user knows of: a batch job, a launch, a holiday.

Cron expressions, time zones and daylight saving are the caller's: an event is given as windows in seconds, past
and to come. What an event does to the load is measured on the past windows; before the first, the user may say
what to expect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dopd_forecasting.models.base import Horizons
from dopd_forecasting.models.state_space import ExponentialLevel
from dopd_forecasting.series import FloatArray, Series

MIN_FACTOR, MAX_FACTOR = 0.02, 50.0


@dataclass(frozen=True)
class Event:
    """Something that changes the load by about the same factor each time.

    Attributes:
        name: what it is, for people.
        windows: start and end of each occurrence, in seconds since the epoch.
        expected_factor: load during the event relative to the load around it, until an occurrence has been
            measured.
    """

    name: str
    windows: tuple[tuple[float, float], ...]
    expected_factor: float = 1.0

    def __post_init__(self) -> None:
        for start, end in self.windows:
            if not start < end:
                raise ValueError(f"event {self.name!r}: the window from {start} to {end} ends before it begins")
        if not self.expected_factor > 0:
            raise ValueError(
                f"event {self.name!r}: expected_factor is {self.expected_factor}; expected a positive number"
            )

    def inside(self, bins: npt.NDArray[np.int64], bin_seconds: float) -> npt.NDArray[np.bool_]:
        """Whether the middle of each bin lies in a window."""
        middles = (bins + 0.5) * bin_seconds
        occurring: npt.NDArray[np.bool_] = np.any(
            [(start <= middles) & (middles < end) for start, end in self.windows], axis=0
        )
        return occurring


class ScheduledEvents(ExponentialLevel):
    """Exponential smoothing of the load as it would be without the events, times their factors at the lead."""

    name = "events"

    def __init__(self, events: Sequence[Event]) -> None:
        super().__init__()
        self._events = tuple(event for event in events if event.windows)

    def _fit(self, series: Series) -> None:
        self._bin_seconds = series.bin_seconds
        bins = np.arange(series.first_bin, series.next_bin)
        quiet = np.logical_not(np.any([e.inside(bins, series.bin_seconds) for e in self._events], axis=0))
        self._learnt = [self._measure(event, series, quiet & np.isfinite(series.values)) for event in self._events]
        super()._fit(replace(series, values=series.values / self._factors(bins)))

    def _measure(self, event: Event, series: Series, quiet: npt.NDArray[np.bool_]) -> float:
        """Median over the past windows of the load inside over the load just before."""
        ratios = []
        for start, end in event.windows:
            first = int(start / series.bin_seconds) - series.first_bin
            stop = int(np.ceil(end / series.bin_seconds)) - series.first_bin
            if first < 1 or stop > len(series):
                continue
            before = np.flatnonzero(quiet[:first])[-max(3, stop - first) :]
            during = series.values[first:stop]
            if len(before) and series.values[before].mean() > 0 and np.isfinite(during).any():
                ratios.append(float(np.nanmean(during) / series.values[before].mean()))
        factor = float(np.median(ratios)) if ratios else event.expected_factor
        return min(max(factor, MIN_FACTOR), MAX_FACTOR)

    def _factors(self, bins: npt.NDArray[np.int64]) -> FloatArray:
        factors = np.ones(len(bins))
        for event, factor in zip(self._events, self._learnt, strict=True):
            factors = np.where(event.inside(bins, self._bin_seconds), factors * factor, factors)
        return factors

    def _ahead(self, horizons: Horizons) -> FloatArray:
        assert self.next_bin is not None
        return self._factors(self.next_bin + np.array(horizons) - 1)

    def _observe(self, value: float) -> None:
        super()._observe(value / float(self._ahead((1,))[0]))

    def _mean(self, horizons: Horizons) -> FloatArray:
        return super()._mean(horizons) * self._ahead(horizons)

    def _sd(self, horizons: Horizons) -> FloatArray:
        return super()._sd(horizons) * self._ahead(horizons)
