"""The near past, sample by sample, and what came within the lead after each."""

from bisect import bisect_right
from math import exp, floor

import numpy as np

from dopd.autoscaler.minutes import MINUTE_SECONDS, Minutes
from dopd.autoscaler.tuning import Tuning
from dopd.autoscaler.voices import SMALL_LOAD, Near, prior_deviation

_MEMORIES = 3
"""Older errors have a twentieth of the weight and less, and are forgotten."""
_ROUNDING_SECONDS = 1e-6


class Samples:
    """Of one role.

    Args:
        tuning: constants.
        lead_seconds: until a decision takes effect.
    """

    def __init__(self, tuning: Tuning, lead_seconds: float) -> None:
        self._tuning, self._lead_seconds = tuning, lead_seconds
        self._since_seconds: float | None = None
        self.times: list[float] = []
        self.loads: list[float] = []
        self.levels: list[float] = []
        self._widths: list[float] = []
        self._peaks: list[float] = []  # as far as the lead is over

    def add(self, at_seconds: float, load: float) -> None:
        """Take in a sample that follows the last one."""
        self._append(at_seconds, load, self._tuning.spacing_seconds)
        self._settle()

    def begin_with(self, minutes: Minutes) -> None:
        """Let the newest minutes of a history stand for samples, up to the first sample."""
        samples = list(zip(self.times, self.loads, self._widths, strict=True))
        for kept in self._lists:
            kept.clear()
        start = max(0, len(minutes.values) - floor(2 * _MEMORIES * self._tuning.memory_seconds / MINUTE_SECONDS))
        self._since_seconds = minutes.first * MINUTE_SECONDS
        for end, load in enumerate(minutes.values[start:].tolist(), minutes.first + start + 1):
            at_seconds = end * MINUTE_SECONDS
            if load == load and not (samples and at_seconds > samples[0][0] - self._tuning.spacing_seconds):
                self._append(at_seconds, load, MINUTE_SECONDS)
        for sample in samples:
            self._append(*sample)
        self._settle()

    def set_lead(self, lead_seconds: float) -> None:
        """Look for the peaks of another lead."""
        self._lead_seconds = lead_seconds
        self._peaks.clear()
        self._settle()

    def near(self) -> Near:
        """The newest sample as a situation, and those before it.

        Raises:
            IndexError: there is none.
        """
        tuning, lead, past = self._tuning, self._lead_seconds, len(self._peaks)
        times, loads = np.array(self.times), np.array(self.loads)
        levels, widths = np.array(self.levels), np.array(self._widths[:past])
        position = loads / np.maximum(levels, SMALL_LOAD)
        ranks = np.searchsorted(np.sort(position[:past]), position) / max(1, past)
        # Leads that overlap tell the same: together they count as one.
        weights = np.exp(-(times[-1] - times[:past]) / tuning.memory_seconds) * np.minimum(1.0, widths / lead)
        since = times[-1] if self._since_seconds is None else self._since_seconds
        aged = exp(-(times[-1] - since) / tuning.memory_seconds)  # they were before all others
        return Near(
            loads[-1:],
            levels[-1:],
            ranks[-1:],
            loads[None, :past],
            levels[None, :past],
            ranks[None, :past],
            np.array(self._peaks)[None, :],
            weights[None, :],
            np.array([aged * tuning.prior_leads]),
            prior_deviation(tuning, lead),
        )

    @property
    def _lists(self) -> tuple[list[float], ...]:
        return self.times, self.loads, self.levels, self._widths, self._peaks

    def _append(self, at_seconds: float, load: float, width_seconds: float) -> None:
        if self._since_seconds is None:
            self._since_seconds = at_seconds
        share = 1 - exp(-width_seconds / self._tuning.level_seconds)
        level = load if not self.levels else self.levels[-1] + share * (load - self.levels[-1])
        self.times.append(at_seconds)
        self.loads.append(load)
        self.levels.append(level)
        self._widths.append(width_seconds)

    def _settle(self) -> None:
        """Note the peaks of the leads that are over with the newest sample, and forget what is old."""
        if not self.times:
            return
        while self.times[len(self._peaks)] + self._lead_seconds <= self.times[-1] + _ROUNDING_SECONDS:
            first = len(self._peaks) + 1
            end = bisect_right(self.times, self.times[first - 1] + self._lead_seconds)
            self._peaks.append(max(self.loads[first:end], default=self.loads[first - 1]))
        before_seconds, old = self.times[-1] - _MEMORIES * self._tuning.memory_seconds, 0
        while self.times[old] < before_seconds:
            old += 1
        if old:
            for kept in self._lists:
                del kept[:old]
