"""The load of a model as a whole: how many requests, how long they are, and how much of their input is not cached.

A token rate moves because requests come and because they are long, and the two behave differently: arrivals
swing within minutes, lengths hold for hours. So the request rate is forecast by the full forecaster, lengths and
the uncached share by fading means over requests, and token rates are derived: rate times mean. They agree with
each other by construction. The bands of a derived rate are calibrated on the errors of that derived rate, not
composed from the bands of its factors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dopd_forecasting.bands import LoadBands
from dopd_forecasting.combination import Skill, weights
from dopd_forecasting.forecaster import SCORED_HORIZONS, Forecast, Forecaster
from dopd_forecasting.load import Load
from dopd_forecasting.models.base import Horizons
from dopd_forecasting.models.naive import DAY_SECONDS
from dopd_forecasting.screen import Screen, Screened
from dopd_forecasting.series import FloatArray, Series
from dopd_forecasting.trust import Trust

MEMORIES = np.array([0.8, 0.95, 0.99, 0.997])  # weight of a bin relative to the next one: about 5, 20, 100 and 330 bins
LENGTH_POWER = 20.0  # errors of lengths are mostly those of the bin that they meet, so small differences say much
STEPPED_BINS = 240  # of a history that lengths and derived bands are learnt on


@dataclass(frozen=True)
class DerivedRate:
    """A token rate: mean, shape (horizons,), and quantiles, shape (horizons, levels), in tokens/s."""

    mean: FloatArray
    quantiles: FloatArray


@dataclass(frozen=True)
class JointForecast:
    """The load at some leads; every array has shape (horizons,), token rates as in DerivedRate.

    Means and second moments are per request, in tokens and tokens^2; a second moment is never below the square
    of its mean.
    """

    requests: Forecast
    input_tokens_mean: FloatArray
    input_tokens_second_moment: FloatArray
    output_tokens_mean: FloatArray
    output_tokens_second_moment: FloatArray
    uncached_share: FloatArray
    input_tokens: DerivedRate
    output_tokens: DerivedRate
    uncached_input_tokens: DerivedRate


@dataclass(frozen=True)
class DemandForecast:
    """What to plan for at one lead: rates that are not exceeded with the probability asked for, and lengths.

    Attributes:
        horizon_seconds: the lead.
        requests: quantile of the request rate, requests/s.
        input_tokens: quantile of the input token rate, tokens/s. Not the product of `requests` and the mean length:
            lengths vary too, so it is larger.
        uncached_input_tokens: the same of input tokens that no prefix cache holds.
        output_tokens: the same of output tokens.
        input_tokens_mean: tokens per request; zero when no request ever told.
        input_tokens_second_moment: tokens^2 per request; NaN when never told.
        output_tokens_mean: tokens per request.
        output_tokens_second_moment: tokens^2 per request.
        uncached_share: share of input tokens.
    """

    horizon_seconds: float
    requests: float
    input_tokens: float
    uncached_input_tokens: float
    output_tokens: float
    input_tokens_mean: float
    input_tokens_second_moment: float
    output_tokens_mean: float
    output_tokens_second_moment: float
    uncached_share: float

    @property
    def prefill_requests(self) -> float:
        """Requests/s of mean length that bring `input_tokens`: the rate to size prefill for."""
        return self.input_tokens / self.input_tokens_mean if self.input_tokens_mean > 0 else self.requests

    @property
    def decode_requests(self) -> float:
        """Requests/s of mean length that bring `output_tokens`: the rate to size decode for."""
        return self.output_tokens / self.output_tokens_mean if self.output_tokens_mean > 0 else self.requests


class JointForecaster:
    """Forecasts a `Load`; the interface is that of `Forecaster`."""

    def __init__(self, requests: Forecaster | None = None, *, scored_horizons: Sequence[int] = SCORED_HORIZONS) -> None:
        self._horizons: Horizons = tuple(sorted(set(scored_horizons)))
        self._requests = requests or Forecaster(scored_horizons=self._horizons)
        self._next_bin: int | None = None

    def fit(self, load: Load) -> None:
        """Learn from a history, forgetting whatever was learnt before."""
        first = max(load.requests.first_bin, load.requests.next_bin - STEPPED_BINS)
        self._requests.fit(load.requests.before(first))
        self._bin_seconds, self._requests_unit = load.requests.bin_seconds, load.requests.unit
        self._next_bin = first
        self._input, self._output, self._uncached = (_Ratio(self._horizons) for _ in range(3))
        self._bands = [LoadBands(self._horizons) for _ in range(3)]
        self._screens = [Screen(round(DAY_SECONDS / self._bin_seconds) or 1) for _ in range(3)]
        self.update(load)

    def update(self, load: Load) -> None:
        """Take in the bins that are newer than those seen so far; bins left out count as missing."""
        if self._next_bin is None:
            self.fit(load)
            return
        first = max(load.requests.first_bin, self._next_bin)
        rows = load.rows(first)
        if not len(rows):
            return
        missing = np.full((first - self._next_bin, rows.shape[1]), np.nan)
        for row in np.vstack([missing, rows]):
            self._step(*row.tolist())

    def predict(
        self,
        horizons_seconds: Sequence[float],
        quantiles: Sequence[float] = (0.5, 0.9),
        now_seconds: float | None = None,
    ) -> JointForecast:
        """Forecast the load; arguments as for `Forecaster.predict`."""
        if self._next_bin is None:
            raise RuntimeError("the forecaster has seen no load yet: call fit first")
        requests = self._requests.predict(horizons_seconds, quantiles, now_seconds)
        waited = 0.0 if now_seconds is None else max(0.0, now_seconds - requests.made_at)
        leads = [max(1, math.ceil((lead + waited) / self._bin_seconds - 1e-9)) for lead in horizons_seconds]
        rows = np.minimum(np.searchsorted(self._horizons, leads), len(self._horizons) - 1).tolist()
        lengths = self._lengths(rows)
        rates = [
            DerivedRate(mean, bands.quantiles(mean, rows, quantiles, off=self._requests.paused))
            for mean, bands in zip(_token_rates(requests.mean, *lengths), self._bands, strict=True)
        ]
        (inputs, inputs_squared), (outputs, outputs_squared), (uncached, _) = lengths
        return JointForecast(requests, inputs, inputs_squared, outputs, outputs_squared, uncached, *rates)

    def demand(
        self, horizons_seconds: Sequence[float], quantile: float = 0.9, now_seconds: float | None = None
    ) -> list[DemandForecast]:
        """What to plan for at each lead; arguments as for `Forecaster.predict`."""
        forecast = self.predict(horizons_seconds, (quantile,), now_seconds)
        columns = np.column_stack(
            [
                horizons_seconds,
                forecast.requests.quantiles,
                forecast.input_tokens.quantiles,
                forecast.uncached_input_tokens.quantiles,
                forecast.output_tokens.quantiles,
                forecast.input_tokens_mean,
                forecast.input_tokens_second_moment,
                forecast.output_tokens_mean,
                forecast.output_tokens_second_moment,
                forecast.uncached_share,
            ]
        )
        return [DemandForecast(*row) for row in columns.tolist()]

    def trust(self, now_seconds: float) -> Trust:
        """The verdict on the request rate, from which all the rest is derived."""
        return self._requests.trust(now_seconds)

    def _lengths(self, rows: Sequence[int]) -> list[tuple[FloatArray, FloatArray]]:
        return [ratio.predict(rows) for ratio in (self._input, self._output, self._uncached)]

    def _step(
        self,
        requests: float,
        inputs: float,
        inputs_squared: float,
        outputs: float,
        outputs_squared: float,
        uncached: float,
    ) -> None:
        assert self._next_bin is not None
        newest = Series(np.array([requests]), self._next_bin, self._bin_seconds, self._requests_unit)
        self._requests.update(newest)
        self._next_bin += 1
        if self._requests.doubts_newest:  # tokens over a number of requests that is not believed are no length
            inputs = outputs = uncached = math.nan
        off = self._requests.paused  # a pause is known for what it is, and no level falls with it
        rates = [
            Screened(rate, rate) if off else screen.look(rate)
            for screen, rate in zip(self._screens, (inputs, outputs, uncached), strict=True)
        ]
        inputs, outputs, uncached = (rate.seen for rate in rates)
        self._input.observe(requests, inputs, inputs_squared)
        self._output.observe(requests, outputs, outputs_squared)
        self._uncached.observe(inputs, uncached, math.nan)
        leads = [horizon * self._bin_seconds for horizon in self._horizons]
        requests_ahead = self._requests.predict(leads, (0.5,)).mean
        means = _token_rates(requests_ahead, *self._lengths(range(len(leads))))
        for bands, observed, mean in zip(self._bands, rates, means, strict=True):
            bands.observe(observed.bounded)
            bands.say(mean, off=self._requests.paused)


def _token_rates(
    requests: FloatArray,
    inputs: tuple[FloatArray, FloatArray],
    outputs: tuple[FloatArray, FloatArray],
    uncached: tuple[FloatArray, FloatArray],
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Input, output and uncached input tokens per second."""
    return requests * inputs[0], requests * outputs[0], requests * inputs[0] * uncached[0]


class _Ratio:
    """A mean per request or token: fading sums of several memories and the newest bin, mixed by skill."""

    def __init__(self, horizons: Horizons) -> None:
        self._leads = len(horizons)
        self._skill = Skill(horizons, 1 + len(MEMORIES))
        self._sums = np.zeros(
            (len(MEMORIES), 4)
        )  # counts and amounts; counts and squared amounts where these are known
        # First and second moment, by the newest bin and by each memory.
        self._candidates = np.vstack([np.zeros(1 + len(MEMORIES)), np.full(1 + len(MEMORIES), np.nan)])

    def observe(self, count: float, amount: float, squared: float) -> None:
        known = count > 0 and math.isfinite(amount)
        self._skill.observe(amount / count if known else math.nan)
        if known:
            newest = np.array([count, amount, count, squared] if math.isfinite(squared) else [count, amount, 0.0, 0.0])
            self._sums = MEMORIES[:, None] * self._sums + newest
            counts, amounts, squared_counts, squares = np.vstack([newest, self._sums]).T
            self._candidates[0] = amounts / counts
            np.divide(squares, squared_counts, out=self._candidates[1], where=squared_counts > 0)
        self._skill.say(np.tile(self._candidates[0], (self._leads, 1)))

    def predict(self, rows: Sequence[int]) -> tuple[FloatArray, FloatArray]:
        """First and second moment; the second is never below the square of the first."""
        errors = self._skill.errors[list(rows)]
        shares = weights(errors, np.ones_like(errors, dtype=bool), power=LENGTH_POWER)
        first, second = shares @ self._candidates[0], shares @ self._candidates[1]
        return first, np.maximum(second, first**2)
