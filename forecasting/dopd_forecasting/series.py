"""A load series in regular bins, where "no load" and "not known" are different things.

Every forecast starts from telemetry that is irregular, late, doubled, reset or absent. This module is the only
place that deals with that. What comes out is a grid of bins aligned to whole multiples of the bin length since
the epoch, so that two processes that look at the same load, or one process before and after a restart, see the
same bins.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

MAX_BINS = 40_320  # four weeks of minutes: what one stray time stamp can cost in memory
MAX_VALUE = 1e15  # no load is larger; a counter that says so is broken
MIN_COVERAGE = 0.5  # a counter must have been watched for this share of a bin


class BinState(Enum):
    """What is known about one bin."""

    VALUE = "value"
    ZERO = "zero"  # measured, and there was no load
    MISSING = "missing"  # not measured


@dataclass(frozen=True, eq=False)
class Series:
    """Load per bin.

    Attributes:
        values: load of each bin in `unit`, oldest first; NaN where missing; what is negative, infinite
            or above MAX_VALUE was not measured right and is missing too.
        first_bin: number of the first bin since the epoch; bin k covers [k, k + 1) * bin_seconds.
        bin_seconds: length of a bin.
        unit: unit of the values, as "requests/s".
    """

    values: FloatArray
    first_bin: int
    bin_seconds: float
    unit: str

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bin_seconds) and self.bin_seconds > 0):
            raise ValueError(f"bin_seconds is {self.bin_seconds!r}: expected a positive number of seconds")
        if not self.unit:
            raise ValueError('unit is empty: name the unit of the values, as "requests/s"')
        values = np.array(self.values, dtype=float)  # a copy: a series never changes after it was made
        if values.ndim != 1:
            raise ValueError(f"values have shape {values.shape}: expected one dimension")
        values[~((values >= 0) & (values <= MAX_VALUE))] = np.nan
        values.flags.writeable = False
        object.__setattr__(self, "values", values)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def next_bin(self) -> int:
        """Number of the bin that follows the last one."""
        return self.first_bin + len(self.values)

    @property
    def start_seconds(self) -> float:
        """Start of the first bin."""
        return self.first_bin * self.bin_seconds

    @property
    def end_seconds(self) -> float:
        """End of the last bin."""
        return self.next_bin * self.bin_seconds

    @property
    def states(self) -> list[BinState]:
        """State of each bin."""
        return [
            BinState.MISSING if math.isnan(value) else BinState.VALUE if value else BinState.ZERO
            for value in self.values
        ]

    def before(self, bin_number: int) -> Series:
        """The bins with a number below `bin_number`."""
        return replace(self, values=self.values[: max(0, bin_number - self.first_bin)])

    def since(self, bin_number: int) -> Series:
        """The bins from `bin_number` on; those between the end of the series and `bin_number` do not exist."""
        skip = max(0, bin_number - self.first_bin)
        return replace(self, values=self.values[skip:], first_bin=max(self.first_bin, bin_number))

    @classmethod
    def from_values(
        cls, values: Sequence[float] | FloatArray, *, bin_seconds: float, unit: str, start_seconds: float = 0.0
    ) -> Series:
        """Build a series from values that are in regular bins already; NaN means missing."""
        first_bin = round(start_seconds / bin_seconds) if bin_seconds > 0 else 0
        return cls(np.asarray(values, dtype=float), first_bin, bin_seconds, unit)

    @classmethod
    def from_samples(
        cls,
        times_seconds: Sequence[float] | FloatArray,
        values: Sequence[float] | FloatArray,
        *,
        bin_seconds: float,
        unit: str,
        end: float | None = None,
    ) -> Series:
        """Average the samples of a gauge in each bin.

        Args:
            times_seconds: stamps, in any order; of samples with equal stamps the last one given counts.
            values: sampled load; NaN, infinite and negative samples count as not taken.
            bin_seconds: length of a bin.
            unit: unit of the values.
            end: now; bins that end later are left out, since they are not complete. Default: end of the newest
                sample's bin.

        Returns:
            Bins from the first sample to `end`; a bin without a sample is missing.
        """
        times, samples = _clean(times_seconds, values)
        grid = _Grid.over(times, bin_seconds, end)
        bins, inside = grid.locate(times)
        totals = np.bincount(bins, weights=samples[inside], minlength=grid.count)
        counts = np.bincount(bins, minlength=grid.count)
        with np.errstate(invalid="ignore"):
            return cls(totals / counts, grid.first_bin, bin_seconds, unit)

    @classmethod
    def from_counter(
        cls,
        times_seconds: Sequence[float] | FloatArray,
        counts: Sequence[float] | FloatArray,
        *,
        bin_seconds: float,
        unit: str,
        end: float | None = None,
        max_gap_seconds: float | None = None,
    ) -> Series:
        """Turn readings of a counter into a rate per second.

        The increase between two readings is spread evenly over the time between them. A reading below the one
        before it means that the counter began again from zero.

        Args:
            times_seconds: stamps, in any order; of readings with equal stamps the last one given counts.
            counts: readings; NaN, infinite and negative ones count as not taken.
            bin_seconds: length of a bin.
            unit: unit of the rate, as "requests/s".
            end: now; bins that end later are left out. Default: end of the newest reading's bin.
            max_gap_seconds: readings further apart than this say nothing about the time between them; default
                two bins.

        Returns:
            Rates; a bin that was watched for less than half of its length is missing.
        """
        times, readings = _clean(times_seconds, counts)
        grid = _Grid.over(times, bin_seconds, end)
        if len(times) < 2:
            return cls(np.full(grid.count, np.nan), grid.first_bin, bin_seconds, unit)
        increases = np.diff(readings)
        increases = np.where(increases < 0, readings[1:], increases)
        spans = np.diff(times)
        limit = 2 * bin_seconds if max_gap_seconds is None else max_gap_seconds
        watched = spans <= limit
        edges = (grid.first_bin + np.arange(grid.count + 1)) * bin_seconds
        total = np.interp(edges, times, np.concatenate(([0.0], np.cumsum(np.where(watched, increases, 0.0)))))
        seconds = np.interp(edges, times, np.concatenate(([0.0], np.cumsum(np.where(watched, spans, 0.0)))))
        covered = np.diff(seconds)
        known = covered >= MIN_COVERAGE * bin_seconds
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            rates = np.where(known, np.diff(total) / covered, np.nan)
        return cls(rates, grid.first_bin, bin_seconds, unit)

    @classmethod
    def from_events(
        cls,
        times_seconds: Sequence[float] | FloatArray,
        amounts: Sequence[float] | FloatArray | None = None,
        *,
        bin_seconds: float,
        unit: str,
        end: float | None = None,
    ) -> Series:
        """Count events, or add up their amounts, into a rate per second; a bin without one is a healthy zero."""
        weights = np.ones(len(times_seconds)) if amounts is None else amounts
        order = np.argsort(np.asarray(times_seconds, dtype=float), kind="stable")
        times, sizes = np.asarray(times_seconds, dtype=float)[order], np.asarray(weights, dtype=float)[order]
        usable = np.isfinite(times) & np.isfinite(sizes) & (sizes >= 0)
        times, sizes = times[usable], sizes[usable]
        grid = _Grid.over(times, bin_seconds, end)
        bins, inside = grid.locate(times)
        totals = np.bincount(bins, weights=sizes[inside], minlength=grid.count)
        return cls(totals / bin_seconds, grid.first_bin, bin_seconds, unit)


@dataclass(frozen=True)
class _Grid:
    first_bin: int
    count: int
    bin_seconds: float

    @classmethod
    def over(cls, times: FloatArray, bin_seconds: float, end: float | None) -> _Grid:
        if not (math.isfinite(bin_seconds) and bin_seconds > 0):
            raise ValueError(f"bin_seconds is {bin_seconds!r}: expected a positive number of seconds")
        if len(times) == 0:
            return cls(0 if end is None else math.floor(end / bin_seconds), 0, bin_seconds)
        stop = math.floor(times[-1] / bin_seconds) + 1 if end is None else math.floor(end / bin_seconds)
        first = max(math.floor(times[0] / bin_seconds), stop - MAX_BINS)
        return cls(min(first, stop), max(0, stop - first), bin_seconds)

    def locate(self, times: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        bins = np.floor(times / self.bin_seconds) - self.first_bin
        inside = (bins >= 0) & (bins < self.count)
        return bins[inside].astype(np.int64), inside


def _clean(
    times_seconds: Sequence[float] | FloatArray, values: Sequence[float] | FloatArray
) -> tuple[FloatArray, FloatArray]:
    times, samples = np.asarray(times_seconds, dtype=float), np.asarray(values, dtype=float)
    if times.shape != samples.shape or times.ndim != 1:
        raise ValueError(f"{times.shape} stamps for {samples.shape} values: expected two equally long sequences")
    usable = np.isfinite(times) & np.isfinite(samples) & (samples >= 0)
    times, samples = times[usable], samples[usable]
    order = np.argsort(times, kind="stable")
    times, samples = times[order], samples[order]
    newest = np.append(times[1:] != times[:-1], True)[: len(times)]
    return times[newest], samples[newest]
