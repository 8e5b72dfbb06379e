"""The newest bins of a series, appended to one at a time at constant cost."""

from __future__ import annotations

import numpy as np

from dopd_forecasting.series import FloatArray, Series

LEAST_BINS = 32


class History:
    """At most `kept_bins` bins that end with the newest one."""

    def __init__(self, series: Series, kept_bins: int) -> None:
        self._kept = kept_bins
        self._bin_seconds, self._unit = series.bin_seconds, series.unit
        self.next_bin = series.next_bin
        self._start_buffer(series.values[-kept_bins:])

    def _start_buffer(self, values: FloatArray) -> None:
        """Twice as long as what it holds, so that copying costs a constant per bin and memory follows the history."""
        self._buffer = np.empty(2 * max(len(values), LEAST_BINS))
        self._buffer[: len(values)] = values
        self._stop = len(values)

    def append(self, value: float) -> None:
        """Take in the bin `next_bin`."""
        if self._stop == len(self._buffer):
            self._start_buffer(self.tail(self._kept))
        self._buffer[self._stop] = value
        self._stop += 1
        self.next_bin += 1

    def tail(self, bins: int) -> FloatArray:
        """The newest bins, at most `bins` of them, as a view that the next `append` may change."""
        return self._buffer[max(0, self._stop - min(bins, self._kept)) : self._stop]

    def __len__(self) -> int:
        return min(self._stop, self._kept)

    def series(self) -> Series:
        """A copy of the bins that are kept."""
        values = self.tail(self._kept)
        return Series(values, self.next_bin - len(values), self._bin_seconds, self._unit)
