"""The forecaster of one series: fit from history, update by newer bins, predict at leads, and say whether to trust it.

Prometheus is the memory. `fit` replays the newest part of a history as if it were arriving now, so that the weights, bands and trust
of a process that has just started equal those of one that ran all along. Refits fall on bins whose number is a multiple of a
constant, not on the time since the process began, for the same reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from dopd_forecasting import bands, combination
from dopd_forecasting.models.base import Model
from dopd_forecasting.models.naive import LastValue, MovingAverage
from dopd_forecasting.models.state_space import Components, DampedTrend, ExponentialLevel
from dopd_forecasting.series import FloatArray, Series
from dopd_forecasting.track_record import TrackRecord
from dopd_forecasting.trust import Trust, TrustPolicy

DEFAULT_MODELS: tuple[Callable[[], Model], ...] = (
    LastValue,
    MovingAverage,
    ExponentialLevel,
    DampedTrend,
    Components,
)
SCORED_HORIZONS = (1, 2, 3, 5, 10, 15, 30, 60)  # bins; skill at other leads is taken from the next longer one
MEMORY = 200  # known errors that bands rest on
REFIT_BINS = 120  # each model is estimated again after this many bins
RETRY_BINS = 10  # a model that could not be fitted is tried again after this many bins
KEPT_BINS = 4 * 1440


@dataclass(frozen=True)
class Forecast:
    """Load at some leads.

    Attributes:
        horizons_seconds: leads, counted from `made_at`.
        quantile_levels: levels of the columns of `quantiles`.
        mean: expected load, shape (horizons,), in `unit`.
        quantiles: load at each lead and level, shape (horizons, levels), in `unit`.
        unit: unit of the series.
        made_at: end of the newest bin when the forecast was made, in seconds.
        age_seconds: how long before `made_at` the newest measured bin ended.
        weights: share of each model in the mean, by name, shape (horizons,) each.
    """

    horizons_seconds: tuple[float, ...]
    quantile_levels: tuple[float, ...]
    mean: FloatArray
    quantiles: FloatArray
    unit: str
    made_at: float
    age_seconds: float
    weights: dict[str, FloatArray]

    def quantile(self, level: float) -> FloatArray:
        """The column of `quantiles` for one of the levels asked for, shape (horizons,)."""
        return self.quantiles[:, self.quantile_levels.index(level)]


class Forecaster:
    """Mixes models of one series by measured skill. Deterministic; reads no clock.

    Args:
        models: what to mix; the first is the floor and must be the last value.
        scored_horizons: leads, in bins, at which skill is measured.
        trust: when the result may be acted upon.
    """

    def __init__(
        self,
        models: Sequence[Callable[[], Model]] = DEFAULT_MODELS,
        *,
        scored_horizons: Sequence[int] = SCORED_HORIZONS,
        trust: TrustPolicy | None = None,
    ) -> None:
        self._factories = tuple(models)
        self._horizons = tuple(sorted(set(scored_horizons)))
        self._policy = trust or TrustPolicy()
        self._history: Series | None = None

    def fit(self, series: Series) -> None:
        """Learn from a history, forgetting whatever was learnt before."""
        start = max(series.first_bin, series.next_bin - MEMORY - self._horizons[-1] - REFIT_BINS)
        self._history = series.before(start)
        self._models: list[Model | None] = [None] * len(self._factories)
        self._record = TrackRecord(self._horizons, len(self._factories) + 2, MEMORY)
        self._newest_measured: int | None = None
        for index in range(len(self._factories)):
            self._refit(index)
        self.update(series)

    def update(self, series: Series) -> None:
        """Take in the bins of `series` that are newer than those seen so far."""
        if self._history is None:
            self.fit(series)
            return
        history = self._history
        if (series.bin_seconds, series.unit) != (history.bin_seconds, history.unit):
            raise ValueError(
                f"series has bins of {series.bin_seconds} s in {series.unit}, the forecaster was fitted on "
                f"{history.bin_seconds} s in {history.unit}: fit a new one"
            )
        newer = series.since(history.next_bin) if len(history) else series
        gap = newer.first_bin - history.next_bin if len(history) and len(newer) else 0
        for value in (*(math.nan,) * gap, *newer.values):
            self._step(float(value))

    def predict(self, horizons_seconds: Sequence[float], quantiles: Sequence[float] = (0.5, 0.9)) -> Forecast:
        """Forecast the bins that hold the end of the newest bin plus each lead."""
        history = self._fitted()
        horizons = [max(1, math.ceil(round(lead / history.bin_seconds, 9))) for lead in horizons_seconds]
        rows = np.minimum(np.searchsorted(self._horizons, horizons), len(self._horizons) - 1)
        known, values = self._record.newest(MEMORY)
        mixed = combination.weights(known[:, :, : len(self._models)], values, floor=0)[rows]
        mean = _mix(self._forecasts(tuple(horizons)), mixed)
        return Forecast(
            horizons_seconds=tuple(horizons_seconds),
            quantile_levels=tuple(quantiles),
            mean=mean,
            quantiles=bands.quantiles(mean, known[:, rows, -2], values, quantiles),
            unit=history.unit,
            made_at=history.end_seconds,
            age_seconds=self._age_seconds(history.end_seconds),
            weights={factory().name: mixed[:, i] for i, factory in enumerate(self._factories)},
        )

    def trust(self, now_seconds: float) -> Trust:
        """Judge the forecaster as of `now_seconds`."""
        history = self._fitted()
        forecasts, values = self._record.newest(combination.SCORED_BINS)
        targets = values[:, None]
        errors = np.abs(forecasts - targets[:, :, None])
        both = np.isfinite(errors[:, :, 0]) & np.isfinite(errors[:, :, -2])
        naive = float(errors[:, :, 0][both].sum())
        ours = float(errors[:, :, -2][both].sum())
        banded = np.isfinite(forecasts[:, :, -1])
        return self._policy.judge(
            age_seconds=self._age_seconds(now_seconds),
            bin_seconds=history.bin_seconds,
            scored_bins=int(both[:, 0].sum()) if len(both) else 0,
            error_vs_last_value=ours / naive if naive > 0 else (1.0 if both.any() else math.nan),
            coverage_90=float((targets <= forecasts[:, :, -1])[banded].mean()) if banded.any() else math.nan,
        )

    def _fitted(self) -> Series:
        if self._history is None:
            raise RuntimeError("call fit before predict and trust")
        return self._history

    def _age_seconds(self, now_seconds: float) -> float:
        history = self._fitted()
        if self._newest_measured is None:
            return math.inf
        return max(0.0, now_seconds - (self._newest_measured + 1) * history.bin_seconds)

    def _step(self, value: float) -> None:
        history = self._fitted()
        bin_number = history.next_bin
        grown = Series(np.append(history.values[-KEPT_BINS:], value), 0, history.bin_seconds, history.unit)
        self._history = Series(grown.values, bin_number + 1 - len(grown), history.bin_seconds, history.unit)
        if not math.isnan(value):
            self._newest_measured = bin_number
        self._record.observe(value)
        newest = self._history.since(bin_number)
        for index, model in enumerate(self._models):
            if model is None:
                if bin_number % RETRY_BINS == 0:
                    self._refit(index)
            elif (bin_number + index * REFIT_BINS // len(self._models)) % REFIT_BINS == 0:
                self._refit(index)
            else:
                model.update(newest)
        forecasts = self._forecasts(self._horizons)
        known, values = self._record.newest(MEMORY)
        mean = _mix(forecasts, combination.weights(known[:, :, : len(self._models)], values, floor=0))
        upper = bands.quantiles(mean, known[:, :, -2], values, [0.9])
        self._record.note(np.column_stack([forecasts, mean, upper]))

    def _refit(self, index: int) -> None:
        model = self._factories[index]()
        try:
            model.fit(self._fitted())
        except Exception:
            self._models[index] = None  # it says nothing, so it can win nothing
        else:
            self._models[index] = model

    def _forecasts(self, horizons: tuple[int, ...]) -> FloatArray:
        """Mean of each model, shape (horizons, models)."""
        columns = np.full((len(horizons), len(self._models)), np.nan)
        for index, model in enumerate(self._models):
            if model is not None:
                columns[:, index] = np.maximum(model.mean(horizons), 0.0)
        return columns


def _mix(forecasts: FloatArray, weights: FloatArray) -> FloatArray:
    usable = np.where(np.isfinite(forecasts), weights, 0.0)
    total = usable.sum(axis=1)
    mixed = (np.where(usable > 0, forecasts, 0.0) * usable).sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.where(total > 0, mixed / total, np.nan_to_num(forecasts[:, 0]))
