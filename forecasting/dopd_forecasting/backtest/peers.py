"""Predictors of the kinds that other planners use, as baselines of the benchmark only.

NVIDIA Dynamo's planner offers four: the newest value (our last_value), an ARIMA whose order is chosen once, a
Kalman filter of a local linear trend with fixed noise, and Prophet on the newest 50 points. These are written
anew on statsmodels and numpy from what those predictors do, not from their code.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np

from dopd_forecasting.models.arima import Arima
from dopd_forecasting.models.base import Horizons, Model
from dopd_forecasting.models.state_space import FIT_BINS, KalmanFilter, quiet_estimation
from dopd_forecasting.series import FloatArray, Series

NEVER = 10**9
PARAMETER_BINS = (
    10  # how often the peer's ARIMA moves its parameters; theirs does so at every bin, at many times the cost
)
LEVEL_NOISE, TREND_NOISE = 0.1, 0.01  # variances relative to that of the observation
PROPHET_POINTS = 50
CHANGE_POINTS, CHANGE_SHARE = 25, 0.8  # how many, over what share of the points
CHANGE_SCALE = 0.05  # of their Laplace prior


class OnceArima(Arima):
    """ARIMA with the order of the first fit for ever; its parameters follow the load."""

    name = "peer_arima"
    refit_bins = NEVER

    def _fit(self, series: Series) -> None:
        self._values: deque[float] = deque(series.values[-FIT_BINS:].tolist(), maxlen=FIT_BINS)
        self._observed = 0
        super()._fit(series)

    def _estimate(self, values: FloatArray) -> Any:
        results = super()._estimate(values)
        self.order = results.model.order
        return results

    def _observe(self, value: float) -> None:
        super()._observe(value)
        self._values.append(value)
        self._observed += 1
        if self._observed % PARAMETER_BINS == 0:
            super()._fit(Series.from_values(list(self._values), bin_seconds=1.0, unit="load"))


class FixedTrendFilter(Model):
    """Local linear trend whose noise is given, not estimated."""

    name = "peer_kalman"
    refit_bins = NEVER

    def _fit(self, series: Series) -> None:
        known = series.values[np.isfinite(series.values)]
        self._filter = KalmanFilter(
            design=np.array([1.0, 0.0]),
            observation_variance=1.0,
            observation_intercept=0.0,
            transition=np.array([[1.0, 1.0], [0.0, 1.0]]),
            state_intercept=np.zeros(2),
            state_variance=np.diag([LEVEL_NOISE, TREND_NOISE]),
            state=np.array([known[0], 0.0]),
            covariance=np.eye(2),
        )
        for value in series.values:
            self._filter.observe(float(value))

    def _observe(self, value: float) -> None:
        self._filter.observe(value)

    def _mean(self, horizons: Horizons) -> FloatArray:
        return self._filter.mean(horizons)

    def _sd(self, horizons: Horizons) -> FloatArray:
        return self._filter.sd(horizons)


class PiecewiseTrend(Model):
    """Prophet's trend on the newest 50 points: a line that may bend at 25 places, with a Laplace prior on bends.

    Fifty minutes hold no season, so the trend is all of Prophet that acts. The maximum a posteriori is found by
    iteratively reweighted least squares.
    """

    name = "peer_prophet"
    refit_bins = NEVER
    min_bins = 10

    def _fit(self, series: Series) -> None:
        self._points: deque[float] = deque(series.values[-PROPHET_POINTS:].tolist(), maxlen=PROPHET_POINTS)

    def _observe(self, value: float) -> None:
        self._points.append(value)

    def _mean(self, horizons: Horizons) -> FloatArray:
        values = np.array(self._points)
        known = np.isfinite(values)
        scale = float(np.nanmax(values)) or 1.0
        length = len(values) - 1
        places = np.linspace(0, CHANGE_SHARE, CHANGE_POINTS + 1)[1:]

        def terms(time: FloatArray) -> FloatArray:
            return np.column_stack([np.ones(len(time)), time, np.maximum(time[:, None] - places, 0.0)])

        past = terms(np.arange(len(values))[known] / length)
        target = values[known] / scale
        penalty = np.concatenate([[1e-8, 1e-8], np.full(CHANGE_POINTS, 1.0)])
        noise = max(float(np.var(np.diff(target))) / 2, 1e-8)
        with quiet_estimation():
            for _ in range(15):
                bends = np.linalg.solve(past.T @ past + noise * np.diag(penalty), past.T @ target)
                penalty[2:] = 1 / (CHANGE_SCALE * np.maximum(np.abs(bends[2:]), 1e-4))
        forecast: FloatArray = terms((length + np.array(horizons)) / length) @ bends * scale
        return forecast

    def _sd(self, horizons: Horizons) -> FloatArray:
        values = np.array(self._points)
        return np.full(len(horizons), math.sqrt(float(np.nanvar(values))))
