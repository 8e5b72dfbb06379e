"""dopd at the GPU-hours of a peer: what clients would have met for the same money.

dopd plans for an attainment and spends what that takes, so the attainment that it is told to plan for is the knob
that moves its GPU-hours. It is bisected, on a logarithmic scale of what may be late, until dopd uses about as many as
the peer did, and no more.
"""

from collections.abc import Callable
from math import sqrt

from dopd.replay.runner import Result

FEWEST_LATE, MOST_LATE = 1e-4, 0.95
RUNS = 6
CLOSE_ENOUGH = 0.01
"""The search ends when the GPU-hours are within this share below the peer's."""


def at_gpu_hours(
    gpu_hours: float, known: Result, known_attainment: float, run: Callable[[float], Result]
) -> list[tuple[float, Result]]:
    """Runs of dopd that close in on a number of GPU-hours: the attainment planned for, and the result.

    Args:
        gpu_hours: of the peer.
        known: dopd planned for `known_attainment`.
        known_attainment: share of requests.
        run: runs dopd planned for an attainment.
    """
    dear, cheap = FEWEST_LATE, MOST_LATE
    late, result = 1 - known_attainment, known
    runs = [(known_attainment, known)]
    while len(runs) <= RUNS and not 1 - CLOSE_ENOUGH <= result.gpu_hours / gpu_hours <= 1:
        if result.gpu_hours > gpu_hours:
            dear = late
        else:
            cheap = late
        late = sqrt(dear * cheap)
        result = run(1 - late)
        runs.append((1 - late, result))
    return runs


def nearest(gpu_hours: float, runs: list[tuple[float, Result]]) -> tuple[float, Result]:
    """The dearest run that costs no more than the peer; the cheapest if all cost more."""
    affordable = [entry for entry in runs if entry[1].gpu_hours <= gpu_hours]
    if affordable:
        return max(affordable, key=lambda entry: entry[1].gpu_hours)
    return min(runs, key=lambda entry: entry[1].gpu_hours)
