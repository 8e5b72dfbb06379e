"""dopd at the GPU-hours of a peer: what clients would have met for the same money.

A GPU budget is what brings dopd's GPU-hours down. The greatest one under which it uses no more than the peer did is
found by bisection. Budgets are whole workers, so it mostly uses less.
"""

from collections.abc import Callable

from dopd.replay.runner import Result


def at_gpu_hours(
    gpu_hours: float, known: Result, gpus: int, run: Callable[[int], Result]
) -> list[tuple[int | None, Result]]:
    """Runs of dopd under budgets that close in on a number of GPU-hours; the budget (None: none) and the result.

    Args:
        gpu_hours: of the peer.
        known: dopd without a budget.
        gpus: of one worker.
        run: runs dopd under a budget in GPUs.
    """
    runs: list[tuple[int | None, Result]] = [(None, known)]
    if known.gpu_hours <= gpu_hours:
        return runs
    affordable, dear = 1, max(prefill + decode for _, prefill, decode in known.timeline)
    while dear - affordable > 1:
        workers = (affordable + dear) // 2
        result = run(workers * gpus)
        runs.append((workers * gpus, result))
        if result.gpu_hours <= gpu_hours:
            affordable = workers
        else:
            dear = workers
    return runs


def nearest(gpu_hours: float, runs: list[tuple[int | None, Result]]) -> tuple[int | None, Result]:
    """The dearest run that costs no more than the peer; the cheapest if all cost more."""
    affordable = [entry for entry in runs if entry[1].gpu_hours <= gpu_hours]
    if affordable:
        return max(affordable, key=lambda entry: entry[1].gpu_hours)
    return min(runs, key=lambda entry: entry[1].gpu_hours)
