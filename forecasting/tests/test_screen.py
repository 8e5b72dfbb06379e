"""A bin that stands alone, far from all around it, moves nothing; a load that moves is followed."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from dopd_forecasting import Forecaster, Series
from dopd_forecasting.forecaster import DEFAULT_MODELS
from dopd_forecasting.models.base import Model
from dopd_forecasting.models.naive import LastValue, MovingAverage, SeasonalNaive
from dopd_forecasting.models.seasonal import DayShape
from dopd_forecasting.models.state_space import ExponentialLevel
from dopd_forecasting.screen import Screen

LEADS = (60.0, 300.0, 600.0)
SMALL = (LastValue, MovingAverage, ExponentialLevel)


def seen(values: list[float]) -> list[float]:
    screen = Screen(1440)
    return [screen.look(value).seen for value in values]


@pytest.mark.parametrize("false", [5000.0, 50.0, 5.0])
def test_one_far_bin_is_withheld(false: float) -> None:
    calm = [9.0, 10.0, 11.0, 10.5] * 10
    found = seen([*calm, 10.0 * false, *calm])
    assert math.isnan(found[40])
    assert found[:40] == calm
    assert found[41:] == calm


def test_a_step_is_believed_from_its_second_bin_on() -> None:
    found = seen([10.0, 10.5, 9.5] * 10 + [60.0, 61.0, 59.0])
    assert math.isnan(found[30])
    assert found[31:] == [61.0, 59.0]


def test_what_moves_within_a_factor_of_four_is_believed_however_calm_it_was() -> None:
    assert seen([10.0] * 30 + [39.0, 10.0, 2.6]) == [10.0] * 30 + [39.0, 10.0, 2.6]


def test_a_fall_is_believed_at_once() -> None:
    assert seen([10.0] * 30 + [0.1, 10.0]) == [10.0] * 30 + [0.1, 10.0]


def test_a_load_that_comes_in_bursts_is_believed() -> None:
    bursts = ([1.0] * 7 + [30.0]) * 20
    assert seen(bursts)[-40:] == bursts[-40:]


def test_where_the_load_has_been_within_a_day_it_may_be_again() -> None:
    day = [10.0] * 60 + [80.0] * 20 + [10.0] * 60
    found = seen([*day, 70.0, 10.0, 5000.0, 10.0])
    assert found[140] == 70.0
    assert math.isnan(found[142])


def test_missing_bins_neither_confirm_nor_refute() -> None:
    found = seen([10.0] * 30 + [500.0, math.nan, 500.0, 10.0])
    assert np.isnan(found[30:32]).all()
    assert found[32] == 500.0


def test_scale_does_not_matter() -> None:
    load = np.random.default_rng(0).gamma(2.0, 5.0, 300)
    load[[100, 200]] *= 1000
    plain = np.isnan(seen(load.tolist()))
    assert plain[[100, 200]].all()
    assert (np.isnan(seen((load * 1e-4).tolist())) == plain).all()


@pytest.fixture(scope="module")
def load(noisy_load: Callable[..., Series]) -> Series:
    return noisy_load(420)


def with_false_bin(load: Series, at: int, factor: float) -> Series:
    values = load.values.copy()
    values[at] = values[at] * factor if math.isfinite(factor) else factor
    return Series(values, load.first_bin, load.bin_seconds, load.unit)


@pytest.mark.parametrize(
    ("factor", "models"),
    [(5000.0, DEFAULT_MODELS)] + [(factor, SMALL) for factor in (20.0, math.nan, math.inf, -1.0, 1e16)],
)
def test_one_false_bin_moves_no_forecast_for_the_ten_minutes_after(
    load: Series, factor: float, models: Sequence[Callable[[], Model]]
) -> None:
    at = 400
    wrong = with_false_bin(load, at, factor)
    told, honest = (Forecaster(models, scored_horizons=(1, 5, 10)) for _ in range(2))
    told.fit(wrong.before(at + 1))
    honest.fit(load.before(at + 1))
    for number in range(at + 1, at + 11):
        usual = honest.predict(LEADS, (0.5, 0.9))
        forecast = told.predict(LEADS, (0.5, 0.9))
        np.testing.assert_allclose(forecast.mean, usual.mean, rtol=0.15)
        np.testing.assert_allclose(forecast.quantiles, usual.quantiles, rtol=0.3)
        told.update(wrong.before(number + 1))
        honest.update(load.before(number + 1))
    trust = told.trust(wrong.before(at + 11).end_seconds)
    assert trust.trusted
    assert trust.doubted_bins == (1 if 0 < factor < 1e6 else 0)


def test_a_false_bin_of_yesterday_is_no_season_and_spoils_no_estimation(noisy_load: Callable[..., Series]) -> None:
    days = noisy_load(3 * 144, day=0.5, bin_seconds=600.0)
    wrong = with_false_bin(days, 2 * 144 + 20, 5000.0)
    told, honest = (Forecaster([LastValue, SeasonalNaive, DayShape], scored_horizons=(1, 6, 20)) for _ in range(2))
    told.fit(wrong)
    honest.fit(days)
    leads = [600.0 * (1 + bins) for bins in (0, 5, 19, 20, 21)]
    np.testing.assert_allclose(told.predict(leads).mean, honest.predict(leads).mean, rtol=0.15)


def test_a_forecaster_that_ran_all_along_doubts_what_a_fresh_one_doubts(load: Series) -> None:
    wrong = with_false_bin(load, 410, 5000.0)
    running, fresh = (Forecaster([LastValue]) for _ in range(2))
    running.fit(wrong.before(300))
    running.update(wrong)
    fresh.fit(wrong)
    assert running.trust(wrong.end_seconds).doubted_bins == fresh.trust(wrong.end_seconds).doubted_bins == 1
