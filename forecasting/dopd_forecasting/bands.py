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

KEPT_SCORES = 400  # errors that stand for the next one
RECENT_BINS = 200  # over which coverage and the mean load are measured
MIN_SCORES = 10  # with fewer at a lead, those of the next shorter lead stand in
STEP = 0.01  # how far the level moves for one bin outside
LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99])  # levels whose coverage is watched
WATCHED_90 = 5
TAIL = 3.0  # standard deviations beyond the largest error for one whole unit of level above one
PRIOR_SPREAD, PRIOR_SCORES = 0.25, 2  # a new series is known to a quarter of its level, as if two bins had shown it


class ConformalBands:
    """Bands about the forecasts of one series at several leads, from the errors of the forecasts before."""

    def __init__(self, horizons: Horizons) -> None:
        self._horizons = np.array(horizons)
        self._buffer = LeadBuffer(horizons, 1 + len(LEVELS))
        self._scores = np.full((KEPT_SCORES, len(horizons)), np.nan)
        self._ordered = [np.empty(0)] * len(horizons)  # the same, sorted
        self._inside_90 = np.full((RECENT_BINS, len(horizons)), np.nan)
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
        row = self._bins % KEPT_SCORES
        self._bins += 1
        self._mean_load += (value - self._mean_load) / min(self._bins, RECENT_BINS)
        means, quantiles = said[:, 0], said[:, 1:]
        self._scores[row] = (value - means) / self._spread(means)
        ordered = np.sort(self._scores, axis=0)  # NaN comes last
        counts = np.isfinite(ordered).sum(axis=0)
        self._ordered = [column[:count] for column, count in zip(ordered.T, counts.tolist(), strict=True)]
        inside = np.where(np.isnan(quantiles), np.nan, value <= quantiles)
        self._inside_90[row % RECENT_BINS] = inside[:, WATCHED_90]
        self._asked += np.nan_to_num(STEP * (LEVELS - inside))
        self._asked = np.clip(self._asked, LEVELS - 0.4, LEVELS + 0.3)

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
        bands = np.empty((len(means), levels.shape[-1]))
        spread = self._spread(means)
        for index, row in enumerate(rows):
            # A lead with few errors of its own borrows those of a shorter one, widened as a random walk would.
            lender = int(row)
            while lender > 0 and len(self._ordered[lender]) < MIN_SCORES:
                lender -= 1
            widening = np.sqrt(self._horizons[row] / self._horizons[lender])
            offsets = _score_quantiles(self._ordered[lender], levels[index], float(means[index] / spread[index]))
            bands[index] = means[index] + spread[index] * widening * offsets
        return np.maximum(bands, 0.0)


class ReturnBands:
    """Bands while a service is off: the loads that came at each lead after other bins in which it was off.

    The best single forecast is that it stays off, but a service that is back within the hour on one evening in three
    is not off for a quantile of 90 %. Before it has been off for a while itself, nothing is expected.
    """

    def __init__(self, horizons: Horizons) -> None:
        self._buffer = LeadBuffer(horizons, 1)
        self._loads = np.full((KEPT_SCORES, len(horizons)), np.nan)
        self._row = 0
        self._loaded = False  # a service that has not begun yet is not off

    def say(self, *, off: bool) -> None:
        """Note whether the service was off in the newest bin."""
        self._buffer.say(np.full((self._loads.shape[1], 1), 0.0 if off and self._loaded else np.nan))

    def observe(self, value: float) -> None:
        """Keep the load of the next bin at the leads before which the service was off; NaN is no load."""
        self._loaded = self._loaded or value > 0
        loads = self._buffer.advance()[:, 0] + value
        if np.isfinite(loads).any():
            self._loads[self._row] = loads
            self._row = (self._row + 1) % KEPT_SCORES

    def quantiles(self, rows: Sequence[int], levels: Sequence[float]) -> FloatArray:
        """As ConformalBands.quantiles, shape (rows, levels)."""
        bands = np.zeros((len(rows), len(levels)))
        for index, row in enumerate(rows):
            loads = np.sort(self._loads[:, row])
            loads = loads[: np.isfinite(loads).sum()]
            if len(loads) >= MIN_SCORES:
                bands[index] = _ranked(loads, np.asarray(levels))
        return bands


class LoadBands:
    """Bands of one series, whether it runs or is off; what is said in one state is no measure of the other."""

    def __init__(self, horizons: Horizons) -> None:
        self._running, self._off = ConformalBands(horizons), ReturnBands(horizons)

    def say(self, means: FloatArray, *, off: bool) -> None:
        """Keep the forecasts made after the newest bin, shape (horizons,)."""
        self._running.say(np.full_like(means, np.nan) if off else means)
        self._off.say(off=off)

    def observe(self, value: float) -> None:
        """Score what was said about the next bin; NaN, a missing bin, scores nothing."""
        self._running.observe(value)
        self._off.observe(value)

    def quantiles(self, means: FloatArray, rows: Sequence[int], levels: Sequence[float], *, off: bool) -> FloatArray:
        """As ConformalBands.quantiles."""
        return self._off.quantiles(rows, levels) if off else self._running.quantiles(means, rows, levels)

    @property
    def coverage_90(self) -> FloatArray:
        """As ConformalBands.coverage_90: while the service runs."""
        return self._running.coverage_90


def _score_quantiles(scores: FloatArray, levels: FloatArray, level_of_load: float) -> FloatArray:
    """Quantiles of the sorted `scores`; with few, normal ones of a spread that begins at PRIOR_SPREAD."""
    if len(scores) < MIN_SCORES:
        squares = float(scores @ scores) + PRIOR_SCORES * (PRIOR_SPREAD * level_of_load) ** 2
        sd = np.sqrt(squares / (len(scores) + PRIOR_SCORES))
        return np.array([sd * NormalDist().inv_cdf(min(max(level, 0.005), 0.995)) for level in levels])
    quantiles = _ranked(scores, levels)
    beyond = np.maximum(levels - 1, 0) + np.minimum(levels, 0)
    if beyond.any():
        quantiles += TAIL * float(scores.std()) * beyond
    return quantiles


def _ranked(ordered: FloatArray, levels: FloatArray) -> FloatArray:
    """Quantiles of an ordered sample as of a new member of it: the rank of a level is level * (n + 1)."""
    position = np.clip(levels * (len(ordered) + 1) - 1, 0, len(ordered) - 1)
    quantiles: FloatArray = np.interp(position, np.arange(len(ordered)), ordered)
    return quantiles
