import numpy as np
import pytest

from dopd.autoscaler import PeakForecast, Tuning
from dopd.autoscaler.noise import steady_bins


def samples(rates: np.ndarray, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Loads over 45 s each 15 s, of requests that come by chance with equal work, and how noisy each is."""
    counts = np.random.default_rng(seed).poisson(rates * 15)
    windows = np.convolve(counts, np.ones(3), "valid")
    return windows / 45, 1 / np.sqrt(np.maximum(windows, 1))


def held(loads: np.ndarray, shares: np.ndarray, miss: float) -> float:
    peak = PeakForecast(Tuning(), 180.0)
    for i, (load, share) in enumerate(zip(loads, shares, strict=True)):
        peak.observe(15.0 * i, load, share)
    return peak.quantile(miss)


@pytest.mark.parametrize("rate", [0.3, 3.0])
def test_the_peaks_of_a_steady_load_are_not_those_of_chance(rate: float):
    loads, shares = samples(np.full(1440, rate))
    assert held(loads, 0 * shares, 0.4) > 1.1 * rate
    assert held(loads, shares, 0.4) == pytest.approx(rate, rel=0.08)


def test_a_jump_beyond_chance_is_followed_at_once():
    loads, shares = samples(np.append(np.full(720, 3.0), np.full(6, 12.0)))
    assert held(loads, shares, 0.4) > 10


def test_a_load_without_noise_is_left_as_it_is():
    loads = np.random.default_rng(2).uniform(1, 9, 40)
    ends, widths = np.arange(1, 41) * 60.0, np.full(40, 60.0)
    assert steady_bins(ends, widths, loads, 0.0).tolist() == loads.tolist()


def test_bins_of_few_requests_are_averaged_and_a_step_is_kept():
    rates = np.append(np.full(300, 0.5), np.full(300, 5.0))
    loads = np.random.default_rng(3).poisson(rates * 60) / 60
    ends, widths = np.arange(1, 601) * 60.0, np.full(600, 60.0)
    found = steady_bins(ends, widths, loads, 1.0)
    for part in (slice(60, 300), slice(360, 600)):
        assert np.std(found[part]) < 0.5 * np.std(loads[part])
    assert found[305] > 4
