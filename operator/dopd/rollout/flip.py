"""A worker that changes its role while it runs: which one, and its next step. Pure.

A flip in place of a drain here and a start there: the worker keeps its GPUs, and serves within seconds. Its steps:

1. Its label goes, and it counts for the role that it is on its way to. One that becomes prefill gets a bootstrap port
   that no decode engine knows.
2. No gateway lists it, and its engine is idle for a while: its engine is told to change its role.
3. The engine says that it has changed: the pod's pool says the same.
4. It answers a request together with each peer of the other role: its label comes back.

What it is on its way to stands on the pod; what its engine is, the engine tells. So whoever looks goes on from there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dopd.api.names import Role
from dopd.rollout.pool import PoolStep
from dopd.rollout.worker import Worker

Flips = Mapping[Role, int]
"""Workers that may change to a role, by that role."""

NO_FLIPS: Flips = {}

IDLE_SECONDS = 1.0
"""An engine is idle when two looks so far apart, and all between, find nothing to do."""

MOST_FAILURES = 3
"""So often a pair may fail its canary before the engine is started anew."""


def with_flips(
    workers: Mapping[Role, Sequence[Worker]], steps: Mapping[Role, PoolStep], flips: Flips
) -> dict[Role, PoolStep]:
    """The steps of both roles, where workers that leave one role for which the other lacks one change to it.

    Args:
        workers: of each role.
        steps: what each would do alone.
        flips: workers that may change to a role.
    """
    result = dict(steps)
    for to in Role:
        source = to.other
        leaving = result[source].leave
        able = sorted((w for w in workers[source] if w.name in leaving and w.may_flip and w.ready), key=_soonest)
        chosen = [w.name for w in able[: max(0, min(flips.get(to, 0), result[to].lacks))]]
        if not chosen:
            continue
        old, new = result[source], result[to]
        result[to] = replace(new, create=max(0, new.create - len(chosen)))
        result[source] = replace(
            old,
            drain=tuple(name for name in old.drain if name not in chosen),
            release=tuple(name for name in old.release if name not in chosen),
            flip=tuple(chosen),
        )
    return result


def _soonest(worker: Worker) -> tuple[bool, bool, float, str]:
    """Those that are drained first, then those with the least to do."""
    return worker.labelled, worker.registered is not False, worker.load, worker.name


class Act(StrEnum):
    """The next step of one worker that changes its role."""

    WAIT = "wait"
    WITHDRAW = "withdraw"
    """Take its label: its engine is not what the label says."""
    SWITCH = "switch"
    """Tell the engine to change its role."""
    SETTLE = "settle"
    """Let the pod's pool say what the engine is."""
    BACK = "back"
    """Let it be what it was: its engine refused and serves on."""
    RESTART = "restart"
    """Delete the pod: its engine is broken, or never gets there."""


@dataclass(frozen=True)
class Turn:
    """One worker that changes its role, as observed.

    Attributes:
        worker: the pod.
        settled: its pool says the new role already.
        idle_seconds: since when its engine has nothing to do and no gateway lists it; None while that is not so.
        asked: its engine was told to change and has not answered.
        refused: its engine refused for good; "" otherwise.
        restorable: a refused engine still serves in its old role.
        failures: canaries of it that failed in a row.
    """

    worker: Worker
    settled: bool = False
    idle_seconds: float | None = None
    asked: bool = False
    refused: str = ""
    restorable: bool = True
    failures: int = 0


def next_act(turn: Turn, now_seconds: float, deadline_seconds: float) -> Act:
    """What to do with a worker on its way to another role.

    Args:
        turn: the worker.
        now_seconds: on the clock of its times.
        deadline_seconds: for it to become idle, be told, and be proved.
    """
    worker = turn.worker
    if worker.labelled:
        return Act.WITHDRAW if worker.in_role is False else Act.WAIT
    since = worker.draining_since_seconds
    late = since is not None and now_seconds - since >= deadline_seconds
    if turn.failures >= MOST_FAILURES:
        return Act.RESTART
    if worker.in_role:
        return Act.WAIT if turn.settled else Act.SETTLE
    if turn.refused:  # a settled one has no other role to go back to
        return Act.BACK if turn.restorable and not turn.settled else Act.RESTART
    if late and not turn.asked:
        return Act.RESTART
    idle = turn.idle_seconds is not None and now_seconds - turn.idle_seconds >= IDLE_SECONDS
    return Act.SWITCH if idle and worker.ready and worker.in_role is False and not turn.asked else Act.WAIT
