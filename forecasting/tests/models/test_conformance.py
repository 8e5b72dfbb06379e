"""What every model must do, whatever it thinks of the load."""

from collections.abc import Callable
from copy import deepcopy

import numpy as np
import pytest

from dopd_forecasting import Event, Series
from dopd_forecasting.backtest.peers import FixedTrendFilter, OnceArima, PiecewiseTrend
from dopd_forecasting.forecaster import DEFAULT_MODELS
from dopd_forecasting.models.base import Model, NotEnoughHistory
from dopd_forecasting.models.events import ScheduledEvents

EVENT = Event("batch", windows=tuple((hour * 7200.0, hour * 7200.0 + 1200) for hour in range(100)))
MODELS = [*DEFAULT_MODELS, lambda: ScheduledEvents([EVENT]), OnceArima, FixedTrendFilter, PiecewiseTrend]
HORIZONS = (1, 3, 10)
DAY = 72  # bins of twenty minutes

every_model = pytest.mark.parametrize("factory", MODELS, ids=lambda factory: factory().name)


@pytest.fixture(scope="module")
def load(noisy_load: Callable[..., Series]) -> Series:
    return noisy_load(2 * DAY, day=0.3, bin_seconds=1200.0)


CACHE: dict[tuple[str, int], Model] = {}


def fitted(factory: Callable[[], Model], series: Series) -> Model:
    """A model fitted on a series; fits are shared between tests, which get copies."""
    key = (factory().name, hash(series.values.tobytes()))
    if key not in CACHE:
        CACHE[key] = factory()
        CACHE[key].fit(series)
    return deepcopy(CACHE[key])


@every_model
def test_names_are_words(factory: Callable[[], Model]) -> None:
    assert factory().name.replace("_", "").isalnum()


@every_model
def test_forecasts_are_near_a_calm_load(factory: Callable[[], Model], load: Series) -> None:
    mean = fitted(factory, load).predict(HORIZONS).mean
    assert mean.shape == (3,)
    recent = load.values[-DAY:]
    assert (mean > 0.5 * recent.min()).all()
    assert (mean < 1.5 * recent.max()).all()


@every_model
def test_quantiles_rise_and_are_never_negative(factory: Callable[[], Model], load: Series) -> None:
    quantiles = fitted(factory, load).predict(HORIZONS, (0.01, 0.5, 0.99)).quantiles
    assert quantiles.shape == (3, 3)
    assert (quantiles >= 0).all()
    assert (np.diff(quantiles, axis=1) >= 0).all()


@every_model
def test_spread_is_finite_and_positive(factory: Callable[[], Model], load: Series) -> None:
    spread = fitted(factory, load).sd(HORIZONS)
    assert np.isfinite(spread).all()
    assert (spread > 0).all()


@every_model
def test_the_same_input_gives_the_same_output(factory: Callable[[], Model], load: Series) -> None:
    first, second = fitted(factory, load), factory()
    second.fit(load)
    np.testing.assert_array_equal(first.mean(HORIZONS), second.mean(HORIZONS))


@every_model
def test_scale_does_not_matter(factory: Callable[[], Model], load: Series) -> None:
    scaled = Series(load.values * 1000, load.first_bin, load.bin_seconds, "requests/h")
    np.testing.assert_allclose(
        fitted(factory, scaled).mean(HORIZONS), 1000 * fitted(factory, load).mean(HORIZONS), rtol=1e-3
    )


@every_model
def test_one_bin_at_a_time_is_the_same_as_all_at_once(factory: Callable[[], Model], load: Series) -> None:
    cut = load.next_bin - 20
    at_once, stepwise = fitted(factory, load.before(cut)), fitted(factory, load.before(cut))
    at_once.update(load)
    for number in range(cut, load.next_bin):
        stepwise.update(load.before(number + 1))
    np.testing.assert_allclose(at_once.mean(HORIZONS), stepwise.mean(HORIZONS), rtol=1e-9)


@every_model
def test_missing_bins_are_survived_and_are_not_zeros(factory: Callable[[], Model], load: Series) -> None:
    holes = load.values.copy()
    holes[::7] = np.nan
    holes[-5:] = np.nan
    model = fitted(factory, Series(holes, load.first_bin, load.bin_seconds, load.unit))
    mean = model.predict(HORIZONS).mean
    assert np.isfinite(mean).all()
    assert (mean > 0.5 * load.values[-DAY:].min()).all()


@every_model
def test_bins_left_out_of_an_update_count_as_missing(factory: Callable[[], Model], load: Series) -> None:
    cut = load.next_bin - 20
    model, told = fitted(factory, load.before(cut)), fitted(factory, load.before(cut))
    model.update(load.since(cut + 4))
    silent = load.values[-20:].copy()
    silent[:4] = np.nan
    told.update(Series(silent, cut, load.bin_seconds, load.unit))
    np.testing.assert_allclose(model.mean(HORIZONS), told.mean(HORIZONS), rtol=1e-12)


@every_model
def test_a_constant_load_is_forecast_to_stay(factory: Callable[[], Model]) -> None:
    series = Series.from_values(np.full(2 * DAY, 7.0), bin_seconds=1200.0, unit="requests/s")
    np.testing.assert_allclose(fitted(factory, series).mean(HORIZONS), 7.0, rtol=0.02)


@every_model
def test_too_little_history_is_refused_as_such(factory: Callable[[], Model]) -> None:
    nothing = Series.from_values([np.nan] * 5, bin_seconds=1200.0, unit="requests/s")
    with pytest.raises(NotEnoughHistory):
        factory().fit(nothing)


@every_model
def test_update_before_fit_says_what_to_do(factory: Callable[[], Model], load: Series) -> None:
    with pytest.raises(RuntimeError, match="call fit"):
        factory().update(load)
