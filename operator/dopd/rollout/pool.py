"""One pool of workers on its way to its target and its revision, without losing a request. Pure.

A worker with a role label serves (or is starting), one without is draining. A worker leaves in three steps: its label
goes (the gateway sends nothing new), then no gateway lists it and its engine is idle, then its pod is deleted.

A rollout is the same with two revisions. New workers are started as far as `surge` allows, old ones leave as far as
those that serve allow; with no surge one leaves first and its successor takes its GPUs. Scaling goes on meanwhile: what
is started is new, and what is drained is old.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from dopd.rollout.worker import Worker


@dataclass(frozen=True)
class Goal:
    """What a pool should become.

    Attributes:
        target: workers that should serve.
        revision: of the template that they should be made from.
        max_unavailable: workers below the target that may be missing while old ones are replaced.
        surge: workers beyond the target that may be there while old ones are replaced.
        fewest: workers that must serve while old ones are replaced, whatever max_unavailable says.
        pending_deadline_seconds: a worker that has found no node for so long is given back.
        may_start: False while a start is not worth trying, since one was given back a moment ago.
        held: no old worker leaves: new ones of the other role do not come up.
    """

    target: int
    revision: str = ""
    max_unavailable: int = 1
    surge: int = 0
    fewest: int = 1
    pending_deadline_seconds: float = float("inf")
    may_start: bool = True
    held: bool = False

    @property
    def floor(self) -> int:
        """Workers that must serve while old ones are replaced."""
        return max(self.target - self.max_unavailable, min(self.fewest, self.target))


@dataclass(frozen=True)
class PoolStep:
    """What to write in this pass.

    Attributes:
        serve: pods that get their label back.
        drain: pods that lose their label.
        release: drained pods that may be deleted now.
        create: workers of the goal's revision to start.
        domains: where these go, one for each; empty where the scheduler chooses.
        give_back: of those in `drain`: pods that found no node in time.
        held: new workers that are known not to come up, and for which no further old one leaves.
        flip: pods that change to the other role instead of leaving.
        lacks: workers that are missing, whether they may be started now or not.
        leave: all pods that leave, with their label or without.
        rolling: workers of another revision are there.
    """

    serve: tuple[str, ...] = ()
    drain: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    create: int = 0
    domains: tuple[str, ...] = ()
    give_back: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    flip: tuple[str, ...] = ()
    lacks: int = field(default=0, compare=False)
    leave: tuple[str, ...] = field(default=(), compare=False)
    rolling: bool = field(default=False, compare=False)


def pool_step(
    workers: Sequence[Worker],
    goal: Goal,
    *,
    leaving: Sequence[Worker] = (),
    now_seconds: float,
    drain_deadline_seconds: float,
) -> PoolStep:
    """The next step of a pool towards its goal.

    Args:
        workers: the pods of the pool that are not being deleted.
        goal: what the pool should become.
        leaving: the pods that are being deleted and still hold their GPUs.
        now_seconds: seconds since the epoch.
        drain_deadline_seconds: a draining worker is released after this long even when it is busy.
    """
    lost = _without_nodes(workers, leaving, now_seconds - goal.pending_deadline_seconds)
    ranked = sorted((w for w in workers if w not in lost and not w.broken), key=lambda worker: worker.preference)
    new = [w for w in ranked if w.available and w.revision == goal.revision][: goal.target]
    old = [w for w in ranked if w.available and w.revision != goal.revision]
    failed = [w for w in new if w.failed]
    rolling = any(w.revision != goal.revision for w in (*workers, *leaving))
    kept = _kept_old(new, old, goal, held=goal.held or bool(failed))
    wanted = {w.name for w in (*new, *kept)}
    leave = [w for w in workers if w.name not in wanted]
    create = max(goal.target - len(new), 0)
    given_back = tuple(w.name for w in lost if w.labelled)
    if rolling:
        room = goal.target + goal.surge - len(workers) - len(leaving)
        create = 0 if failed else min(create, max(room, 0))
    return PoolStep(
        serve=tuple(w.name for w in ranked if w.name in wanted and not w.labelled and w.may_serve),
        drain=tuple(w.name for w in leave if w.labelled),
        release=tuple(w.name for w in leave if w.may_go(now_seconds, drain_deadline_seconds)),
        create=create if goal.may_start and not given_back else 0,
        give_back=given_back,
        held=tuple(w.name for w in failed) if rolling else (),
        lacks=create,
        leave=tuple(w.name for w in leave if w not in lost),
        rolling=rolling,
    )


def _without_nodes(workers: Sequence[Worker], leaving: Sequence[Worker], before_seconds: float) -> list[Worker]:
    """Workers that were made before a time and have no node, to be given back.

    One that a queue has not let in stays: who is given back and tried anew begins at the end of the queue.
    Of those of several nodes that hold a part of them one stays while others are on their way out: two halves would be
    given back at the same time, tried anew at the same time, and be two halves again.
    """
    late = [w for w in workers if not (w.scheduled or w.gated) and w.created_seconds <= before_seconds]
    halves = sorted((w for w in late if w.partial and w.labelled), key=lambda w: (w.created_seconds, w.name))
    others_leave = len(halves) > 1 or bool(leaving) or any(not w.labelled and not w.turning for w in workers)
    return [w for w in late if w not in halves[:1]] if others_leave else late


def _kept_old(new: Sequence[Worker], old: Sequence[Worker], goal: Goal, *, held: bool) -> list[Worker]:
    """Workers of old revisions that stay for now; those that serve most stay longest.

    One that is not ready never will be worth waiting for, nor one to which no gateway sends. One that is ready leaves
    only for one that serves beyond the floor, so that a gateway that does not answer stops the rollout. One that is
    drained already comes back only where too few serve.
    """
    serving = sum(w.serves for w in (*new, *old))
    may_leave = 0 if held else max(serving - goal.floor, 0)
    too_few = max(goal.floor - serving, 0)
    kept: list[Worker] = []
    for worker in reversed(old):  # the least wanted first
        if not worker.ready or worker.stranded:
            continue
        if worker.needed:
            stays = True
        elif not worker.labelled:
            stays, too_few = too_few > 0, max(too_few - 1, 0)
        else:
            unlisted = worker.registered is False and serving >= goal.floor and not held
            stays = not (unlisted or (worker.serves and may_leave > 0))
            may_leave -= worker.serves and not stays
        if stays:
            kept.append(worker)
    return kept
