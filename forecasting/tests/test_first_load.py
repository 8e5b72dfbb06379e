"""A model that has just been switched on: zeros, then a load."""

import numpy as np

from dopd_forecasting import Forecaster, Series
from dopd_forecasting.models.naive import LastValue, MovingAverage
from dopd_forecasting.models.state_space import ExponentialLevel

BIN_SECONDS = 2.0


def seen(values: list[float]) -> Forecaster:
    times = [BIN_SECONDS * (i + 0.5) for i in range(len(values))]
    forecaster = Forecaster((LastValue, MovingAverage, ExponentialLevel))
    end = BIN_SECONDS * len(values)
    forecaster.fit(Series.from_samples(times, values, bin_seconds=BIN_SECONDS, unit="requests/s", end=end))
    return forecaster


def test_the_first_load_after_nothing_is_no_measure_of_the_bands() -> None:
    load = (20 + np.random.default_rng(0).normal(0, 0.5, 30)).tolist()
    upper = seen([0.0] * 12 + load).predict([7.0, 9.0], [0.9]).quantiles
    assert np.all(upper > 19)
    assert np.all(upper < 30)


def test_when_the_load_has_gone_none_is_expected() -> None:
    load = (20 + np.random.default_rng(0).normal(0, 0.5, 30)).tolist()
    assert np.all(seen([0.0] * 12 + load + [0.0] * 5).predict([7.0], [0.9]).quantiles < 1)
