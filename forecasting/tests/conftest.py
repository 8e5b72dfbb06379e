import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # the matrices are tiny; more threads only wait for each other

from collections.abc import Callable

import numpy as np
import pytest

from dopd_forecasting import Series


@pytest.fixture(scope="session")
def noisy_load() -> Callable[..., Series]:
    """Makes a load like that of a service: a wandering level under noise, with a day when asked for."""

    def make(bins: int, *, seed: int = 1, level: float = 100.0, day: float = 0.0, bin_seconds: float = 60.0) -> Series:
        generator = np.random.default_rng(seed)
        hours = np.arange(bins) * bin_seconds / 3600
        wander = np.cumsum(generator.normal(0, 0.01, bins))
        shape = 1 + day * np.sin(2 * np.pi * hours / 24)
        values = level * shape * np.exp(wander) * (1 + generator.normal(0, 0.05, bins))
        return Series.from_values(np.maximum(values, 0), bin_seconds=bin_seconds, unit="requests/s")

    return make
