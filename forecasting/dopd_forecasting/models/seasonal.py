"""Models of the day and the week.

Both say nothing until a whole day is known, and neither is believed because it is there: a season earns its
weight by measured skill, like every other model. On services without a rhythm it earns none.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from dopd_forecasting.models.base import Horizons, Model, NotEnoughHistory
from dopd_forecasting.models.naive import DAY_SECONDS, SEASON_PROOF_BINS
from dopd_forecasting.models.state_space import (
    FIT_BINS,
    MAX_EVALUATIONS,
    KalmanFilter,
    quiet_estimation,
    starting_bridged,
)
from dopd_forecasting.series import FloatArray, Series

WEEK_SECONDS = 7 * DAY_SECONDS
DAY_WAVES, WEEK_WAVES = 4, 3  # sine and cosine pairs
WEEKS_FOR_A_WEEK = 2  # history without which a week is not told from a trend

SHAPE_WIDTH_SECONDS = 3600.0  # the shape of the day is smoothed over so long
SHAPE_MEMORY = 0.7  # weight of a day relative to the day after it
RIDGE = 0.3  # pulls the share of the shape that is believed towards none
TRAINING_DAYS = 1
GRID = (1, 2, 3, 5, 8, 12, 20, 30, 60, 120, 240)  # leads in bins at which that share is measured


class FourierProfile(Model):
    """Waves of the day, and from two weeks on of the week, by least squares; an ARIMA(1, 1, 1) for the rest."""

    name = "fourier"
    heavy = True
    proof_bins = SEASON_PROOF_BINS

    def check_history(self, series: Series) -> None:
        """See Model."""
        super().check_history(series)
        day = DAY_SECONDS / series.bin_seconds
        if len(series) < day or day < 2 * DAY_WAVES + 1:
            raise NotEnoughHistory(f"{self.name} needs a day of bins and got {len(series)}")

    def _fit(self, series: Series) -> None:
        from statsmodels.regression.linear_model import OLS
        from statsmodels.tsa.statespace.sarimax import SARIMAX

        day = DAY_SECONDS / series.bin_seconds
        waves = [(day, count) for count in range(1, DAY_WAVES + 1)]
        if len(series) >= WEEKS_FOR_A_WEEK * 7 * day:
            waves += [(7 * day, count) for count in range(1, WEEK_WAVES + 1)]
        self._angles = np.array([2 * math.pi * count / period for period, count in waves])
        self._scale = float(np.nanmean(series.values)) or 1.0
        values = series.values / self._scale
        terms = self._terms(np.arange(series.first_bin, series.next_bin))
        known = np.isfinite(values)
        self._coefficients = np.asarray(OLS(values[known], terms[known]).fit().params)
        remainder = (values - terms @ self._coefficients)[-FIT_BINS:]
        with quiet_estimation():
            results = SARIMAX(remainder, order=(1, 1, 1)).fit(disp=False, maxfun=MAX_EVALUATIONS)
        self._filter = KalmanFilter.from_results(results)

    def _observe(self, value: float) -> None:
        self._filter.observe(value / self._scale - self._profile(0)[0])

    def _mean(self, horizons: Horizons) -> FloatArray:
        return (self._filter.mean(horizons) + self._profile(np.array(horizons) - 1)) * self._scale

    def _sd(self, horizons: Horizons) -> FloatArray:
        return self._filter.sd(horizons) * self._scale

    def _profile(self, ahead: int | npt.NDArray[np.int64]) -> FloatArray:
        assert self.next_bin is not None
        profile: FloatArray = self._terms(np.atleast_1d(self.next_bin + np.asarray(ahead))) @ self._coefficients
        return profile

    def _terms(self, bins: npt.NDArray[np.int64]) -> FloatArray:
        phases = np.outer(bins, self._angles)
        return np.hstack([np.ones((len(bins), 1)), np.sin(phases), np.cos(phases)])


class DayShape(Model):
    """The smoothed level of now, moved by a share of what the shape of the day does between now and the lead.

    The shape is a geometric mean of the days before, smoothed over an hour. How much of its movement to believe
    is measured per lead by a ridge regression over the newest day: close to one where days repeat, close to none
    where they do not.
    """

    name = "day_shape"
    heavy = True
    proof_bins = SEASON_PROOF_BINS
    refit_bins = 30  # its fit is cheap, and how far days repeat changes within a day

    def check_history(self, series: Series) -> None:
        """See Model."""
        super().check_history(series)
        day, half = self._sizes(series)
        if day < 4 * half or len(series) < day + day // 4:
            raise NotEnoughHistory(f"{self.name} needs {day + day // 4} bins and got {len(series)}")

    @staticmethod
    def _sizes(series: Series) -> tuple[int, int]:
        """Bins of a day, and of half the width over which its shape is smoothed."""
        day = round(DAY_SECONDS / series.bin_seconds)
        return day, max(1, round(SHAPE_WIDTH_SECONDS / series.bin_seconds / 2))

    def _fit(self, series: Series) -> None:
        from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

        day, half = self._sizes(series)
        values = series.values
        recent = starting_bridged(values[-FIT_BINS:])
        scale = float(np.nanmean(recent)) or 1.0
        with quiet_estimation():
            results = ExponentialSmoothing(recent / scale).fit(disp=False, maxfun=MAX_EVALUATIONS)
        self._alpha = float(results.params[0])
        self._errors = deque(np.abs(np.diff(values[np.isfinite(values)]))[-100:].tolist(), maxlen=100)
        smooth = _centred_mean(values, half)
        smooth[len(values) - half :] = np.nan  # their later half is not known yet
        shape = np.full(len(values) + day, np.nan)  # what earlier days say about each bin, and about the day to come
        for start in range(day, len(shape), day):
            stop = min(start + day, len(shape))
            before, seen = shape[start - day : stop - day], smooth[start - day : stop - day]
            shape[start:stop] = _blend(before, seen)
        levels = _levels(values, self._alpha)
        self._level = levels[-1]
        self._measure_shares(values, shape[: len(values)], levels, TRAINING_DAYS * day)
        self._half = half
        self._window: deque[float] = deque(values[-2 * half - 1 :].tolist(), maxlen=2 * half + 1)
        self._shape = np.roll(shape[-day:], series.next_bin % day)  # slot k: bins whose number is k modulo a day

    def _measure_shares(self, values: FloatArray, shape: FloatArray, levels: FloatArray, training: int) -> None:
        shares = []
        self._grid = [lead for lead in GRID if lead < len(values) // 4]
        for lead in self._grid:
            origins = np.arange(max(0, len(values) - training - lead), len(values) - lead)
            steps = shape[origins + lead] - shape[origins]
            moves = values[origins + lead] - levels[origins]
            known = np.isfinite(steps) & np.isfinite(moves)
            power = float(steps[known] @ steps[known])
            shares.append(float(steps[known] @ moves[known]) / ((1 + RIDGE) * power) if power > 0 else 0.0)
        self._shares = np.clip(shares, 0.0, 1.0)

    def _observe(self, value: float) -> None:
        assert self.next_bin is not None
        if not math.isnan(value):
            self._errors.append(abs(value - self._level))
            self._level += self._alpha * (value - self._level)
        self._window.append(value)
        known = [seen for seen in self._window if not math.isnan(seen)]
        if known:
            slot = (self.next_bin - self._half) % len(self._shape)
            mean = np.array([sum(known) / len(known)])
            self._shape[slot] = _blend(self._shape[slot : slot + 1], mean)[0]

    def _mean(self, horizons: Horizons) -> FloatArray:
        assert self.next_bin is not None
        leads = np.array(horizons)
        now = self.next_bin - 1
        steps = self._shape[(now + leads) % len(self._shape)] - self._shape[now % len(self._shape)]
        shares = np.interp(leads, self._grid, self._shares)
        means: FloatArray = self._level + np.nan_to_num(shares * steps)
        return means

    def _sd(self, horizons: Horizons) -> FloatArray:
        spread = math.sqrt(sum(error * error for error in self._errors) / max(1, len(self._errors)))
        spreads: FloatArray = spread * np.sqrt(1 + self._alpha**2 * (np.array(horizons) - 1))
        return spreads


def _blend(before: FloatArray, seen: FloatArray) -> FloatArray:
    """The shape after one more day; a slot that one of the two does not know takes the other."""
    blended = SHAPE_MEMORY * before + (1 - SHAPE_MEMORY) * seen
    return np.where(np.isnan(seen), before, np.where(np.isnan(before), seen, blended))


def _centred_mean(values: FloatArray, half: int) -> FloatArray:
    kernel = np.ones(2 * half + 1)
    known = np.isfinite(values)
    totals = np.convolve(np.where(known, values, 0.0), kernel, "same")
    counts = np.convolve(known.astype(float), kernel, "same")
    return np.where(counts > 0, totals / np.maximum(counts, 1.0), np.nan)


def _levels(values: FloatArray, alpha: float) -> FloatArray:
    """Exponentially smoothed level after each bin, shape (bins,); NaN before the first measured bin."""
    levels, level = np.empty(len(values)), math.nan
    for index, value in enumerate(values.tolist()):
        if not math.isnan(value):
            level = value if math.isnan(level) else level + alpha * (value - level)
        levels[index] = level
    return levels
