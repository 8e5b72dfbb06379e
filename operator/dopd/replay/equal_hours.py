"""dopd at the GPU-hours of a peer: what clients would have met for the same money.

The knob that moves dopd's GPU-hours is how much of the load it is told: at 0.9 it plans for nine tenths. That takes
its margin first, then its room for queues, and it is continuous, which budgets of whole GPUs are not. It is bisected
until dopd uses about as many GPU-hours as the peer did, and no more: with the attainment that is asked for, and with
easier ones, with which it takes less margin from the start and answers a surprise with less. Where none of these runs
is above the peer, all are tried again with no more GPUs at once than the peer held in the mean, rounded up to whole
workers: what is spent on the peaks of queues is then left for the rest. Rounded down, such a budget can not cost more:
it is one more run, told all of the load. The best run counts, as for a peer's knobs.
"""

from collections.abc import Callable

from dopd.replay.runner import Result

EASIER_ATTAINMENTS = (0.95, 0.9, 0.8)
LEAST_SHARE, MOST_SHARE = 0.4, 1.6
RUNS = 8
CLOSE_ENOUGH = 0.003
"""The search ends when the GPU-hours are within this share below the peer's."""


def at_gpu_hours(gpu_hours: float, known: Result, run: Callable[[float], Result]) -> list[tuple[float, Result]]:
    """Runs of dopd that close in on a number of GPU-hours: the share of the load that it is told, and the result.

    Args:
        gpu_hours: of the peer.
        known: dopd told all of the load.
        run: runs dopd told a share of it.
    """
    cheap, dear = LEAST_SHARE, MOST_SHARE
    share, result = 1.0, known
    runs = [(share, known)]
    while len(runs) <= RUNS and not 1 - CLOSE_ENOUGH <= result.gpu_hours / gpu_hours <= 1:
        if result.gpu_hours > gpu_hours:
            dear = share
        else:
            cheap = share
        share = (cheap + dear) / 2
        result = run(share)
        runs.append((share, result))
    return runs


def gpu_budget(gpu_hours: float, trace_seconds: float, gpus: int, rounded: Callable[[float], int]) -> int:
    """GPUs that so many GPU-hours are in the mean, in whole workers and at least two.

    Args:
        gpu_hours: of the peer.
        trace_seconds: length of the trace.
        gpus: of a worker.
        rounded: `math.floor` for what they pay for all the time, `math.ceil` for what holds the mean.
    """
    return max(2, rounded(gpu_hours * 3600 / trace_seconds / gpus)) * gpus


def most_attained(gpu_hours: float, runs: list[tuple[str, Result]]) -> tuple[str, Result] | None:
    """Knob and result of the run that attains most of those that cost no more than the peer; None if all cost more."""
    affordable = [entry for entry in runs if entry[1].gpu_hours <= gpu_hours]
    return max(affordable, key=lambda entry: entry[1].attainment, default=None)
