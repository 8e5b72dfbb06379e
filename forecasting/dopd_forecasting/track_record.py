"""What each model said, and how far off it was once the load was known.

Weights, bands and trust all rest on the same measurements: errors of forecasts that were made before the load was seen. A record
keeps the newest of them and nothing else, so a process that restarts and replays a bounded history has the same record as one
that ran all along.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dopd_forecasting.series import FloatArray


@dataclass
class TrackRecord:
    """Forecasts of `models` at `horizons`, and the errors of those whose target bin is known.

    Attributes:
        horizons: leads in bins, increasing.
        models: how many models are followed.
        memory: how many known target bins are kept.
    """

    horizons: tuple[int, ...]
    models: int
    memory: int

    def __post_init__(self) -> None:
        shape = (len(self.horizons), self.models)
        self._lags = np.array(self.horizons)
        self._rows = np.arange(len(self.horizons))
        self._pending = np.full((self.horizons[-1] + 1, *shape), np.nan)
        self._forecasts = np.full((self.memory, *shape), np.nan)
        self._values = np.full(self.memory, np.nan)
        self._made = 0  # origins so far; the forecast of origin k lies in row k of `_pending`, modulo its length
        self._known = 0  # measured target bins so far

    def note(self, forecasts: FloatArray) -> None:
        """Keep what was forecast after the newest bin, shape (horizons, models); NaN where a model said nothing."""
        self._pending[self._made % len(self._pending)] = forecasts

    def observe(self, value: float) -> None:
        """Take in the next bin; NaN when missing."""
        if not math.isnan(value):
            origins = (self._made + 1 - self._lags) % len(self._pending)
            row = self._known % self.memory
            self._forecasts[row] = self._pending[origins, self._rows]
            self._values[row] = value
            self._known += 1
        self._made += 1
        self._pending[self._made % len(self._pending)] = np.nan

    @property
    def known(self) -> int:
        """How many target bins are kept."""
        return min(self._known, self.memory)

    def newest(self, count: int) -> tuple[FloatArray, FloatArray]:
        """The newest `count` known bins, oldest first: forecasts (count, horizons, models) and values (count,)."""
        rows = np.arange(self._known - min(count, self.known), self._known) % self.memory
        return self._forecasts[rows], self._values[rows]
