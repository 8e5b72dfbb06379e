from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dopd_forecasting import Forecaster, JointForecaster, Load, Series
from dopd_forecasting.backtest.reading import read_series
from dopd_forecasting.models.naive import LastValue, MovingAverage

TRACE = Path(__file__).parent / "data" / "azure2024-conv-tokens-60s.csv.gz"
LEADS = (60.0, 600.0)
SCORED = (1, 10)


def load_of(bins: int, seed: int = 1) -> Load:
    """Poisson arrivals of about 20/s with log-normal lengths, 40 % of the input cached."""
    generator = np.random.default_rng(seed)
    requests, inputs, inputs_squared, outputs, outputs_squared = (np.zeros(bins) for _ in range(5))
    for index in range(bins):
        count = generator.poisson(300)
        isl, osl = generator.lognormal(6, 1, count), generator.lognormal(5, 0.5, count)
        requests[index] = count
        inputs[index], inputs_squared[index] = isl.sum(), (isl**2).sum()
        outputs[index], outputs_squared[index] = osl.sum(), (osl**2).sum()
    uncached = 0.6 * inputs
    columns = (requests, inputs, inputs_squared, outputs, outputs_squared, uncached)
    units = ("requests/s", "tokens/s", "tokens^2/s", "tokens/s", "tokens^2/s", "tokens/s")
    return Load(*(Series(column / 60, 0, 60.0, unit) for column, unit in zip(columns, units, strict=True)))


def forecaster() -> JointForecaster:
    return JointForecaster(Forecaster((LastValue, MovingAverage), scored_horizons=SCORED), scored_horizons=SCORED)


@pytest.fixture(scope="module")
def load() -> Load:
    return load_of(150)


@pytest.fixture(scope="module")
def fitted(load: Load) -> JointForecaster:
    """Not to be updated: others share it."""
    joint = forecaster()
    joint.fit(load)
    return joint


def test_lengths_and_share_are_found(fitted: JointForecaster) -> None:
    forecast = fitted.predict(LEADS)
    np.testing.assert_allclose(forecast.input_tokens_mean, np.exp(6.5), rtol=0.1)
    np.testing.assert_allclose(forecast.output_tokens_mean, np.exp(5.125), rtol=0.05)
    np.testing.assert_allclose(forecast.output_tokens_second_moment, np.exp(10.5), rtol=0.1)
    np.testing.assert_allclose(forecast.uncached_share, 0.6, rtol=1e-9)


def test_token_rates_are_rate_times_mean_and_moments_are_possible(fitted: JointForecaster) -> None:
    forecast = fitted.predict(LEADS)
    np.testing.assert_allclose(forecast.input_tokens.mean, forecast.requests.mean * forecast.input_tokens_mean)
    np.testing.assert_allclose(
        forecast.uncached_input_tokens.mean, forecast.input_tokens.mean * forecast.uncached_share
    )
    assert (forecast.input_tokens_second_moment >= forecast.input_tokens_mean**2).all()
    assert (np.diff(forecast.input_tokens.quantiles, axis=1) >= 0).all()


def test_on_real_traffic_it_is_nearer_than_the_lengths_of_now() -> None:
    requests, inputs, outputs = (
        read_series(TRACE, column, 60).before(240) for column in ("requests", "input_tokens", "output_tokens")
    )
    unknown = Series(np.full(240, np.nan), 0, 60.0, "tokens^2/s")
    load = Load(requests, inputs, unknown, outputs, unknown, inputs)
    joint = forecaster()
    jointly, now = [], []
    for number in range(60, 240):
        joint.update(Load(*(series.before(number) for series in vars(load).values())))
        forecast = joint.predict((60.0,))
        length = outputs.values[number - 1] / requests.values[number - 1]
        jointly.append(abs(forecast.output_tokens.mean[0] - outputs.values[number]))
        now.append(abs(forecast.requests.mean[0] * length - outputs.values[number]))
    assert np.mean(jointly) < 0.97 * np.mean(now)


def test_bands_of_a_derived_rate_cover_the_derived_rate() -> None:
    load = load_of(330)
    joint = forecaster()
    joint.fit(Load(*(series.before(130) for series in vars(load).values())))
    inside = []
    for number in range(130, 330):
        upper = joint.predict((60.0,), (0.9,)).output_tokens.quantiles[0, 0]
        inside.append(load.output_tokens.values[number] <= upper)
        joint.update(Load(*(series.before(number + 1) for series in vars(load).values())))
    assert np.mean(inside) == pytest.approx(0.9, abs=0.06)


def test_a_bin_without_requests_changes_no_length(load: Load, fitted: JointForecaster) -> None:
    joint = deepcopy(fitted)
    before = joint.predict(LEADS).input_tokens_mean
    zero = Load(*(Series(np.zeros(3), 150, 60.0, series.unit) for series in vars(load).values()))
    joint.update(zero)
    np.testing.assert_allclose(joint.predict(LEADS).input_tokens_mean, before, rtol=1e-9)


def test_missing_second_moments_leave_the_rest_alone(load: Load) -> None:
    unknown = replace(load, input_tokens_squared=Series(np.full(150, np.nan), 0, 60.0, "tokens^2/s"))
    joint = forecaster()
    joint.fit(unknown)
    forecast = joint.predict(LEADS)
    assert np.isnan(forecast.input_tokens_second_moment).all()
    assert np.isfinite(forecast.input_tokens.mean).all()


def test_a_missing_second_moment_is_not_missed_for_ever(load: Load) -> None:
    holes = load.input_tokens_squared.values.copy()
    holes[100:120] = np.nan
    joint = forecaster()
    joint.fit(replace(load, input_tokens_squared=Series(holes, 0, 60.0, "tokens^2/s")))
    np.testing.assert_allclose(joint.predict(LEADS).input_tokens_second_moment, np.exp(14), rtol=0.3)


def test_a_load_is_built_from_means_that_may_be_missing(load: Load) -> None:
    def ratio(over: Series, under: Series, unit: str) -> Series:
        values = over.values / under.values
        values[10] = np.nan
        return Series(values, 0, 60.0, unit).since(5)

    requests = Series(np.where(np.arange(150) == 20, 0.0, load.requests.values), 0, 60.0, "requests/s")
    built = Load.from_means(
        requests,
        ratio(load.input_tokens, load.requests, "tokens"),
        ratio(load.output_tokens, load.requests, "tokens"),
        input_tokens_second_moment=ratio(load.input_tokens_squared, load.requests, "tokens^2"),
        uncached_share=ratio(load.uncached_input_tokens, load.input_tokens, "share"),
    )
    known = np.r_[5:10, 11:20, 21:150]
    for name in ("input_tokens", "output_tokens", "input_tokens_squared", "uncached_input_tokens"):
        np.testing.assert_allclose(getattr(built, name).values[known], getattr(load, name).values[known])
        assert np.isnan(getattr(built, name).values[[0, 10]]).all()
        assert getattr(built, name).values[20] == 0
    assert np.isnan(built.output_tokens_squared.values[known]).all()
    with pytest.raises(ValueError, match="cut them alike"):
        Load.from_means(requests, Series(np.ones(5), 0, 10.0, "tokens"), requests)


def test_demand_is_what_is_not_exceeded_and_never_less_than_expected(fitted: JointForecaster) -> None:
    forecast = fitted.predict(LEADS, (0.9,))
    near, far = fitted.demand(LEADS, 0.9)
    assert (near.horizon_seconds, far.horizon_seconds) == LEADS
    assert near.input_tokens == forecast.input_tokens.quantiles[0, 0] > forecast.input_tokens.mean[0]
    assert near.prefill_requests * near.input_tokens_mean == pytest.approx(near.input_tokens)
    assert far.decode_requests * far.output_tokens_mean == pytest.approx(far.output_tokens)
    assert far.uncached_input_tokens == pytest.approx(0.6 * far.input_tokens, rel=0.01)


def test_without_any_length_the_demand_is_the_request_rate(load: Load) -> None:
    unknown = Series(np.full(150, np.nan), 0, 60.0, "tokens")
    joint = forecaster()
    joint.fit(Load.from_means(load.requests, unknown, unknown))
    (demand,) = joint.demand((60.0,))
    assert (demand.input_tokens_mean, demand.output_tokens_mean) == (0, 0)
    assert demand.prefill_requests == demand.decode_requests == demand.requests > 0


def test_series_cut_differently_are_refused(load: Load) -> None:
    with pytest.raises(ValueError, match="output_tokens has 100 bins"):
        replace(load, output_tokens=load.output_tokens.before(100))
