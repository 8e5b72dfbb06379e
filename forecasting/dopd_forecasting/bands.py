"""Quantiles that hold what they promise.

Models are wrong about their own spread, so the bands do not ask them. The errors of the newest forecasts, divided by the
square root of what was forecast (the spread of a count grows like that), are the distribution of the next error: split
conformal prediction. Where the load has changed and coverage drifts, the level that is asked of that distribution moves until
coverage is right again: adaptive conformal inference.

References: Vovk et al., Algorithmic Learning in a Random World (2005); Gibbs and Candes, Adaptive Conformal Inference Under
Distribution Shift, NeurIPS 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from dopd_forecasting.series import FloatArray

STEP = 0.02  # how far the level moves for one miss


def quantiles(means: FloatArray, forecasts: FloatArray, values: FloatArray, levels: Sequence[float]) -> FloatArray:
    """Quantiles about `means`.

    Args:
        means: forecasts to put bands around, shape (horizons,).
        forecasts: earlier forecasts at the same horizons, oldest first, shape (bins, horizons); NaN where none was made.
        values: what the load then was, shape (bins,).
        levels: quantiles wanted, each in (0, 1).

    Returns:
        Shape (horizons, levels); never negative, never falling in the level.
    """
    bands = np.empty((len(means), len(levels)))
    for row, mean in enumerate(means):
        known = np.isfinite(forecasts[:, row])
        earlier = forecasts[known, row]
        scores = (values[known] - earlier) / np.sqrt(np.maximum(earlier, _floor(values)))
        spread = math.sqrt(max(float(mean), _floor(values)))
        bands[row] = [mean + spread * _adapted_quantile(scores, level) for level in levels]
    order = np.argsort(levels)
    bands[:, order] = np.maximum.accumulate(np.maximum(bands[:, order], 0.0), axis=1)
    return bands


def _floor(values: FloatArray) -> float:
    """A load so small that spread no longer shrinks below it: a hundredth of the mean."""
    mean = float(values.mean()) if len(values) else 0.0
    return max(mean / 100, 1e-300)


def _adapted_quantile(scores: FloatArray, level: float) -> float:
    """The quantile of `scores` at `level`, corrected for small samples and for the coverage of the newest scores."""
    count = len(scores)
    if count == 0:
        return 0.0
    # With n scores the conformal quantile for level q is the ceil((n + 1) q)-th smallest; its mirror image below the median.
    side = level if level >= 0.5 else 1 - level
    position = min(1.0, side * (count + 1) / count)
    return float(np.quantile(scores, position if level >= 0.5 else 1 - position))
