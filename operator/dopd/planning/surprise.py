"""How much the load may grow before a worker that is started now can serve, learnt from how it moved so far.

A plan for the load of now is late by the lead time. Where a forecast is trusted it says how high the load may be by
then, as a quantile. Where there is none, the recent past answers: the margin is so many times the typical relative
move of the load within one lead time. Typical is the median of the moves' sizes, scaled to a standard deviation, so
that one ramp does not inflate it for an hour. Before there is a past, pretended moves stand in, which real ones
soon outnumber.

How many times follows what clients meet (in the spirit of adaptive conformal inference, Gibbs and Candes 2021):
late requests raise it at once, and while fewer are late than allowed it sinks slowly. So the margin ends up as
large as the objective needs.

A load that is counted over a short time moves though nothing changed: of few requests, some are longer. The
queueing model has made room for that already, so it is neither followed nor taken for a surprise: the load of now is
the mean over the longest time in which it moved no more than chance explains, and chance is taken off the moves.

Loads are counted in busy workers, so that a change of the token mix counts like a change of the rate.
"""

from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from math import sqrt
from statistics import fmean, median

MEMORY_SECONDS = 3600.0
SPACING_SECONDS = 15.0
PRETENDED_MOVE, PRETENDED_MOVES = 0.1, 20
"""Median size of the moves before any was seen, and how many pretended ones say so."""
MEDIAN_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""
SMALL_LOAD = 0.05
"""Below this many busy workers a move is not a number worth learning: one worker covers it many times."""
LONGEST_CALM_SECONDS = 360.0
"""Longest time that the load of now is averaged over."""
NOTICEABLE = 1.5
"""A load has moved when it is so many standard deviations off its longer mean."""
FIRST_CAUTION, LEAST_CAUTION, MOST_CAUTION = 2.0, 1.2, 3.0
ADAPTATION = 0.5


@dataclass(frozen=True)
class LoadSample:
    """Load of both roles at one look, in workers that it keeps busy.

    Attributes:
        at_seconds: time of the look.
        prefill: as measured.
        decode: as measured.
        calm_prefill: without what chance added to it or took away.
        calm_decode: the same for decode.
    """

    at_seconds: float
    prefill: float
    decode: float
    calm_prefill: float
    calm_decode: float


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


def without_noise(move: float, noise: float) -> float:
    """The part of a typical move that is no chance of counting.

    Args:
        move: standard deviation of the relative change between two looks.
        noise: variance of one look relative to its squared mean; two independent looks differ by twice that.
    """
    return sqrt(max(0.0, move**2 - 2 * noise))


def calmed(times: list[float], loads: list[float], window_seconds: float, noise: float) -> float:
    """Mean load over the longest time up to now in which it did not move by more than chance explains.

    Args:
        times: of the looks, ascending, the last one now.
        loads: busy workers, each a mean over the window before its time.
        window_seconds: of one look.
        noise: variance of one look relative to its squared mean; 0 to take the last look as it is.
    """
    mean, span = loads[-1], window_seconds
    while noise and 2 * span <= LONGEST_CALM_SECONDS and times[0] <= times[-1] - (2 * span - window_seconds):
        longer = fmean(loads[bisect_left(times, times[-1] - (2 * span - window_seconds)) :])
        if abs(mean - longer) > NOTICEABLE * sqrt(noise * window_seconds / span) * longer:
            break
        mean, span = longer, 2 * span
    return mean


def counting_noise(requests: float, squared_cv: float) -> float:
    """Relative variance of the work of Poisson many requests, given the squared coefficient of variation of one."""
    return (1 + squared_cv) / requests if requests else 0.0
