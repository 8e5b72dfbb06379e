from collections.abc import Sequence

import numpy as np
import pytest

from dopd.autoscaler import PeakForecast, Tuning
from dopd.autoscaler.foreseen import Forecasts
from dopd_forecasting import Forecast, Forecaster, Series, Trust, TrustReason
from dopd_forecasting.models.naive import LastValue, MovingAverage

TUNING = Tuning(spacing_seconds=60.0)
LEAD_SECONDS = 600.0


class Knowing:
    """Says the load that comes."""

    ready = True

    def __init__(self, load: np.ndarray, trusted: bool = True) -> None:
        self.load, self.trusted, self.next, self.fits = load, trusted, 0, 0

    def fit(self, series: Series) -> None:
        self.next, self.fits = series.next_bin, self.fits + 1

    def update(self, series: Series) -> None:
        assert series.first_bin == self.next
        self.next = series.next_bin

    def predict(
        self, horizons_seconds: Sequence[float], quantiles: Sequence[float] = (0.5,), now_seconds: float | None = None
    ) -> Forecast:
        bins = [self.next + round(lead / 60) - 1 for lead in horizons_seconds]
        mean = self.load[np.minimum(bins, len(self.load) - 1)]
        return Forecast(
            tuple(horizons_seconds), tuple(quantiles), mean, mean[:, None], "busy workers", self.next * 60.0, 0.0, {}
        )

    def trust(self, now_seconds: float) -> Trust:
        reason = TrustReason.TRUSTED if self.trusted else TrustReason.BANDS_MISS
        return Trust(self.trusted, reason, 0.5, 0.9, 0.0, 100)


def jumpy(days: float) -> np.ndarray:
    """New at random times, unlike any day before."""
    rng = np.random.default_rng(5)
    return np.repeat(rng.uniform(5, 40, round(days * 72)), 20)


def after(load: np.ndarray, end: int, forecaster: Forecasts | None) -> PeakForecast:
    peak = PeakForecast(TUNING, LEAD_SECONDS, forecaster)
    history = end - 60
    peak.learn((np.arange(history) + 1) * 60.0, np.full(history, 60.0), load[:history])
    for minute in range(history, end):
        peak.observe((minute + 1) * 60.0, float(load[minute]))
    return peak


def test_a_forecaster_that_was_right_is_believed():
    load = jumpy(1)
    told, untold = [after(load, end, Knowing(load)) for end in (800, 819, 831)], after(load, 800, None)
    for peak, end in zip(told, (800, 819, 831), strict=True):
        shares = {voice.name: voice.share for voice in peak.voices}
        assert shares["forecast"] > 0.7
        assert peak.expected == pytest.approx(load[end - 1 : end + 9].max())  # the last minute is not over yet
    assert untold.expected is None


def test_one_that_is_not_trusted_says_nothing():
    load = jumpy(0.5)
    peak = after(load, 700, Knowing(load, trusted=False))
    assert "forecast" not in {voice.name for voice in peak.voices}
    assert peak.quantile(0.1) == after(load, 700, None).quantile(0.1)


def test_it_is_fitted_once_and_then_told_of_each_minute():
    load = jumpy(0.5)
    forecaster = Knowing(load)
    after(load, 700, forecaster)
    assert (forecaster.fits, forecaster.next) == (1, 699)


def test_without_a_history_it_learns_from_the_samples():
    load = jumpy(0.5)
    forecaster = Knowing(load)
    peak = PeakForecast(TUNING, LEAD_SECONDS, forecaster)
    for minute in range(300):
        peak.observe((minute + 1) * 60.0, float(load[minute]))
    assert forecaster.next == 299
    assert {voice.name: voice.share for voice in peak.voices}["forecast"] > 0.5


def test_the_real_one_speaks_too():
    rng = np.random.default_rng(1)
    load = 10 + rng.normal(0, 0.5, 500)
    peak = after(load, 500, Forecaster((LastValue, MovingAverage)))
    assert peak.expected == pytest.approx(10, abs=0.7)
