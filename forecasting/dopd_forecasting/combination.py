"""Mixing models by what they have shown.

At each lead the models are weighted by a power of their recent mean absolute error: (error / best error) ** -6. The power is high
enough that a model which is 20 % worse than the best keeps a third of its weight, and one that is twice as bad keeps a
sixtieth. A model without a finite forecast for each of the bins compared has no weight. The floor is the last value: the mix counts
only as far as it has beaten it.
"""

from __future__ import annotations

import numpy as np

from dopd_forecasting.series import FloatArray

POWER = 6.0
SCORED_BINS = 60  # newest known bins over which skill is measured
MIN_SCORED_BINS = 10  # with fewer, the last value is all that is offered


def weights(forecasts: FloatArray, values: FloatArray, floor: int) -> FloatArray:
    """Weight of each model at each horizon.

    Args:
        forecasts: what the models said, oldest first, shape (bins, horizons, models); NaN where a model said nothing.
        values: what the load then was, shape (bins,).
        floor: index of the last-value model.

    Returns:
        Shape (horizons, models); each row adds up to one.
    """
    forecasts, values = forecasts[-SCORED_BINS:], values[-SCORED_BINS:]
    usable = np.isfinite(forecasts).all(axis=0) & (len(values) >= MIN_SCORED_BINS)
    with np.errstate(over="ignore", invalid="ignore"):
        errors = (
            np.abs(forecasts - values[:, None, None]).mean(axis=0) if len(values) else np.full(usable.shape, np.inf)
        )
    errors = np.where(usable, errors, np.inf)
    best = errors.min(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        raw = np.where(errors <= best, 1.0, (np.maximum(best, 1e-300) / errors) ** POWER)
    raw = np.where(np.isfinite(errors), raw, 0.0)
    raw[raw.sum(axis=1) == 0, floor] = 1.0
    mixed: FloatArray = raw / raw.sum(axis=1, keepdims=True)
    return mixed
