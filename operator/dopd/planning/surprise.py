"""How much the load may grow before a worker that is started now can serve, learnt from how it moved so far.

A plan for the load of now is late by the lead time. Where a forecast is trusted it says how high the load may be by
then, as a quantile. Where there is none, the recent past answers: the margin is so many times the typical relative
move of the load within one lead time. Typical is the median of the moves' sizes, scaled to a standard deviation, so
that one ramp does not inflate it for an hour. Before there is a past, pretended moves stand in, which real ones
soon outnumber.

How many times follows what clients meet (in the spirit of adaptive conformal inference, Gibbs and Candes 2021):
late requests raise it at once, and while fewer are late than allowed it sinks slowly. So the margin ends up as
large as the objective needs.

Loads are counted in busy workers, so that a change of the token mix counts like a change of the rate.
"""

from bisect import bisect_right
from dataclasses import dataclass
from statistics import median

MEMORY_SECONDS = 3600.0
SPACING_SECONDS = 15.0
PRETENDED_MOVE, PRETENDED_MOVES = 0.1, 20
"""Median size of the moves before any was seen, and how many pretended ones say so."""
MEDIAN_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""
SMALL_LOAD = 0.05
"""Below this many busy workers a move is not a number worth learning: one worker covers it many times."""
FIRST_CAUTION, LEAST_CAUTION, MOST_CAUTION = 2.0, 1.2, 3.0
ADAPTATION = 0.5


@dataclass(frozen=True)
class LoadSample:
    """Load of both roles at one look, in workers that it keeps busy."""

    at_seconds: float
    prefill: float
    decode: float


def remember(history: tuple[LoadSample, ...], sample: LoadSample) -> tuple[LoadSample, ...]:
    """Add a sample, forget those older than the memory, and keep looks that follow each other closely as one."""
    if history and sample.at_seconds - history[-1].at_seconds < SPACING_SECONDS:
        return history
    oldest = sample.at_seconds - MEMORY_SECONDS
    return (*(kept for kept in history if kept.at_seconds > oldest), sample)


def adapted(caution: float, late_share: float | None, allowed: float) -> float:
    """The caution after a look at what was late; unchanged if that is unknown."""
    if late_share is None:
        return caution
    return min(MOST_CAUTION, max(LEAST_CAUTION, caution + ADAPTATION * (late_share - allowed)))


def typical_move(times: list[float], loads: list[float], lead_seconds: float) -> float:
    """Standard deviation of the relative change of the load within one lead time.

    Args:
        times: of the samples, ascending.
        loads: busy workers at those times.
        lead_seconds: how long a decision takes to have an effect.
    """
    moves = [PRETENDED_MOVE] * PRETENDED_MOVES
    for i, (start, load) in enumerate(zip(times, loads, strict=True)):
        then = bisect_right(times, start + lead_seconds) - 1
        if load >= SMALL_LOAD and then > i and times[-1] >= start + lead_seconds:
            moves.append(abs(loads[then] / load - 1))
    return MEDIAN_TO_DEVIATION * median(moves)
