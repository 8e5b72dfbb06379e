"""Both pools and the gateways between them: no step takes a pair of revisions apart that clients still reach. Pure.

What `move` would do is bounded from here: a worker counts as serving only behind a gateway that clients reach, the last
one of either role stays until that gateway has left, a first pair is begun only where both of it find GPUs, and both
roles are replaced at the same pace, since a worker without a partner serves nobody.

Where an outage is accepted and a first pair finds no GPUs, the last old ones leave by the same drain and make room.
Their gateway stays until the new pair answers: should the spec go back, it has them again at once.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dopd.api.names import Role
from dopd.api.pairs import ANY, Pair
from dopd.rollout.flip import NO_FLIPS, Flips
from dopd.rollout.gateways import Gateway, GatewayPlan, plan_gateways
from dopd.rollout.move import Side, move
from dopd.rollout.pool import PoolStep
from dopd.rollout.worker import Worker


@dataclass(frozen=True)
class PairedStep:
    """What to write in this pass.

    Attributes:
        steps: of the workers, by role.
        gateways: pods of each gateway; what is not named is to leave. None: as they are.
        waiting: roles for whose first new worker there are no GPUs, so that nothing is replaced.
        outage: nobody serves until the new pair does, as is accepted.
    """

    steps: Mapping[Role, PoolStep]
    gateways: Mapping[Pair, int] | None
    waiting: frozenset[Role] = field(default_factory=frozenset)
    outage: bool = False


def paired_move(
    sides: Mapping[Role, Side],
    gateways: Sequence[Gateway],
    replicas: int,
    budget_gpus: int | None,
    *,
    now_seconds: float,
    drain_deadline_seconds: float,
    flips: Flips = NO_FLIPS,
    domain: str = "",
) -> PairedStep:
    """The next step of both roles and of the gateways.

    Args:
        sides: the two roles.
        gateways: those that there are.
        replicas: gateway pods where there is one pair alone.
        budget_gpus: GPUs of both roles together; None for no limit.
        now_seconds: seconds since the epoch.
        drain_deadline_seconds: a draining worker is released after this long even when it is busy.
        flips: workers that may change to a role instead of leaving the other, by the role that they change to.
        domain: the one that all of them are of; "" for none.
    """
    goal = Pair(sides[Role.PREFILL].goal.revision, sides[Role.DECODE].goal.revision, domain)
    if not (goal.prefill and goal.decode):  # what to make workers from is not known yet
        steps = move(
            sides, budget_gpus, now_seconds=now_seconds, drain_deadline_seconds=drain_deadline_seconds, flips=flips
        )
        return PairedStep(steps, None)
    held = any(side.goal.held or any(w.failed for w in _new(side)) for side in sides.values())
    plan = plan_gateways(sides, goal, gateways, replicas, held=held)
    seen = {role: replace(side, workers=plan.seen(role, side.workers, goal)) for role, side in sides.items()}
    lacking = {role for role, side in seen.items() if not any(w.labelled for w in _new(side))}
    waiting: frozenset[Role] = frozenset()
    begins, goes_on = False, not plan.answering and _accepts_outage(sides) and _replaces(sides, goal, gateways)
    if ANY in plan.present and plan.replicas.keys() - {ANY, goal}:
        seen = {role: _waits(side) for role, side in seen.items()}  # it would pair new workers with the old ones
    elif lacking and plan.answering - {goal}:
        if _room(seen, lacking, budget_gpus):
            seen = _in_step(seen)
        elif _accepts_outage(sides) and _room(alone := _without_last(seen), lacking, budget_gpus):
            seen, begins = _in_step(alone), True
        else:
            waiting = frozenset(lacking)
            seen = {role: _waits(side) for role, side in seen.items()}
    else:
        seen = _in_step(seen)
    steps = move(
        seen,
        budget_gpus,
        now_seconds=now_seconds,
        drain_deadline_seconds=drain_deadline_seconds,
        flips=flips,
        first=lacking,
    )
    if not held and _stuck(seen, steps, plan, gateways):
        plan = plan_gateways(sides, goal, gateways, replicas, gives_way=True)
    outage = goes_on or (begins and any(step.drain for step in steps.values()))
    return PairedStep(steps, plan.replicas, waiting, outage=outage)


def _stuck(
    sides: Mapping[Role, Side], steps: Mapping[Role, PoolStep], plan: GatewayPlan, gateways: Iterable[Gateway]
) -> bool:
    """Whether a rollout stands still: workers are missing, for which there are no GPUs, and nothing else moves.

    The last old pair holds them: too few would serve without it, and there are no more while it stays.
    """
    workers = [worker for side in sides.values() for worker in side.workers]
    leaving = [worker for side in sides.values() for worker in side.leaving]
    if leaving or not all(worker.serves for worker in workers):
        return False
    if any(step.serve or step.drain or step.release or step.create or step.flip for step in steps.values()):
        return False
    if any(one.ready != plan.replicas.get(one.pair, 0) or one.replicas != one.ready for one in gateways):
        return False
    lacking = [role for role, step in steps.items() if step.lacks]
    rolling = any(step.rolling for step in steps.values())
    return rolling and bool(lacking) and all(sides[role].goal.may_start for role in lacking)


def _new(side: Side) -> list[Worker]:
    return [worker for worker in side.workers if worker.revision == side.goal.revision]


def _accepts_outage(sides: Mapping[Role, Side]) -> bool:
    """Whether the last worker of a role may leave before its successor serves, and workers are wanted at all."""
    return all(side.goal.target and not side.goal.fewest for side in sides.values())


def _replaces(sides: Mapping[Role, Side], goal: Pair, gateways: Iterable[Gateway]) -> bool:
    """Whether something of before is there: a worker, or the gateway that stays until the new one answers."""
    workers = ((worker, side) for side in sides.values() for worker in (*side.workers, *side.leaving))
    old = any(worker.revision != side.goal.revision for worker, side in workers)
    return old or any(gateway.replicas and gateway.pair != goal for gateway in gateways)


def _without_last(sides: Mapping[Role, Side]) -> dict[Role, Side]:
    """The roles where no worker is kept for being the last one."""
    return {
        role: replace(side, workers=[replace(worker, needed=False) for worker in side.workers])
        for role, side in sides.items()
    }


def _room(sides: Mapping[Role, Side], lacking: Collection[Role], budget_gpus: int | None) -> bool:
    """Whether the first workers of a new pair find GPUs: free ones, and those of old workers that may be missed."""
    spare = {role: _spare(side) for role, side in sides.items()}
    for role in lacking:
        goal, labelled = sides[role].goal, sum(worker.labelled for worker in sides[role].workers)
        if not spare[role] and goal.target + goal.surge <= labelled:
            return False
        if not _fits(sides[role].gpus, [sides[role]], spare[role], sides[role].most_gpus):
            return False
    first = sum(sides[role].gpus for role in lacking)
    return _fits(first, sides.values(), [worker for workers in spare.values() for worker in workers], budget_gpus)


def _fits(gpus: int, sides: Iterable[Side], spare: Iterable[Worker], most: int | None) -> bool:
    """Whether new workers find GPUs under a limit, beside the old ones that are not spare."""
    if most is None:
        return True
    stay = sum(worker.gpus for side in sides for worker in side.workers if worker.labelled)
    return gpus <= most - stay + sum(worker.gpus for worker in spare)


def _spare(side: Side) -> list[Worker]:
    """Old workers that may leave before a new one serves."""
    serving = [worker for worker in side.workers if worker.serves]
    old = [w for w in side.workers if w.labelled and w.revision != side.goal.revision]
    useless = [worker for worker in old if worker.stranded or not worker.ready]
    able = [worker for worker in old if worker.serves and not worker.needed]
    return [*useless, *able[: max(len(serving) - side.goal.floor, 0)]]


def _waits(side: Side) -> Side:
    return replace(side, goal=replace(side.goal, held=True, may_start=False))


def _in_step(sides: Mapping[Role, Side]) -> dict[Role, Side]:
    """A role that is further than the other lets no old worker go, as long as the other has some that may."""
    new = {role: sum(worker.serves for worker in _new(side)) for role, side in sides.items()}

    def ahead(role: Role, other: Role) -> bool:
        goal = sides[other].goal
        movable = any(w.serves and w.revision != goal.revision and not w.needed for w in sides[other].workers)
        return movable and new[role] * goal.target > new[other] * sides[role].goal.target

    return {
        role: replace(side, goal=replace(side.goal, held=True)) if ahead(role, role.other) else side
        for role, side in sides.items()
    }
