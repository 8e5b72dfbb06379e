"""What one role carried, minute by minute, for four weeks: from a history, and from the samples since."""

from collections.abc import Sequence
from math import ceil, floor

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

MINUTE_SECONDS = 60.0
KEPT_MINUTES = 28 * 1440
_ROUNDING_SECONDS = 1e-3


class Minutes:
    """Busy workers in each minute; NaN where it is not known. Minute k covers [k, k + 1) * 60 s."""

    def __init__(self) -> None:
        self.first = 0
        self._values: Floats = np.empty(0)
        self._count = 0
        self._open: int | None = None  # the minute that samples still come for
        self._sum, self._samples = 0.0, 0

    @property
    def values(self) -> Floats:
        """Of the minutes from `first` on that are over, oldest first."""
        return self._values[: self._count]

    @property
    def next(self) -> int:
        """The minute after the last one that is over."""
        return self.first + self._count

    def learn(
        self, end_seconds: Sequence[float] | Floats, seconds: Sequence[float] | Floats, loads: Sequence[float] | Floats
    ) -> int:
        """Take in bins of a history, of any widths; what samples told is kept.

        Args:
            end_seconds: end of each bin.
            seconds: width of each.
            loads: mean of each, in busy workers. Between the middles of bins wider than a minute it goes straight.

        Returns:
            How many minutes were not known before.

        Raises:
            ValueError: the three are not equally long, or a width is not positive.
        """
        ends, widths, means = (np.asarray(one, dtype=float) for one in (end_seconds, seconds, loads))
        if not len(ends) == len(widths) == len(means):
            raise ValueError(f"{len(ends)} ends, {len(widths)} widths and {len(means)} loads: give one of each a bin")
        if len(widths) and not widths.min() > 0:
            raise ValueError(f"a bin of the history is {widths.min()!r} s wide: expected a positive number of seconds")
        known = np.isfinite(ends) & np.isfinite(means)
        ends, widths, means = ends[known], widths[known], means[known]
        if not len(ends):
            return 0
        order = np.argsort(ends, kind="stable")
        ends, widths, means = _no_finer_than_a_minute(ends[order], widths[order], means[order])
        stop = floor(ends[-1] / MINUTE_SECONDS + _ROUNDING_SECONDS)
        start = max(ceil((ends[0] - widths[0]) / MINUTE_SECONDS - _ROUNDING_SECONDS), stop - KEPT_MINUTES)
        if stop <= start:
            return 0
        middles = (np.arange(start, stop) + 0.5) * MINUTE_SECONDS
        within = np.minimum(np.searchsorted(ends, middles), len(ends) - 1)
        inside = (middles >= ends[within] - widths[within]) & (middles <= ends[within])
        told = np.where(inside, np.interp(middles, ends - widths / 2, means), np.nan)
        return self._merge(start, told)

    def add(self, at_seconds: float, load: float) -> None:
        """Take in a sample, which tells of the time before it."""
        minute = floor((at_seconds - _ROUNDING_SECONDS) / MINUTE_SECONDS)
        if self._open is not None and minute > self._open:
            self._close()
        if self._open is None:
            self._open, self._sum, self._samples = minute, 0.0, 0
        self._sum += load
        self._samples += 1

    def greatest(self, start_seconds: float, end_seconds: float) -> float:
        """The busiest minute that is over and not wholly outside of the time given; NaN if none is known."""
        begin = max(0, floor(start_seconds / MINUTE_SECONDS + _ROUNDING_SECONDS) - self.first)
        end = max(begin, ceil(end_seconds / MINUTE_SECONDS - _ROUNDING_SECONDS) - self.first)
        return float(np.fmax.reduce(self.values[begin:end], initial=np.nan))

    def _close(self) -> None:
        assert self._open is not None
        if not self._count:
            self.first = self._open
        missing = self._open - self.next
        if missing < 0:  # the history told of it
            self._open = None
            return
        missing = min(missing, KEPT_MINUTES)
        self._append(np.append(np.full(missing, np.nan), self._sum / self._samples))
        self._open = None

    def _append(self, values: Floats) -> None:
        if self._count + len(values) > len(self._values):
            kept = self.values[-KEPT_MINUTES:]
            self.first += self._count - len(kept)
            self._values = np.full(len(kept) + len(values) + max(1440, len(kept) // 4), np.nan)
            self._values[: len(kept)] = kept
            self._count = len(kept)
        self._values[self._count : self._count + len(values)] = values
        self._count += len(values)

    def _merge(self, start: int, told: Floats) -> int:
        if not self._count:
            self.first = start
        first = min(start, self.first)
        stop = max(start + len(told), self.next)
        merged = np.full(stop - first, np.nan)
        merged[start - first : start - first + len(told)] = told
        mine = merged[self.first - first : self.next - first]
        mine[:] = np.where(np.isfinite(self.values), self.values, mine)
        news = int(np.count_nonzero(np.isfinite(merged)) - np.count_nonzero(np.isfinite(self.values)))
        merged = merged[-KEPT_MINUTES:]
        self.first, self._values, self._count = stop - len(merged), merged, len(merged)
        return news


def _no_finer_than_a_minute(ends: Floats, widths: Floats, means: Floats) -> tuple[Floats, Floats, Floats]:
    """Bins shorter than a minute are put together."""
    fine = widths < MINUTE_SECONDS - _ROUNDING_SECONDS
    if not fine.any():
        return ends, widths, means
    numbers, which = np.unique(np.floor((ends[fine] - widths[fine] / 2) / MINUTE_SECONDS), return_inverse=True)
    weights = np.bincount(which, widths[fine])
    together = np.bincount(which, widths[fine] * means[fine]) / weights
    all_ends = np.append(ends[~fine], (numbers + 1) * MINUTE_SECONDS)
    order = np.argsort(all_ends, kind="stable")
    all_widths = np.append(widths[~fine], np.full(len(numbers), MINUTE_SECONDS))
    return all_ends[order], all_widths[order], np.append(means[~fine], together)[order]
