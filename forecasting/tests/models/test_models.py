from collections.abc import Callable

import numpy as np
import pytest
from statsmodels.tsa.statespace.sarimax import SARIMAX

from dopd_forecasting import Event, Series
from dopd_forecasting.models.arima import candidate_orders
from dopd_forecasting.models.events import ScheduledEvents
from dopd_forecasting.models.seasonal import DayShape, FourierProfile
from dopd_forecasting.models.state_space import ExponentialLevel, KalmanFilter, quiet_estimation

QUARTER_HOUR = 900.0
DAY = 96


def daily(days: int, *, noise: float = 0.02) -> Series:
    generator = np.random.default_rng(3)
    hours = np.arange(days * DAY) * QUARTER_HOUR / 3600
    shape = 100 * (1 + 0.5 * np.sin(2 * np.pi * hours / 24))
    return Series.from_values(
        shape * (1 + generator.normal(0, noise, len(hours))), bin_seconds=QUARTER_HOUR, unit="requests/s"
    )


def test_the_filter_agrees_with_statsmodels_on_new_and_missing_bins() -> None:
    generator = np.random.default_rng(7)
    values = 10 + np.cumsum(generator.normal(0, 0.3, 120)) + generator.normal(0, 1, 120)
    values[[30, 105, 106]] = np.nan
    with quiet_estimation():
        results = SARIMAX(values[:100], order=(1, 1, 2)).fit(disp=False, maxiter=20)
    kalman = KalmanFilter.from_results(results)
    for value in values[100:]:
        kalman.observe(float(value))
    expected = results.append(values[100:]).get_forecast(10)
    np.testing.assert_allclose(kalman.mean(tuple(range(1, 11))), expected.predicted_mean, rtol=1e-6)
    np.testing.assert_allclose(kalman.sd(tuple(range(1, 11))), expected.se_mean, rtol=1e-6)


def test_smoothing_lies_between_the_last_value_and_the_mean(noisy_load: Callable[..., Series]) -> None:
    series = noisy_load(200)
    model = ExponentialLevel()
    model.fit(series)
    jump = float(series.values.max()) * 3
    model.update(Series(np.array([jump]), series.next_bin, series.bin_seconds, series.unit))
    assert series.values[-1] < model.mean((1,))[0] < jump


@pytest.mark.parametrize(("ar", "differences"), [(0.8, 0), (0.0, 1)])
def test_orders_follow_the_data(ar: float, differences: int) -> None:
    generator = np.random.default_rng(11)
    shocks = generator.normal(0, 1, 600)
    values = np.zeros(600)
    for step in range(1, 600):
        values[step] = ar * values[step - 1] + shocks[step]
    values = np.cumsum(shocks) if differences else values
    assert {order[1] for order in candidate_orders(values)} == {differences}


@pytest.mark.parametrize("factory", [DayShape, FourierProfile])
def test_a_day_that_repeats_is_foreseen_hours_ahead(factory: Callable[[], DayShape | FourierProfile]) -> None:
    series = daily(4)
    cut = series.next_bin - DAY // 2
    model = factory()
    model.fit(series.before(cut))
    leads = (4, 12, 24)
    targets = series.values[cut - 1 + np.array(leads)]
    last = series.values[cut - 1]
    assert np.abs(model.mean(leads) - targets).sum() < 0.3 * np.abs(last - targets).sum()


def test_a_day_that_does_not_repeat_is_not_believed() -> None:
    generator = np.random.default_rng(5)
    walk = 100 + np.cumsum(generator.normal(0, 1, 5 * DAY))
    model = DayShape()
    model.fit(Series.from_values(walk, bin_seconds=QUARTER_HOUR, unit="requests/s"))
    level = ExponentialLevel()
    level.fit(Series.from_values(walk, bin_seconds=QUARTER_HOUR, unit="requests/s"))
    assert model.mean((4,))[0] == pytest.approx(level.mean((4,))[0], rel=0.05)


def test_a_week_is_learnt_from_two_weeks() -> None:
    hours = np.arange(21 * 24)
    weekend = (hours // 24) % 7 >= 5
    values = np.where(weekend, 40.0, 100.0) * (1 + 0.01 * np.sin(hours))
    series = Series.from_values(values, bin_seconds=3600.0, unit="requests/s")
    model = FourierProfile()
    model.fit(series.before(5 * 24 + 14 * 24 - 12))  # the evening before a weekend
    assert model.mean((36,))[0] < 75


def batch_load(factor: float, hours: int) -> tuple[Series, Event]:
    minutes = np.arange(hours * 60)
    busy = minutes % 120 < 20
    event = Event(
        "batch", windows=tuple((start * 60.0, start * 60.0 + 1200) for start in range(0, hours * 60 + 240, 120))
    )
    generator = np.random.default_rng(2)
    values = np.where(busy, factor, 1.0) * 50 * (1 + generator.normal(0, 0.02, len(minutes)))
    return Series.from_values(values, bin_seconds=60.0, unit="requests/s"), event


def test_an_event_is_foreseen_from_how_it_went_before() -> None:
    series, event = batch_load(3.0, hours=10)
    model = ScheduledEvents([event])
    model.fit(series.before(8 * 60 - 5))  # five minutes before the next one
    np.testing.assert_allclose(model.mean((1, 10, 40)), [50, 150, 50], rtol=0.1)


def test_an_event_never_seen_follows_what_the_user_expects() -> None:
    series, _ = batch_load(1.0, hours=3)
    launch = Event("launch", windows=((3 * 3600.0, 4 * 3600.0),), expected_factor=2.0)
    model = ScheduledEvents([launch])
    model.fit(series)
    np.testing.assert_allclose(model.mean((10, 90)), [100, 50], rtol=0.1)


def test_an_event_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="launch"):
        Event("launch", windows=((10.0, 5.0),))
