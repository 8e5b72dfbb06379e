"""Forecasts that wait for their bin: what was said one bin ago about now, two bins ago about now, and so on."""

from __future__ import annotations

import numpy as np

from dopd_forecasting.models.base import Horizons
from dopd_forecasting.series import FloatArray


class LeadBuffer:
    """Holds rows of numbers per horizon from when they are said until the bin that they speak of has come.

    Args:
        horizons: leads in bins, increasing.
        width: numbers per horizon.
    """

    def __init__(self, horizons: Horizons, width: int) -> None:
        self._horizons = np.array(horizons)
        self._rows = np.arange(len(horizons))
        self._said = np.full((horizons[-1] + 1, len(horizons), width), np.nan)
        self._newest = 0

    def say(self, numbers: FloatArray) -> None:
        """Keep what is said after the newest bin, shape (horizons, width)."""
        self._said[self._newest % len(self._said)] = numbers

    def advance(self) -> FloatArray:
        """Move to the next bin; returns what was said about it, shape (horizons, width), NaN where nothing was."""
        self._newest += 1
        about_now: FloatArray = self._said[(self._newest - self._horizons) % len(self._said), self._rows]
        self._said[self._newest % len(self._said)] = np.nan
        return about_now
