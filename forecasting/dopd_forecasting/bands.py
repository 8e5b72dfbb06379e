"""Quantiles that hold what they promise.

Models are wrong about their own spread, so the bands do not ask them. The newest errors, each divided by the
square root of what was forecast (the spread of a count grows like that), stand for the next error: split
conformal prediction. After a change of the load too many bins fall outside; then the level that is asked of
those errors moves until the promised share is inside again: adaptive conformal inference. The step is small,
since a larger one buys coverage with bands that are wide when nothing happens.

References: Vovk, Gammerman and Shafer, Algorithmic Learning in a Random World (2005); Gibbs and Candes, Adaptive
Conformal Inference Under Distribution Shift (2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from dopd_forecasting.lead_buffer import LeadBuffer
from dopd_forecasting.models.base import Horizons
from dopd_forecasting.series import FloatArray

KEPT_SCORES = 200
MIN_SCORES = 10  # with fewer at a lead, those of the next shorter lead stand in
STEP = 0.01  # how far the level moves for one bin outside
LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])  # levels whose coverage is watched
WATCHED_90 = 5
TAIL = 3.0  # standard deviations beyond the largest error for one whole unit of level above one
PRIOR_SPREAD, PRIOR_SCORES = (
    0.25,
    2,
)  # a new series is taken to be known to a quarter of its level, as if two bins had shown it


class ConformalBands:
    """Bands about the forecasts of one series at several leads, from the errors of the forecasts before."""

    def __init__(self, horizons: Horizons) -> None:
        self._horizons = np.array(horizons)
        self._buffer = LeadBuffer(horizons, 1 + len(LEVELS))
        self._scores = np.full((KEPT_SCORES, len(horizons)), np.nan)
        self._inside_90 = np.full((KEPT_SCORES, len(horizons)), np.nan)
        self._row = 0
        self._mean_load, self._bins = 0.0, 0
        self._asked = np.tile(LEVELS, (len(horizons), 1))

    def say(self, means: FloatArray) -> None:
        """Keep the forecasts made after the newest bin, shape (horizons,)."""
        quantiles = self._around(means, range(len(means)), self._asked)
        self._buffer.say(np.column_stack([means, quantiles]))

    def observe(self, value: float) -> None:
        """Score what was said about the next bin; NaN, a missing bin, scores nothing."""
        said = self._buffer.advance()
        if np.isnan(value):
            return
        self._bins += 1
        self._mean_load += (value - self._mean_load) / min(self._bins, KEPT_SCORES)
        means, quantiles = said[:, 0], said[:, 1:]
        self._scores[self._row] = (value - means) / self._spread(means)
        inside = np.where(np.isnan(quantiles), np.nan, value <= quantiles)
        self._inside_90[self._row] = inside[:, WATCHED_90]
        self._asked += np.nan_to_num(STEP * (LEVELS - inside))
        self._asked = np.clip(self._asked, LEVELS - 0.4, LEVELS + 0.3)
        self._row = (self._row + 1) % KEPT_SCORES

    def quantiles(self, means: FloatArray, rows: Sequence[int], levels: Sequence[float]) -> FloatArray:
        """Quantiles about forecasts.

        Args:
            means: forecasts, shape (n,).
            rows: for each forecast, the index of the horizon whose errors stand for its own.
            levels: quantiles wanted, each in (0, 1).

        Returns:
            Shape (n, levels); never negative, never falling in the level.
        """
        shifts = np.array([np.interp(levels, LEVELS, self._asked[row] - LEVELS) for row in rows])
        bands = self._around(means, rows, np.asarray(levels) + shifts)
        order = np.argsort(levels, kind="stable")
        bands[:, order] = np.maximum.accumulate(bands[:, order], axis=1)
        return bands

    @property
    def coverage_90(self) -> FloatArray:
        """Share of the newest bins at or under their 90 % quantile, per horizon; NaN while none is known."""
        known = np.isfinite(self._inside_90).sum(axis=0)
        return np.where(known > 0, np.nansum(self._inside_90, axis=0) / np.maximum(known, 1), np.nan)

    def _spread(self, means: FloatArray) -> FloatArray:
        return np.sqrt(np.maximum(means, max(self._mean_load / 100, np.finfo(float).tiny)))

    def _around(self, means: FloatArray, rows: Sequence[int], levels: FloatArray) -> FloatArray:
        """Bands at the levels given for each row, shape (n, levels)."""
        ordered = np.sort(self._scores, axis=0)  # NaN comes last
        counts = np.isfinite(ordered).sum(axis=0)
        bands = np.empty((len(means), levels.shape[-1]))
        spread = self._spread(means)
        for index, row in enumerate(rows):
            # A lead with few errors of its own borrows those of a shorter one, widened as a random walk would.
            lender = int(row)
            while lender > 0 and counts[lender] < MIN_SCORES:
                lender -= 1
            widening = np.sqrt(self._horizons[row] / self._horizons[lender])
            scores = ordered[: counts[lender], lender]
            offsets = self._score_quantiles(scores, levels[index], float(means[index] / spread[index]))
            bands[index] = means[index] + spread[index] * widening * offsets
        return np.maximum(bands, 0.0)

    @staticmethod
    def _score_quantiles(scores: FloatArray, levels: FloatArray, level_of_load: float) -> FloatArray:
        """Quantiles of the sorted `scores`; with few, normal ones of a spread that begins at PRIOR_SPREAD."""
        if len(scores) < MIN_SCORES:
            squares = float(scores @ scores) + PRIOR_SCORES * (PRIOR_SPREAD * level_of_load) ** 2
            sd = np.sqrt(squares / (len(scores) + PRIOR_SCORES))
            return np.array([sd * NormalDist().inv_cdf(min(max(level, 0.005), 0.995)) for level in levels])
        position = np.clip(levels * (len(scores) + 1) - 1, 0, len(scores) - 1)
        inner = np.interp(position, np.arange(len(scores)), scores)
        beyond = np.maximum(levels - 1, 0) + np.minimum(levels, 0)
        quantiles: FloatArray = inner + TAIL * float(scores.std()) * beyond
        return quantiles
