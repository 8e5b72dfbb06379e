"""Models without parameters: the floor that every other model has to beat."""

from __future__ import annotations

import math
from collections import deque

import numpy as np

from dopd_forecasting.models.base import Horizons, Model, NotEnoughHistory
from dopd_forecasting.series import FloatArray, Series

STEP_MEMORY = 0.98  # of the running mean square of the change from bin to bin
DAY_SECONDS = 86_400.0
SEASON_PROOF_BINS = 100  # a quiet night makes any season look right; the day after tells


class _WithSteps(Model):
    """Keeps the last value and how far the load moves from one bin to the next."""

    def _fit(self, series: Series) -> None:
        self._last = math.nan
        self._mean_square_step = 0.0
        for value in series.values:
            self._observe(float(value))

    def _observe(self, value: float) -> None:
        if math.isnan(value):
            return
        if not math.isnan(self._last):
            step = value - self._last
            self._mean_square_step += (1 - STEP_MEMORY) * (step * step - self._mean_square_step)
        self._last = value

    def _sd(self, horizons: Horizons) -> FloatArray:
        return np.sqrt(self._mean_square_step * np.array(horizons, dtype=float))


class LastValue(_WithSteps):
    """The newest measured bin, for every lead."""

    name = "last_value"

    def _mean(self, horizons: Horizons) -> FloatArray:
        return np.full(len(horizons), self._last)


class MovingAverage(_WithSteps):
    """The mean of the newest measured bins."""

    def __init__(self, bins: int = 10) -> None:
        super().__init__()
        self.name = "moving_average"
        self._window: deque[float] = deque(maxlen=bins)

    def _fit(self, series: Series) -> None:
        self._window.clear()
        super()._fit(series)

    def _observe(self, value: float) -> None:
        super()._observe(value)
        if not math.isnan(value):
            self._window.append(value)

    def _mean(self, horizons: Horizons) -> FloatArray:
        return np.full(len(horizons), sum(self._window) / len(self._window))


class SeasonalNaive(_WithSteps):
    """The load one period earlier; the newest value where that bin is missing."""

    proof_bins = SEASON_PROOF_BINS

    def __init__(self, period_seconds: float = DAY_SECONDS) -> None:
        super().__init__()
        self.name = "seasonal_naive"
        self._period_seconds = period_seconds

    def check_history(self, series: Series) -> None:
        """See Model."""
        super().check_history(series)
        if len(series) < self._period(series):
            raise NotEnoughHistory(f"{self.name} needs a period of {self._period(series)} bins and got {len(series)}")

    def _period(self, series: Series) -> int:
        return max(1, round(self._period_seconds / series.bin_seconds))

    def _fit(self, series: Series) -> None:
        self._cycle: deque[float] = deque(maxlen=self._period(series))
        super()._fit(series)

    def _observe(self, value: float) -> None:
        super()._observe(value)
        self._cycle.append(value)

    def _mean(self, horizons: Horizons) -> FloatArray:
        period = len(self._cycle)
        past = np.array([self._cycle[(horizon - 1) % period] for horizon in horizons])
        return np.where(np.isnan(past), self._last, past)
