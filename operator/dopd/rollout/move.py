"""Both pools at once: what each would do, and what the GPUs allow. Pure.

Shrink first, confirm, grow: a pod counts until it is gone from the API server, whether it serves, starts, drains or is
being deleted, and of whatever revision. So no start ever takes the sum over the budget, and a change of the ratio waits
for the GPUs that it frees.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf

from dopd.api.names import Role
from dopd.rollout.flip import NO_FLIPS, Flips, with_flips
from dopd.rollout.pool import Goal, PoolStep, pool_step
from dopd.rollout.worker import Worker, available


@dataclass(frozen=True)
class Side:
    """One role.

    Attributes:
        workers: its pods that are not being deleted.
        leaving: its pods that are being deleted and still hold their GPUs.
        goal: what it should become.
        gpus: of one new worker.
        most_gpus: that its pods may hold; None for no limit of its own.
    """

    workers: Sequence[Worker]
    goal: Goal
    leaving: Sequence[Worker] = ()
    gpus: int = 1
    most_gpus: int | None = None

    @property
    def gpus_held(self) -> int:
        """GPUs that its pods hold or will hold."""
        return sum(worker.gpus for worker in (*self.workers, *self.leaving))


def move(
    sides: Mapping[Role, Side],
    budget_gpus: int | None,
    *,
    now_seconds: float,
    drain_deadline_seconds: float,
    flips: Flips = NO_FLIPS,
    first: Collection[Role] = (),
) -> dict[Role, PoolStep]:
    """The next step of both roles.

    Args:
        sides: the two roles.
        budget_gpus: GPUs of both roles together; None for no limit.
        now_seconds: seconds since the epoch.
        drain_deadline_seconds: a draining worker is released after this long even when it is busy.
        flips: workers that may change to a role instead of leaving the other, by the role that they change to.
        first: roles whose first start comes before all others: a new revision serves once it has one of each role.
    """

    def step(side: Side) -> PoolStep:
        return pool_step(
            side.workers,
            side.goal,
            leaving=side.leaving,
            now_seconds=now_seconds,
            drain_deadline_seconds=drain_deadline_seconds,
        )

    steps = {role: step(side) for role, side in sides.items()}
    if any(taken.held for taken in steps.values()):  # both roles stop: they are of one spec
        steps = {role: step(replace(side, goal=replace(side.goal, held=True))) for role, side in sides.items()}
    if not any(taken.rolling for taken in steps.values()):  # the roles' revisions may not fit together
        steps = with_flips({role: side.workers for role, side in sides.items()}, steps, flips)
    if budget_gpus is None and all(side.most_gpus is None for side in sides.values()):
        return steps
    free = inf if budget_gpus is None else budget_gpus - sum(side.gpus_held for side in sides.values())
    starts = _admitted(sides, {role: step.create for role, step in steps.items()}, free, first)
    return {role: replace(step, create=starts[role]) for role, step in steps.items()}


def _admitted(
    sides: Mapping[Role, Side], asked: Mapping[Role, int], free: float, first: Collection[Role]
) -> dict[Role, int]:
    """Starts that the free GPUs allow, one at a time, to the role that is furthest from its target."""
    starts = dict.fromkeys(asked, 0)

    def shortness(role: Role) -> tuple[bool, float]:
        side = sides[role]
        comes_first = role in first and not starts[role]
        return not comes_first, (available(side.workers) + starts[role]) / max(side.goal.target, 1)

    def fits(role: Role) -> bool:
        side = sides[role]
        of_role = inf if side.most_gpus is None else side.most_gpus - side.gpus_held - starts[role] * side.gpus
        return side.gpus <= min(free, of_role)

    while True:
        able = [role for role, most in asked.items() if starts[role] < most and fits(role)]
        if not able:
            return starts
        next_role = min(able, key=shortness)
        starts[next_role] += 1
        free -= sides[next_role].gpus
