"""Rolling origins: step through a recorded series bin by bin and keep what each forecaster said along the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import gcd

import numpy as np
import numpy.typing as npt

from dopd_forecasting.forecaster import Forecaster
from dopd_forecasting.series import FloatArray, Series

IntArray = npt.NDArray[np.int64]

LEVEL = 0.9
DEFAULT_STRIDE = 1  # each bin is updated and forecast anyway, and with few origins coverage is mostly luck


@dataclass(frozen=True)
class Rolling:
    """Forecasts of one model.

    Attributes:
        origins: index of the newest bin known to each forecast, shape (origins,).
        means: shape (origins, horizons).
        upper: 90 % quantiles, shape (origins, horizons).
        targets: what the load then was, shape (origins, horizons); NaN where not known.
        update_ms: CPU time of every update and forecast, warm-up left out, shape (bins,).
    """

    origins: IntArray
    means: FloatArray
    upper: FloatArray
    targets: FloatArray
    update_ms: FloatArray


def default_warmup(series: Series) -> int:
    """Bins before the first scored origin: a quarter of the series, at most a day."""
    return max(1, min(len(series) // 4, round(86_400 / series.bin_seconds)))


def roll(
    series: Series,
    forecasters: Mapping[str, Callable[[], Forecaster]],
    horizons: Sequence[int],
    *,
    stride: int,
    warmup: int,
    progress: Callable[[str, int], None] = lambda _name, _bins: None,
) -> dict[str, Rolling]:
    """Run each forecaster over the series.

    Args:
        series: the record.
        forecasters: makes a forecaster, by name.
        horizons: leads in bins.
        stride: bins between scored origins; coprime to five, since load has rhythms of five minutes and origins that
            keep step with one see a different load.
        warmup: bins before the first scored origin.
        progress: told the name of the forecaster and how many bins it has moved on.

    Raises:
        ValueError: no origin is left, or the stride is not coprime to five.
    """
    if gcd(stride, 5) != 1:
        raise ValueError(
            f"stride {stride} keeps step with the five-minute rhythm of load: use one that five does not divide"
        )
    origins = np.arange(warmup, len(series) - min(horizons), stride)
    if warmup < 1 or len(origins) < 2:
        raise ValueError(f"{len(series)} bins with a warm-up of {warmup} leave fewer than two origins to score")
    targets = np.full((len(origins), len(horizons)), np.nan)
    for column, horizon in enumerate(horizons):
        known = origins + horizon < len(series)
        targets[known, column] = series.values[origins[known] + horizon]
    return {
        name: _roll_one(series, make(), horizons, origins, targets, partial(progress, name))
        for name, make in forecasters.items()
    }


def _roll_one(
    series: Series,
    forecaster: Forecaster,
    horizons: Sequence[int],
    origins: IntArray,
    targets: FloatArray,
    progress: Callable[[int], None],
) -> Rolling:
    leads = [horizon * series.bin_seconds for horizon in horizons]
    means, upper, update_ms = [], [], []
    first = int(origins[0])
    forecaster.fit(series.before(series.first_bin + first))
    progress(first)
    scored = set(origins.tolist())
    for index in range(first, int(origins[-1]) + 1):
        bin_number = series.first_bin + index
        newest = series.before(bin_number + 1).since(bin_number)
        began = time.process_time()
        forecaster.update(newest)
        forecast = forecaster.predict(leads, (LEVEL,))
        update_ms.append((time.process_time() - began) * 1e3)
        if index in scored:
            means.append(forecast.mean)
            upper.append(forecast.quantiles[:, 0])
        progress(1)
    return Rolling(origins, np.array(means), np.array(upper), targets, np.array(update_ms))
