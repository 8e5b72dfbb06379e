import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd_forecasting import Event, Forecaster, Series, TrustReason
from dopd_forecasting.models.base import Horizons, Model
from dopd_forecasting.models.naive import LastValue, MovingAverage, SeasonalNaive
from dopd_forecasting.models.state_space import ExponentialLevel
from dopd_forecasting.series import FloatArray

pytestmark = pytest.mark.timeout(60)  # estimations of all models take seconds of CPU

LEADS = (60.0, 180.0, 600.0)
LEVELS = (0.1, 0.5, 0.9)
SCORED = (1, 3, 10)
CHEAP = (LastValue, partial(MovingAverage, 5), MovingAverage)
SMALL = (LastValue, MovingAverage, ExponentialLevel)


def series_of(values: list[float] | np.ndarray, first_bin: int = 0) -> Series:
    return Series(np.asarray(values, dtype=float), first_bin, 60.0, "requests/s")


def fitted(series: Series, models: tuple[Callable[[], Model], ...] = SMALL) -> Forecaster:
    forecaster = Forecaster(models, scored_horizons=SCORED)
    forecaster.fit(series)
    return forecaster


@pytest.fixture(scope="module")
def load(noisy_load: Callable[..., Series]) -> Series:
    return noisy_load(480)


@pytest.fixture(scope="module")
def whole(load: Series) -> Forecaster:
    """All models, fitted."""
    forecaster = Forecaster(scored_horizons=SCORED)
    forecaster.fit(load)
    return forecaster


@pytest.fixture(scope="module")
def small_once(load: Series) -> Forecaster:
    return fitted(load)


@pytest.fixture
def small(small_once: Forecaster) -> Forecaster:
    """Three models, fitted on the load."""
    return deepcopy(small_once)


def test_the_whole_mix_beats_the_last_value_on_a_noisy_load_and_is_trusted(whole: Forecaster, load: Series) -> None:
    trust = whole.trust(load.end_seconds)
    assert trust.trusted
    assert trust.error_vs_last_value < 0.9
    assert trust.coverage_90 == pytest.approx(0.9, abs=0.06)


def test_a_forecast_says_what_it_is(whole: Forecaster, load: Series) -> None:
    forecast = whole.predict(LEADS, LEVELS)
    assert forecast.quantiles.shape == (3, 3)
    assert forecast.unit == "requests/s"
    assert forecast.made_at == load.end_seconds
    assert forecast.age_seconds == 0
    np.testing.assert_allclose(sum(forecast.weights.values()), 1)
    np.testing.assert_array_equal(forecast.quantile(0.9), forecast.quantiles[:, 2])


def test_what_failed_says_why(whole: Forecaster) -> None:
    assert "needs" in whole.failures["seasonal_naive"]


def test_the_same_history_gives_the_same_forecast(load: Series, small: Forecaster) -> None:
    first, second = small.predict(LEADS, LEVELS), fitted(load).predict(LEADS, LEVELS)
    np.testing.assert_array_equal(first.quantiles, second.quantiles)


def test_from_scratch_is_as_if_it_had_run_all_along(load: Series, small: Forecaster) -> None:
    running = fitted(load.before(250))
    for number in range(250, load.next_bin):
        running.update(load.before(number + 1))
    restarted = small
    np.testing.assert_allclose(restarted.predict(LEADS).mean, running.predict(LEADS).mean, rtol=0.005)
    np.testing.assert_allclose(restarted.predict(LEADS).quantiles, running.predict(LEADS).quantiles, rtol=0.05)


def test_a_changed_future_changes_no_past_forecast(load: Series) -> None:
    other = load.values.copy()
    other[340:] *= 5
    for values in (load.values, other):
        assert values[:340].tolist() == load.values[:340].tolist()
    one, two = fitted(load.before(300)), fitted(series_of(other).before(300))
    for number in range(300, 340):
        one.update(load.before(number + 1))
        two.update(series_of(other).before(number + 1))
    np.testing.assert_array_equal(one.predict(LEADS, LEVELS).quantiles, two.predict(LEADS, LEVELS).quantiles)


@pytest.mark.parametrize("scale", [1e-3, 1e4])
def test_scale_does_not_matter(load: Series, small: Forecaster, scale: float) -> None:
    scaled = fitted(series_of(load.values * scale)).predict(LEADS, LEVELS)
    np.testing.assert_allclose(scaled.quantiles, scale * small.predict(LEADS, LEVELS).quantiles, rtol=1e-3)


def test_forecasts_are_for_the_bin_of_the_lead() -> None:
    period = [10.0, 20.0, 30.0, 40.0] * 30

    class Clairvoyant(LastValue):
        """Knows that the load repeats every four bins."""

        def _mean(self, horizons: Horizons) -> FloatArray:
            assert self.next_bin is not None
            return np.array([period[(self.next_bin + horizon - 1) % 4] for horizon in horizons])

    forecaster = fitted(series_of(period), (LastValue, Clairvoyant))
    np.testing.assert_allclose(forecaster.predict((60.0, 120.0, 600.0)).mean, [10, 20, 20])
    np.testing.assert_allclose(forecaster.predict((60.0,), now_seconds=120 * 60.0 + 61).mean, [30])


def test_a_model_that_raises_or_explodes_wins_nothing(load: Series) -> None:
    class Raises(LastValue):
        def _observe(self, value: float) -> None:
            raise ArithmeticError("no")

    class Explodes(LastValue):
        def _mean(self, horizons: Horizons) -> FloatArray:
            return np.full(len(horizons), 1e300)

    class Silent(LastValue):
        def _mean(self, horizons: Horizons) -> FloatArray:
            return np.full(len(horizons), np.nan)

    forecaster = Forecaster((LastValue, Raises, Explodes, Silent), scored_horizons=SCORED)
    forecaster.fit(load.before(100))
    forecast = forecaster.predict(LEADS)
    np.testing.assert_allclose(forecast.mean, load.values[99], rtol=0.05)
    assert forecast.mean.max() <= 1.5 * load.values[:100].max()


def test_a_short_history_gives_the_last_value_and_no_trust() -> None:
    forecaster = fitted(series_of([5.0, 7.0]))
    forecast = forecaster.predict(LEADS, (0.5, 0.9))
    assert forecast.mean.tolist() == [7, 7, 7]
    assert (forecast.quantiles[:, 1] > 7).all()
    assert forecaster.trust(120.0).reason is TrustReason.SHORT_HISTORY


def test_a_series_never_measured_gives_zero_and_no_trust() -> None:
    forecaster = fitted(series_of([math.nan] * 30))
    assert forecaster.predict(LEADS).mean.tolist() == [0, 0, 0]
    assert forecaster.trust(1800.0).reason is TrustReason.STALE


def test_lost_telemetry_is_no_drop_in_load_and_ends_trust(load: Series, small: Forecaster) -> None:
    forecaster = small
    forecaster.update(series_of([math.nan] * 10, load.next_bin))
    forecast = forecaster.predict(LEADS)
    assert (forecast.mean > 0.8 * load.values[-20:].min()).all()
    assert forecast.age_seconds == 600
    assert forecaster.trust(load.end_seconds + 600).reason is TrustReason.STALE


def test_bins_left_out_count_as_missing(load: Series) -> None:
    forecaster = fitted(load.before(400), CHEAP)
    forecaster.update(load.since(420))
    assert forecaster.predict(LEADS).made_at == load.end_seconds
    told = fitted(load.before(400), CHEAP)
    told.update(series_of([math.nan] * 20, 400))
    told.update(load.since(420))
    np.testing.assert_array_equal(forecaster.predict(LEADS).mean, told.predict(LEADS).mean)


def test_a_switched_off_service_is_zero_now_and_itself_again_afterwards(load: Series) -> None:
    forecaster = fitted(load.before(400))
    forecaster.update(series_of([0.0] * 30, 400))
    assert forecaster.predict(LEADS).mean.tolist() == [0, 0, 0]
    forecaster.update(series_of(load.values[430:434], 430))
    np.testing.assert_allclose(forecaster.predict(LEADS).mean, load.values[430:434].mean(), rtol=0.2)


def test_a_regime_change_ends_trust_in_the_bands_or_the_mix_follows(load: Series, small: Forecaster) -> None:
    forecaster = small
    forecaster.update(series_of(load.values[:60] * 4, load.next_bin))
    forecast = forecaster.predict(LEADS)
    assert (np.abs(forecast.mean / (4 * load.values[55:60].mean()) - 1) < 0.25).all()


def test_another_unit_or_bin_is_refused(load: Series) -> None:
    forecaster = fitted(load.before(100))
    with pytest.raises(ValueError, match="tokens/s"):
        forecaster.update(Series(load.values, 0, 60.0, "tokens/s"))


def test_use_before_fit_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match="call fit"):
        Forecaster().predict(LEADS)


def test_a_season_is_believed_when_it_has_been_right_for_long_enough() -> None:
    day = 100 + 80 * np.sin(2 * np.pi * np.arange(144) / 144)
    series = Series.from_values(np.tile(day, 3), bin_seconds=600.0, unit="requests/s")
    forecaster = Forecaster((LastValue, SeasonalNaive), scored_horizons=(6,))
    forecaster.fit(series.before(144 + 60))
    assert forecaster.predict((3600.0,)).weights["seasonal_naive"][0] == 0
    forecaster.update(series.before(2 * 144))
    assert forecaster.predict((3600.0,)).weights["seasonal_naive"][0] > 0.99
    np.testing.assert_allclose(forecaster.predict((3600.0,)).mean, day[5])


def test_an_outage_of_yesterday_is_no_season() -> None:
    load = 50 + np.random.default_rng(2).normal(0, 1, 4 * 144)
    load[2 * 144 + 60 : 2 * 144 + 70] = 0.0
    series = Series.from_values(load, bin_seconds=600.0, unit="requests/s")
    forecaster = Forecaster((SeasonalNaive,), scored_horizons=(1,))
    forecaster.fit(series.before(3 * 144))
    forecaster.update(series.before(3 * 144 + 64))
    assert forecaster.predict((600.0,)).mean[0] == pytest.approx(50, rel=0.1)


def test_events_join_the_mix() -> None:
    minutes = np.arange(900)
    busy = minutes % 60 < 10
    generator = np.random.default_rng(1)
    values = np.where(busy, 200.0, 50.0) * (1 + generator.normal(0, 0.02, len(minutes)))
    event = Event("batch", windows=tuple((start * 60.0, start * 60.0 + 600) for start in range(0, 1000, 60)))
    forecaster = Forecaster(SMALL, scored_horizons=SCORED, events=(event,))
    forecaster.fit(series_of(values).before(895))  # the next event begins in five minutes
    assert forecaster.predict((600.0,)).mean[0] == pytest.approx(200, rel=0.15)


ANY_VALUES = st.lists(
    st.one_of(st.floats(0, 1e3), st.sampled_from([0.0, math.nan, math.inf, -math.inf, -1.0, 1e300, 1e15, 1e-300])),
    min_size=1,
    max_size=80,
)


@settings(deadline=None, max_examples=30)
@given(ANY_VALUES, st.integers(1, 80))
def test_any_sequence_is_survived(values: list[float], cut: int) -> None:
    forecaster = fitted(series_of(values[:cut]), CHEAP)
    forecaster.update(series_of(values))
    forecast = forecaster.predict(LEADS, LEVELS)
    assert np.isfinite(forecast.mean).all()
    assert np.isfinite(forecast.quantiles).all()
    assert (forecast.quantiles >= 0).all()
    assert (np.diff(forecast.quantiles, axis=1) >= 0).all()
    forecaster.trust(1e6)


@settings(deadline=None, max_examples=2)
@given(st.lists(st.sampled_from([0.0, 1.0, math.nan, 1e15, 3.0]), min_size=45, max_size=50))
def test_all_models_survive_any_sequence(values: list[float]) -> None:
    forecaster = Forecaster(scored_horizons=SCORED)
    forecaster.fit(series_of(values))
    assert np.isfinite(forecaster.predict(LEADS, LEVELS).quantiles).all()


@settings(deadline=None, max_examples=10)
@given(st.lists(st.floats(0.1, 1e3), min_size=20, max_size=60), st.sampled_from([2.0**-8, 2.0, 1024.0]))
def test_scaling_the_load_scales_the_forecast(values: list[float], scale: float) -> None:
    plain = fitted(series_of(values), CHEAP).predict(LEADS, LEVELS).quantiles
    scaled = fitted(series_of(np.array(values) * scale), CHEAP).predict(LEADS, LEVELS).quantiles
    np.testing.assert_allclose(scaled, scale * plain, rtol=1e-6)
