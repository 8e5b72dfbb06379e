import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from dopd_forecasting import EstimationPool, Forecaster, Series
from dopd_forecasting.models.naive import LastValue
from dopd_forecasting.models.seasonal import FourierProfile
from dopd_forecasting.models.state_space import ExponentialLevel

MODELS = (LastValue, ExponentialLevel)
LEADS = (60.0, 600.0)


@pytest.fixture
def pool() -> EstimationPool:
    return EstimationPool(ThreadPoolExecutor(1))


def test_estimations_elsewhere_give_what_estimations_here_give(
    pool: EstimationPool, noisy_load: Callable[..., Series]
) -> None:
    load = noisy_load(380)
    here = Forecaster(MODELS, scored_horizons=(1, 10))
    here.fit(load.before(250))
    forecaster = Forecaster(MODELS, scored_horizons=(1, 10), defer_estimations=True)
    elsewhere = pool.fit({"a": (forecaster, load.before(250))})["a"]
    handed_over = 0
    for number in range(250, 380):
        here.update(load.before(number + 1))
        elsewhere.update(load.before(number + 1))
        handed_over += pool.submit([elsewhere])
        pool.collect(timeout_seconds=None)
    assert handed_over >= 1
    np.testing.assert_allclose(elsewhere.predict(LEADS).mean, here.predict(LEADS).mean, rtol=0.01)


def test_a_forecaster_travels_between_processes(noisy_load: Callable[..., Series]) -> None:
    load = noisy_load(200)
    forecaster = Forecaster(MODELS, scored_horizons=(1, 10))
    forecaster.fit(load.before(150))
    copy = pickle.loads(pickle.dumps(forecaster))
    for either in (forecaster, copy):
        either.update(load)
    np.testing.assert_array_equal(copy.predict(LEADS).quantiles, forecaster.predict(LEADS).quantiles)


def test_a_model_goes_on_until_its_successor_is_there(pool: EstimationPool, noisy_load: Callable[..., Series]) -> None:
    load = noisy_load(380)
    forecaster = Forecaster(MODELS, scored_horizons=(1, 10), defer_estimations=True)
    forecaster.fit(load.before(250))
    forecaster.update(load)
    assert forecaster.failures == {}
    assert forecaster.predict(LEADS).weights["ses"].max() > 0.3


def test_a_failed_estimation_takes_the_model_out_and_says_why(
    pool: EstimationPool, noisy_load: Callable[..., Series]
) -> None:
    class Breaks(LastValue):
        name = "breaks"
        heavy = True

        def _fit(self, series: Series) -> None:
            raise ArithmeticError("singular")

    load = noisy_load(100)
    forecaster = Forecaster((LastValue, Breaks), scored_horizons=(1,), defer_estimations=True)
    forecaster.fit(load.before(1))
    forecaster.update(load)
    assert pool.submit([forecaster]) > 0
    while pool.collect(timeout_seconds=None):
        pass
    assert forecaster.failures == {"breaks": "ArithmeticError: singular"}


def test_what_takes_no_time_is_done_at_once(noisy_load: Callable[..., Series]) -> None:
    """A worker's process is not started for it."""
    load = noisy_load(300)
    forecaster = Forecaster((LastValue, FourierProfile), scored_horizons=(1,), defer_estimations=True)
    forecaster.fit(load.before(250))
    forecaster.update(load)
    nowhere = EstimationPool(executor=None)  # type: ignore[arg-type]
    assert nowhere.submit([forecaster]) == 0
    assert "needs a day" in forecaster.failures["fourier"]
