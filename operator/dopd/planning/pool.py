"""One pool of workers on its way to its target, without losing a request. Pure.

The state lives in the pods: a worker with a role label serves (or is starting), one without is draining. Each
pass looks at all pods of the pool and says which label to put on, which to take off, and how many replicas the
Deployment should have. So the operator may die between any two writes, and the next pass goes on from what the
pods say.

A worker leaves in three steps: its label goes (the gateway sends nothing new), then no gateway lists it and its
engine is idle, then `replicas` falls by one. A ReplicaSet deletes pods that are not ready first and then by
deletion cost, which a draining worker gets together with the loss of its label; so the pod that goes is the one
that was drained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

DRAINING_COST = -1000
"""Deletion cost of a draining worker; all others have none (0)."""


@dataclass(frozen=True)
class Worker:
    """One pod of a pool, as observed.

    Attributes:
        name: pod name.
        labelled: the pod carries its role label, so the gateway may use it.
        ready: Kubernetes says ready.
        scheduled: it has a node.
        created_seconds: creation time, seconds since the epoch.
        draining_since_seconds: when its label was taken off; None while labelled.
        registered: a gateway lists it; None when some gateway did not answer.
        idle: its engine has nothing to do; None when it did not answer.
        load: requests that it runs or queues; 0 when unknown.
    """

    name: str
    labelled: bool
    ready: bool
    scheduled: bool
    created_seconds: float
    draining_since_seconds: float | None = None
    registered: bool | None = None
    idle: bool | None = None
    load: float = 0.0


@dataclass(frozen=True)
class PoolStep:
    """What to write in this pass.

    Attributes:
        serve: pods that get their label back.
        drain: pods that lose their label.
        release: drained pods that may be deleted now.
        replicas: for the Deployment.
    """

    serve: tuple[str, ...]
    drain: tuple[str, ...]
    release: tuple[str, ...]
    replicas: int


def pool_step(
    workers: Sequence[Worker], target: int, *, rolling: bool, now_seconds: float, drain_deadline_seconds: float
) -> PoolStep:
    """The next step of a pool towards `target` workers.

    Args:
        workers: the pods of the pool that are not being deleted.
        target: workers that should serve.
        rolling: the Deployment is replacing its pods; their number is its affair then, so nobody is drained.
        now_seconds: seconds since the epoch.
        drain_deadline_seconds: a draining worker is released after this long even when it is busy.
    """
    if rolling:
        draining = sum(not w.labelled for w in workers)
        return PoolStep((), (), (), target + draining)
    ranked = sorted(workers, key=_preference)
    wanted = {w.name for w in ranked[:target] if _available(w)}
    leaving = [w for w in ranked if w.name not in wanted]
    released = [w for w in leaving if _may_go(w, now_seconds, drain_deadline_seconds)]
    return PoolStep(
        serve=tuple(w.name for w in ranked if w.name in wanted and not w.labelled),
        drain=tuple(w.name for w in leaving if w.labelled),
        release=tuple(w.name for w in released),
        replicas=target + len(leaving) - len(released),
    )


def _available(worker: Worker) -> bool:
    """Whether a worker may count as one that serves or will: all but those that the gateway still is draining."""
    return worker.labelled or worker.registered is False


def _preference(worker: Worker) -> tuple[int, float, float, str]:
    """Order in which workers are kept.

    Serving ones by load (the least loaded goes first, since it is drained soonest), then drained ones that can
    serve at once, then starting ones by age, then those without a node, last those that the gateway still
    drains: a label that comes back before the gateway has let go of the worker is not noticed by it for up to a
    minute.
    """
    if worker.labelled and worker.ready:
        rank = 0
    elif not _available(worker):
        rank = 4
    elif worker.ready:
        rank = 1
    elif worker.scheduled:
        rank = 2
    else:
        rank = 3
    return rank, -worker.load, worker.created_seconds, worker.name


def _may_go(worker: Worker, now_seconds: float, deadline_seconds: float) -> bool:
    if worker.draining_since_seconds is None:
        return False  # the label must be seen gone first
    if now_seconds - worker.draining_since_seconds >= deadline_seconds:
        return True
    return worker.registered is False and (worker.idle is True or not worker.ready)


def available(workers: Sequence[Worker]) -> int:
    """Workers of a pool that serve, start, or can serve again at once."""
    return sum(map(_available, workers))


def admit_growth(
    targets: tuple[int, int],
    available: tuple[int, int],
    present: tuple[int, int],
    gpus: tuple[int, int],
    budget: int | None,
) -> tuple[int, int]:
    """Targets that fit the GPU budget at this moment: shrink first, grow only as GPUs come free.

    Args:
        targets: prefill and decode workers wanted.
        available: workers that serve, start, or can serve again at once.
        present: workers that hold GPUs now: the available ones, and those that still drain or are being deleted.
        gpus: GPUs of one worker.
        budget: GPUs of both roles together; None for no limit.

    Returns:
        Targets not above `targets`, such that growth never takes the sum over the budget.
    """
    if budget is None:
        return targets
    free = budget - sum(count * each for count, each in zip(present, gpus, strict=True))
    admitted = []
    for target, now, each in zip(targets, available, gpus, strict=True):
        growth = min(max(target - now, 0), max(free, 0) // each)
        free -= growth * each
        admitted.append(min(target, now + growth))
    return admitted[0], admitted[1]
