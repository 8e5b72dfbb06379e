"""How long passes really take: a factor to the service times that the settings give, but for those of transfers."""

from collections import deque
from dataclasses import replace

from dopd_scheduling import ServiceTimes

PASSES = 64
"""The last so many passes count."""

UNKNOWN = ServiceTimes(pass_points=((100, 0.015), (8192, 0.42)))
"""To begin with where no times are given: a model of some 8 billion parameters on one GPU of the H100's kind."""

GIVEN_BOUNDS = (0.25, 4.0)
UNKNOWN_BOUNDS = (0.01, 100.0)


class LearnedTimes:
    """The factor is the median of measured over expected times, weighted by what was expected.

    Long passes count for more: they decide who is late. A median is not moved by single stalls, such as a first
    compilation.
    """

    def __init__(self, given: ServiceTimes | None) -> None:
        self.given = given
        self._base = given or UNKNOWN
        self._bounds = GIVEN_BOUNDS if given else UNKNOWN_BOUNDS
        self._passes: deque[tuple[float, float]] = deque(maxlen=PASSES)
        self.times = self._base

    def expected_seconds(self, pieces: list[tuple[int, int]]) -> float:
        """Of a pass over so many (tokens, tokens before them), before the factor."""
        return self._base.seconds_of(pieces)

    def observe(self, pieces: list[tuple[int, int]], measured_seconds: float) -> None:
        """Learn from a pass; `times` is new afterwards."""
        expected = self.expected_seconds(pieces)
        if measured_seconds <= 0 or expected <= 0:
            return
        self._passes.append((measured_seconds / expected, expected))
        low, high = self._bounds
        factor = min(max(_weighted_median(list(self._passes)), low), high)
        base = self._base
        self.times = replace(
            base,
            pass_points=tuple((tokens, factor * seconds) for tokens, seconds in base.pass_points),
            attention_seconds=factor * base.attention_seconds,
        )


def _weighted_median(values: list[tuple[float, float]]) -> float:
    half = sum(weight for _, weight in values) / 2
    reached = 0.0
    for value, weight in sorted(values):
        reached += weight
        if reached >= half:
            return value
    return values[-1][0]
