"""Models that statsmodels estimates in state-space form, and the Kalman filter that keeps them up to date.

Estimation costs tens of milliseconds and happens rarely. Between two estimations only the state moves, and
moving it needs the system matrices that statsmodels estimated and four lines of algebra: microseconds instead of
the milliseconds of building a new statsmodels results object. Missing bins cost nothing extra: the state is
predicted and not corrected.

statsmodels is imported where an estimation runs, here and in the other models: a process that leaves estimations to
another one (`process`) does without its 100 MB.

Reference: Durbin and Koopman, Time Series Analysis by State Space Methods, 2nd ed., section 4.3.
"""

from __future__ import annotations

import math
import warnings
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dopd_forecasting.models.base import Horizons, Model
from dopd_forecasting.series import FloatArray, Series

FIT_BINS = 720  # newest bins that an estimation looks at
STARTING_BINS = 12
MAX_EVALUATIONS = 200  # of the likelihood; what an estimation may cost


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
    _leads: dict[Horizons, tuple[FloatArray, FloatArray]] = field(default_factory=dict)  # computed once per horizons

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

    def mean(self, horizons: Horizons) -> FloatArray:
        """Expected value at each horizon, shape (horizons,)."""
        if horizons not in self._leads:
            self._leads[horizons] = self._lead_matrices(horizons)
        rows, constants = self._leads[horizons]
        means: FloatArray = rows @ self.state + constants
        return means

    def sd(self, horizons: Horizons) -> FloatArray:
        """Standard deviation about `mean`, shape (horizons,)."""
        variances = np.empty(max(horizons))
        covariance = self.covariance
        for step in range(len(variances)):
            variances[step] = self.design @ covariance @ self.design + self.observation_variance
            covariance = self.transition @ covariance @ self.transition.T + self.state_variance
        spreads: FloatArray = np.sqrt(np.maximum(variances[np.array(horizons) - 1], 0.0))
        return spreads

    def _lead_matrices(self, horizons: Horizons) -> tuple[FloatArray, FloatArray]:
        """Rows and constants such that the value expected at each horizon is row @ state + constant."""
        row, constant = self.design, self.observation_intercept
        rows, constants = np.empty((max(horizons), len(row))), np.empty(max(horizons))
        for step in range(len(rows)):
            rows[step], constants[step] = row, constant
            row, constant = row @ self.transition, constant + float(row @ self.state_intercept)
        at = np.array(horizons) - 1
        return rows[at], constants[at]


@contextmanager
def quiet_estimation() -> Iterator[None]:
    """Silences statsmodels where it stops early or starts from zero: measured skill decides what a fit is worth."""
    import statsmodels.tools.sm_exceptions  # noqa: F401 (sets filters as it is imported, which must not be within)

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def starting_bridged(values: FloatArray) -> FloatArray:
    """The values with holes among the first bins bridged: statsmodels takes starting values from these."""
    known = np.flatnonzero(np.isfinite(values))
    bridged = values.copy()
    bridged[:STARTING_BINS] = np.interp(np.arange(len(values)), known, values[known])[:STARTING_BINS]
    return bridged


class StateSpaceModel(Model):
    """A model whose parameters statsmodels estimates and whose state the filter above carries on."""

    min_bins = 20
    heavy = True

    @abstractmethod
    def _estimate(self, values: FloatArray) -> Any:
        """The statsmodels results for `values`, which are scaled to a mean of one."""

    def _fit(self, series: Series) -> None:
        recent = starting_bridged(series.values[-FIT_BINS:])
        self._scale = float(np.nanmean(recent)) or 1.0
        with quiet_estimation():
            self._filter = KalmanFilter.from_results(self._estimate(recent / self._scale))

    def _observe(self, value: float) -> None:
        self._filter.observe(value / self._scale)

    def _mean(self, horizons: Horizons) -> FloatArray:
        return self._filter.mean(horizons) * self._scale

    def _sd(self, horizons: Horizons) -> FloatArray:
        return self._filter.sd(horizons) * self._scale


class ExponentialLevel(StateSpaceModel):
    """Simple exponential smoothing."""

    name = "ses"

    def _estimate(self, values: FloatArray) -> Any:
        from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

        return ExponentialSmoothing(values).fit(disp=False, maxfun=MAX_EVALUATIONS)


class DampedTrend(StateSpaceModel):
    """Holt's linear trend, damped so that a long lead does not run away."""

    name = "damped_holt"

    def _estimate(self, values: FloatArray) -> Any:
        from statsmodels.tsa.statespace.exponential_smoothing import ExponentialSmoothing

        return ExponentialSmoothing(values, trend=True, damped_trend=True).fit(disp=False, maxfun=MAX_EVALUATIONS)


class Components(StateSpaceModel):
    """Unobserved components: a random-walk level under noise that has a memory of its own."""

    name = "components"

    def _estimate(self, values: FloatArray) -> Any:
        from statsmodels.tsa.statespace.structural import UnobservedComponents

        return UnobservedComponents(values, level="llevel", autoregressive=1).fit(disp=False, maxfun=MAX_EVALUATIONS)
