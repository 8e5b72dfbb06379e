"""What a forecaster of the load says the busiest minute within the lead will be, minute by minute."""

from collections.abc import Sequence
from math import ceil
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dopd.autoscaler.minutes import MINUTE_SECONDS, Minutes
from dopd.autoscaler.origins import ORIGIN_MINUTES
from dopd_forecasting import Forecast, Series, Trust

Floats = npt.NDArray[np.float64]

UNIT = "busy workers"
REPLAYED_MINUTES = 180
"""Of a history, so many are forecast as if they were yet to come, so that errors are known at the start."""
FITTED_MINUTES = 14 * 1440
"""What a forecaster keeps by itself; more would be looked at and forgotten."""
MOST_LEADS = 12


class Forecasts(Protocol):
    """What `dopd_forecasting.Forecaster` does; it may as well stand for one in another process."""

    @property
    def ready(self) -> bool:
        """Whether what was learnt from the history can be used: a fit may be done elsewhere meanwhile."""

    def fit(self, series: Series) -> None:
        """Learn from a history, forgetting whatever was learnt before."""

    def update(self, series: Series) -> None:
        """Take in newer bins."""

    def predict(
        self, horizons_seconds: Sequence[float], quantiles: Sequence[float] = ..., now_seconds: float | None = None
    ) -> Forecast:
        """Forecast the load at some leads from the newest bin on."""

    def trust(self, now_seconds: float) -> Trust:
        """Whether to act upon it."""


class Foreseen:
    """The voice of a forecaster.

    Args:
        forecaster: of the busy workers of the role, in bins of a minute.
        lead_seconds: until a decision takes effect.
    """

    def __init__(self, forecaster: Forecasts, lead_seconds: float) -> None:
        self._forecaster = forecaster
        self.lead_seconds = lead_seconds
        self._next: int | None = None
        self._said: dict[int, float] = {}
        self._began = False
        self.now = float("nan")

    def learn(self, minutes: Minutes) -> None:
        """Begin anew from all minutes."""
        self._next, self._began, self._said, self.now = None, False, {}, float("nan")
        self.follow(minutes)

    def follow(self, minutes: Minutes) -> bool:
        """Take in the minutes that are over since, and say what is expected at each origin and after the last.

        Returns:
            Whether the past is told only now, as the forecaster has just become ready.
        """
        if self._next is None:
            self._next = max(minutes.first, minutes.next - REPLAYED_MINUTES)
            self._forecaster.fit(_series(minutes, max(minutes.first, self._next - FITTED_MINUTES), self._next))
        if not self._forecaster.ready:
            return False
        began, self._began = self._began, True
        for minute in range(max(self._next, minutes.first), minutes.next):
            self._forecaster.update(_series(minutes, minute, minute + 1))
            self._next = minute + 1
            last = self._next == minutes.next
            if last or self._next % ORIGIN_MINUTES == 0:
                self.now = self._busiest(self._next * MINUTE_SECONDS)
                if self._next % ORIGIN_MINUTES == 0:
                    self._said[self._next // ORIGIN_MINUTES] = self.now
        return not began

    def trust(self, now_seconds: float) -> Trust | None:
        """Verdict on the forecaster; None before it is ready."""
        return self._forecaster.trust(now_seconds) if self._began else None

    def at(self, first: int, count: int) -> Floats:
        """What was said at `count` origins from `first` on, NaN where nothing was; what is older is forgotten."""
        self._said = {origin: said for origin, said in self._said.items() if origin >= first}
        told = np.full(count, np.nan)
        for origin, said in self._said.items():
            if origin < first + count:
                told[origin - first] = said
        return told

    def _busiest(self, now_seconds: float) -> float:
        if not self._forecaster.trust(now_seconds).trusted:
            return float("nan")
        bins = max(1, ceil(self.lead_seconds / MINUTE_SECONDS - 0.01))
        leads = np.unique(np.linspace(1, bins, min(bins, MOST_LEADS)).round())
        return float(self._forecaster.predict((leads * MINUTE_SECONDS).tolist(), (0.5,), now_seconds).mean.max())


def _series(minutes: Minutes, start: int, stop: int) -> Series:
    return Series(minutes.values[start - minutes.first : stop - minutes.first], start, MINUTE_SECONDS, UNIT)
