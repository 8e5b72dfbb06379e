import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd_forecasting.bands import ConformalBands, ReturnBands


def run(
    values: np.ndarray, mean: float | np.ndarray = 100.0, horizons: tuple[int, ...] = (1, 3)
) -> tuple[ConformalBands, np.ndarray]:
    """Bands about given means, and the 90 % quantile said before each value for one bin ahead."""
    bands = ConformalBands(horizons)
    means = np.broadcast_to(mean, values.shape)
    upper = np.empty(len(values))
    for step, value in enumerate(values):
        now = np.full(len(horizons), means[step])
        bands.say(now)
        upper[step] = bands.quantiles(now, range(len(horizons)), [0.9])[0, 0]
        bands.observe(float(value))
    return bands, upper


@pytest.mark.parametrize("noise", ["normal", "skewed"])
def test_the_90_percent_quantile_covers_90_percent(noise: str) -> None:
    generator = np.random.default_rng(4)
    errors = generator.normal(0, 10, 1000) if noise == "normal" else generator.exponential(10, 1000)
    values = 100 + errors
    _, upper = run(values)
    assert np.mean(values[300:] <= upper[300:]) == pytest.approx(0.9, abs=0.02)


def test_coverage_comes_back_after_the_noise_has_trebled() -> None:
    generator = np.random.default_rng(4)
    values = 100 + generator.normal(0, 1, 1500) * np.where(np.arange(1500) < 500, 5, 15)
    _, upper = run(values)
    assert np.mean(values[700:] <= upper[700:]) == pytest.approx(0.9, abs=0.03)


def test_a_new_series_gets_a_wide_band_and_then_its_own() -> None:
    generator = np.random.default_rng(4)
    _, upper = run(100 + generator.normal(0, 1, 100))
    assert upper[0] > 120
    assert upper[-1] < 105


def test_a_lead_without_errors_borrows_from_a_shorter_one_and_widens() -> None:
    generator = np.random.default_rng(4)
    bands, _ = run(100 + generator.normal(0, 5, 50), horizons=(1, 60))
    near, far = bands.quantiles(np.array([100.0, 100.0]), [0, 1], [0.9])[:, 0]
    assert 5 < (far - 100) / (near - 100) < 60**0.5 * 1.5


def test_a_service_that_is_off_may_be_back_by_a_long_lead_and_not_by_a_short_one() -> None:
    bands = ReturnBands((1, 6))
    assert bands.quantiles([0, 1], [0.9]).tolist() == [[0], [0]]  # nothing is known about its pauses yet
    for bin_number in range(400):
        load = 0.0 if bin_number % 40 < 20 else 50.0  # off for 20 bins, on for 20
        bands.observe(load)
        bands.say(off=load == 0)
    assert bands.quantiles([0, 1], [0.5, 0.9]).tolist() == [[0, 0], [0, 50]]


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(0, 1e15), max_size=60),
    st.floats(0, 1e15),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=6, unique=True),
)
def test_quantiles_are_monotone_and_never_negative(values: list[float], mean: float, levels: list[float]) -> None:
    with np.errstate(all="ignore"):
        bands, _ = run(np.array(values), mean)
        quantiles = bands.quantiles(np.array([mean, mean]), [0, 1], levels)
    assert np.isfinite(quantiles).all()
    assert (quantiles >= 0).all()
    assert (np.diff(quantiles[:, np.argsort(levels)], axis=1) >= 0).all()
