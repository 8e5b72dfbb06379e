"""How much the load may grow before a worker that is started now can serve, learnt from how it moved so far.

A plan for the load of now is late by the lead time. Where a forecast is trusted it says how high the load may be by
then, as a quantile. The recent past answers always, in two ways, of which the greater counts:

- so many times the typical relative move of the load within one lead time. Typical is the median of the moves' sizes,
  scaled to a standard deviation, so that one ramp does not inflate it for an hour. Before there is a past, pretended
  moves stand in, which real ones soon outnumber. What is measured is a sample of the load: the noise of two samples is
  in every move that is seen, and is no move of the load.
- a rise that goes on: a load that has just risen by more than noise explains is taken to rise on at the same pace for
  one lead time, up to a limit, since steps end. A forecaster sees a ramp only when minutes of it have passed.

How many times follows what clients meet (in the spirit of adaptive conformal inference, Gibbs and Candes 2021):
late requests raise it at once, and while fewer are late than allowed it sinks slowly, within an hour to a least one,
and below that as the error budget fills (`error_budget`). So the margin ends up as large as the objective needs.

Loads are counted in busy workers, so that a change of the token mix counts like a change of the rate.
"""

from bisect import bisect_right
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import median

from dopd.api.names import Role

MEMORY_SECONDS = 3600.0
SPACING_SECONDS = 15.0
PRETENDED_MOVE, PRETENDED_SECONDS, PRETENDED_MOVES = 0.1, 75.0, 20
"""Median size of the moves within so many seconds before any was seen, and how many pretended ones say so. Within a
longer time they grow with its square root, as those of a random walk do; within a shorter one they are no smaller, as
the load is measured over a window."""
MEDIAN_TO_DEVIATION = 1.4826
"""Standard deviation of a normal distribution over the median of its absolute values."""
SMALL_LOAD = 0.05
"""Below this many busy workers a move is not a number worth learning: one worker covers it many times."""
FIRST_CAUTION, LEAST_CAUTION, MOST_CAUTION = 1.7, 0.9, 3.0
ADAPTATION = 0.5
RISE_SECONDS = 90.0
"""Over which a rise is measured: two windows of the measured load that do not overlap."""
RISE_NOISE = 3.0
"""A rise counts from so many typical moves over that time: on a flat load less than once in several hours."""
MOST_RISE = 0.75
"""What a rise is taken to add at most: beyond that, it is a step more often than a ramp."""


@dataclass(frozen=True)
class LoadSample:
    """Load at one look: of both roles, in workers that it keeps busy, and the requests that made it."""

    at_seconds: float
    prefill: float
    decode: float
    requests_per_second: float

    def of(self, role: Role) -> float:
        """Busy workers of one role."""
        return self.prefill if role is Role.PREFILL else self.decode


def remember(history: tuple[LoadSample, ...], sample: LoadSample) -> tuple[LoadSample, ...]:
    """Add a sample, forget those older than the memory, and keep looks that follow each other closely as one."""
    if history and sample.at_seconds - history[-1].at_seconds < SPACING_SECONDS:
        return history
    oldest = sample.at_seconds - MEMORY_SECONDS
    return (*(kept for kept in history if kept.at_seconds > oldest), sample)


def adapted(caution: float, late_share: float | None, allowed: float, trusted: float) -> float:
    """The caution after a look at what was late; unchanged if that is unknown.

    Args:
        caution: before.
        late_share: share of the requests that were late since the last look.
        allowed: share that the objective allows.
        trusted: share of the least caution that the error budget stands in for; negative: that a debt adds. In debt,
            late requests raise the caution up to twice as fast: what has surprised before does so for longer.
    """
    if late_share is None:
        return caution
    step = ADAPTATION * (late_share - allowed)
    if step > 0 > trusted:
        step *= 1 - trusted
    return min(MOST_CAUTION, max((1 - trusted) * LEAST_CAUTION, caution + step))


def sampling_noise(requests: float, squared_cv: float) -> float:
    """Relative standard deviation of the work that arrives with a Poisson number of requests; 0 if there are none.

    The variance of a compound Poisson sum over its squared mean is (1 + cv^2) / n.

    Args:
        requests: mean number of them.
        squared_cv: variance of the work of one over its squared mean.
    """
    return sqrt((1 + squared_cv) / requests) if requests > 0 else 0.0


def typical_move(times: list[float], loads: list[float], lead_seconds: float) -> float:
    """Standard deviation of the relative change of the measured load within one lead time.

    Args:
        times: of the samples, ascending.
        loads: busy workers at those times.
        lead_seconds: how long a decision takes to have an effect.
    """
    moves = [PRETENDED_MOVE * sqrt(max(1.0, lead_seconds / PRETENDED_SECONDS))] * PRETENDED_MOVES
    then = 0
    for i, (start, load) in enumerate(zip(times, loads, strict=True)):
        if times[-1] < start + lead_seconds:
            break
        while then + 1 < len(times) and times[then + 1] <= start + lead_seconds:
            then += 1
        if load >= SMALL_LOAD and then > i:
            moves.append(abs(loads[then] / load - 1))
    return MEDIAN_TO_DEVIATION * median(moves)


def move_from(move: float, noise: float, noise_of_now: float) -> float:
    """How far the load will be from the one that is known now.

    The noise of two samples is in a move that was seen, and that of one in what will be: only now is measured.

    Args:
        move: standard deviation of the relative change of the measured load.
        noise: that of one measured load from the load.
        noise_of_now: that of what is known of the load of now: no more, and less where it is more than one sample.
    """
    of_load = sqrt(max(0.0, move**2 - 2 * noise**2))
    return min(move, hypot(of_load, noise_of_now))


def rise(times: list[float], loads: list[float], lead_seconds: float) -> float:
    """Relative growth within one lead time if a rise of now goes on; 0 if the load does not rise beyond noise.

    Args:
        times: of the samples, ascending.
        loads: busy workers at those times.
        lead_seconds: how long a decision takes to have an effect.
    """
    span = min(RISE_SECONDS, lead_seconds)
    before = bisect_right(times, times[-1] - span) - 1
    if before < 0 or loads[before] < SMALL_LOAD:
        return 0.0
    risen = loads[-1] / loads[before] - 1
    if risen <= 0 or risen < RISE_NOISE * typical_move(times, loads, span):
        return 0.0
    return min(MOST_RISE, risen * lead_seconds / span)
