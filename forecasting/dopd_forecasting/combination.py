"""Mixing models by what they have shown.

Each model is scored at each lead by the mean absolute error of its forecasts, old errors fading by 2 % a bin.
Its weight is (error / least error) ** -6: a model that is 10 % worse than the best keeps half of its weight, one
that is twice as bad a sixtieth. The last value is among the models, so where nothing beats it the mix returns to
it; a model that raises, overflows or has not been scored on enough bins has no weight at all. A season gets no
credit in advance: a daily model enters when its errors are smaller.

The mix is scored too, with a longer memory. Weights follow what was good lately, which is not always what is good next:
where the mix as a whole has been worse than the last value, the last value is said.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dopd_forecasting.lead_buffer import LeadBuffer
from dopd_forecasting.models.base import Horizons
from dopd_forecasting.series import FloatArray

MEMORY = 0.98  # weight of an error relative to that of the next bin
LONG_MEMORY = 0.995  # the same, where the mix as a whole is judged
POWER = 6.0
MIN_SCORED_BINS = 12


class Skill:
    """Fading mean absolute error of several forecasters at several leads.

    Args:
        horizons: leads in bins, increasing.
        count: how many forecasters are compared.
        memory: weight of an error relative to that of the next bin.
    """

    def __init__(self, horizons: Horizons, count: int, memory: float = MEMORY) -> None:
        self._memory = memory
        shape = (len(horizons), count)
        self._buffer = LeadBuffer(horizons, count)
        self._totals = np.zeros(shape)
        self._weights = np.zeros(shape)
        self.scored_bins = np.zeros(shape, dtype=int)

    def say(self, forecasts: FloatArray) -> None:
        """Keep the forecasts made after the newest bin, shape (horizons, count); NaN where there is none."""
        self._buffer.say(forecasts)

    def observe(self, value: float) -> None:
        """Score what was said about the next bin; NaN, a missing bin, scores nothing."""
        errors = np.abs(self._buffer.advance() - value)
        known = np.isfinite(errors)
        self._totals = np.where(known, self._memory * self._totals + errors, self._totals)
        self._weights = np.where(known, self._memory * self._weights + 1, self._weights)
        self.scored_bins += known

    @property
    def errors(self) -> FloatArray:
        """Mean absolute error, shape (horizons, count); infinite with fewer than MIN_SCORED_BINS scored bins."""
        means = self._totals / np.maximum(self._weights, 1.0)
        return np.where(self.scored_bins >= MIN_SCORED_BINS, means, np.inf)


def weights(errors: FloatArray, usable: npt.NDArray[np.bool_], floor: int = 0, power: float = POWER) -> FloatArray:
    """Share of each model in the mix at each lead.

    Args:
        errors: mean absolute error of each model, shape (horizons, models); infinite where not known.
        usable: whether the model has a forecast now, same shape.
        floor: the model that gets everything until it has been scored itself.
        power: how fast a share falls with the error.

    Returns:
        Shape (horizons, models); rows add up to one.
    """
    errors = np.where(usable, errors, np.inf)
    least = errors.min(axis=1, keepdims=True)
    ratios = np.divide(least, errors, out=np.ones_like(errors), where=errors > least)
    shares = np.where(np.isfinite(errors), ratios**power, 0.0)
    unscored = ~np.isfinite(errors[:, floor])
    shares[unscored] = 0.0
    shares[unscored, floor] = 1.0
    normalised: FloatArray = shares / shares.sum(axis=1, keepdims=True)
    return normalised


def floored(shares: FloatArray, judged: FloatArray, floor: int = 0) -> FloatArray:
    """Shares with everything given to the floor at the leads where the mix has been worse.

    Args:
        shares: share of each model, shape (horizons, models).
        judged: mean absolute error of the floor and of the mix, shape (horizons, 2); infinite where not known.
        floor: the model to fall back on.
    """
    alone = np.zeros_like(shares)
    alone[:, floor] = 1.0
    return np.where((judged[:, 1] > judged[:, 0])[:, None], alone, shares)
