"""Models that statsmodels estimates in state-space form, and the Kalman filter that keeps them up to date.

Estimation costs tens of milliseconds and happens rarely. Between two estimations only the state moves, and moving it needs the
system matrices that statsmodels estimated and four lines of algebra: microseconds instead of the milliseconds of building a
new statsmodels results object. Missing bins cost nothing extra: the state is predicted and not corrected.

Reference: Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd ed., section 4.3.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing
from statsmodels.tsa.statespace.structural import UnobservedComponents

from dopd_forecasting.models.base import Horizons, Model
from dopd_forecasting.series import FloatArray, Series

FIT_BINS = 480  # newest bins that an estimation looks at
MAX_ITERATIONS = 50


@dataclass
class KalmanFilter:
    """A time-invariant linear Gaussian system with one observed series, and its predicted state."""

    design: FloatArray  # (states,)
    observation_variance: float
    observation_intercept: float
    transition: FloatArray  # (states, states)
    state_intercept: FloatArray  # (states,)
    state_variance: FloatArray  # (states, states), of the disturbance of the state
    state: FloatArray  # (states,), mean of the state of the next bin
    covariance: FloatArray  # (states, states), of the same

    @classmethod
    def from_results(cls, results: Any) -> KalmanFilter:
        """Take the system and the state after the last bin out of statsmodels results."""
        system = results.filter_results
        selection = system.selection[..., -1]
        return cls(
            design=np.array(system.design[0, :, -1]),
            observation_variance=float(system.obs_cov[0, 0, -1]),
            observation_intercept=float(system.obs_intercept[0, -1]),
            transition=np.array(system.transition[..., -1]),
            state_intercept=np.array(system.state_intercept[:, -1]),
            state_variance=selection @ system.state_cov[..., -1] @ selection.T,
            state=np.array(system.predicted_state[:, -1]),
            covariance=np.array(system.predicted_state_cov[..., -1]),
        )

    def observe(self, value: float) -> None:
        """Correct the state by the value of the next bin (unless it is NaN), then move on by one bin."""
        if not math.isnan(value):
            weight = self.covariance @ self.design
            variance = float(self.design @ weight) + self.observation_variance
            if variance > 0:
                innovation = value - float(self.design @ self.state) - self.observation_intercept
                self.state = self.state + weight * (innovation / variance)
                self.covariance = self.covariance - np.outer(weight, weight) / variance
        self.state = self.transition @ self.state + self.state_intercept
        self.covariance = self.transition @ self.covariance @ self.transition.T + self.state_variance

    def forecast(self, bins: int) -> tuple[FloatArray, FloatArray]:
        """Mean and variance of the next `bins` values, each of shape (bins,)."""
        mean, variance = np.empty(bins), np.empty(bins)
        state, covariance = self.state, self.covariance
        for step in range(bins):
            mean[step] = self.design @ state + self.observation_intercept
            variance[step] = self.design @ covariance @ self.design + self.observation_variance
            state = self.transition @ state + self.state_intercept
            covariance = self.transition @ covariance @ self.transition.T + self.state_variance
        return mean, np.maximum(variance, 0.0)


class StateSpaceModel(Model):
    """A model whose parameters statsmodels estimates and whose state the filter above carries on."""

    min_bins = 20

    @abstractmethod
    def _build(self, values: FloatArray) -> Any:
        """The statsmodels model of `values`, which are scaled to a mean of one."""

    def _fit(self, series: Series) -> None:
        recent = series.values[-FIT_BINS:]
        self._scale = float(np.nanmean(recent)) or 1.0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # statsmodels warns when it stops early; measured skill decides instead
            results = self._build(recent / self._scale).fit(disp=False, maxiter=MAX_ITERATIONS)
        self._filter = KalmanFilter.from_results(results)

    def _observe(self, value: float) -> None:
        self._filter.observe(value / self._scale)

    def mean(self, horizons: Horizons) -> FloatArray:
        mean, _ = self._filter.forecast(max(horizons))
        at: FloatArray = mean[np.array(horizons) - 1] * self._scale
        return at

    def sd(self, horizons: Horizons) -> FloatArray:
        _, variance = self._filter.forecast(max(horizons))
        at: FloatArray = np.sqrt(variance[np.array(horizons) - 1]) * self._scale
        return at


class ExponentialLevel(StateSpaceModel):
    """Simple exponential smoothing."""

    name = "ses"

    def _build(self, values: FloatArray) -> Any:
        return ExponentialSmoothing(values)


class DampedTrend(StateSpaceModel):
    """Holt's linear trend, damped so that a long lead does not run away."""

    name = "damped_holt"

    def _build(self, values: FloatArray) -> Any:
        return ExponentialSmoothing(values, trend=True, damped_trend=True)


class Components(StateSpaceModel):
    """Unobserved components: a random-walk level under noise that has a memory of its own."""

    name = "components"

    def _build(self, values: FloatArray) -> Any:
        return UnobservedComponents(values, level="llevel", autoregressive=1)
