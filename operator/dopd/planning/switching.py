"""Role switching: a spare worker of one role is supply of the other. Pure.

A worker that changes its role drains in the old one and is then switched. Where that is sooner than a start, a role has
to hold only what it needs within that time: what it needs later comes from the other one, as long as both together have
enough. So the plan has three parts in place of two: each role for as long as a flip takes, and the sum of both for as
long as a start takes. What the sum has beyond the two stays where it is until a role needs it: it is held as GPUs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy, RoleBounds
from dopd.planning.workers import Workers

Into = PerRole[float | None]
"""Seconds until a worker of the other role serves in this one; None where none may come, or a start is sooner."""
NO_SWITCHING: Into = PerRole(None, None)


class Means(StrEnum):
    """By what a role gets a worker more, the soonest and cheapest first. Closed."""

    RETURN = "Return"
    """A draining worker of the role serves again: no GPU more, and no switch."""
    FLIP = "Flip"
    """A worker of the other role changes its role: no GPU more."""
    START = "Start"
    """A new worker."""


@dataclass(frozen=True)
class Remedy:
    """How a role gets workers that it lacks.

    Attributes:
        means: by what.
        role: that gets them.
        workers: how many.
        seconds: until they serve; 0 for those that return, which need no more than their label.
    """

    means: Means
    role: Role
    workers: int
    seconds: float


def seconds_into(model: EngineModel, policy: Policy, usual_drains: PerRole[float]) -> Into:
    """How soon a worker of the other role serves in each one, where that is sooner than a start.

    Args:
        model: performance of one engine, with the drains that were measured.
        policy: says whether workers may change their role.
        usual_drains: what a drain of each role may take, where none was measured.
    """
    if not policy.switches:
        return NO_SWITCHING

    def of(role: Role) -> float | None:
        seconds = model.drain_seconds.get(role.other, usual_drains[role.other]) + model.flip_seconds
        return seconds if seconds < model.startup_seconds[role] else None

    return PerRole.of(of)


def divide(
    total: int, wanted: Pair, before: Pair, even: Pair, workers: PerRole[Workers], into: Into, policy: Policy
) -> Pair:
    """Divide what both roles hold together, with as few flips as each role's own need allows.

    What is beyond these needs stays where it is, and what is new goes where it leaves the most even room. A role gives
    no more than what serves beyond its own need: one that only starts is worth waiting for, as it is there no later
    than another start.

    Args:
        total: workers of both roles that should be held.
        wanted: workers that each role needs for itself, noise and what it needed a moment ago included.
        before: the last target.
        even: workers of both roles in the proportion that the load has.
        workers: of each role now.
        into: how soon a worker of the other role serves in each.
        policy: bounds of the roles.

    Returns:
        A pair of that sum, or of the sum of what is wanted where that is more.
    """
    least = [_clamp(want, policy.bounds(role)) for want, role in zip(wanted, Role, strict=True)]
    total = max(sum(least), min(total, policy.prefill.max + policy.decode.max))
    low, high = max(least[0], total - policy.decode.max), min(total - least[1], policy.prefill.max)
    kept_low, kept_high = sorted((before[0], total - before[1]))  # no worker changes its role in between
    to_prefill = _movable(workers.decode, wanted[1]) if into.prefill is not None else inf
    to_decode = _movable(workers.prefill, wanted[0]) if into.decode is not None else inf
    first, last = max(low, kept_low), min(high, kept_high)
    if first > last:
        prefill = min(low, kept_high + to_prefill) if low > kept_high else max(high, kept_low - to_decode)
        return int(prefill), total - int(prefill)
    prefill = max(range(first, last + 1), key=lambda p: (min(p / even[0], (total - p) / even[1]), -abs(p - before[0])))
    return prefill, total - prefill


def remedies(
    target: Pair, needed: Pair, workers: PerRole[Workers], model: EngineModel, into: Into
) -> tuple[Remedy, ...]:
    """By what each role gets the workers that it lacks: what serves soonest and costs least comes first.

    Args:
        target: of both roles.
        needed: workers that each role needs for itself.
        workers: of each role now.
        model: performance of one engine.
        into: how soon a worker of the other role serves in each.
    """
    found: list[Remedy] = []
    flips = False
    for i, role in enumerate(Role):
        lack, giver = target[i] - workers[role].supply, workers[role.other]
        if lack <= 0:
            continue
        back = min(lack, workers[role].returning)
        flipped, seconds = 0, into[role]
        if seconds is not None and not flips:  # both roles lack workers: one of them starts its own
            leaves = min(giver.supply - target[1 - i], _spare(giver, needed[1 - i]))
            flipped = min(lack - back, max(0, leaves) + giver.draining)
            flips = flipped > 0
        for means, count, takes in (
            (Means.RETURN, back, 0.0),
            (Means.FLIP, flipped, seconds or 0.0),
            (Means.START, lack - back - flipped, model.startup_seconds[role]),
        ):
            if count:
                found.append(Remedy(means, role, count, takes))
    return tuple(found)


def flips_of(found: Sequence[Remedy]) -> int:
    """Workers that change from decode to prefill (negative: from prefill to decode)."""
    return sum(r.workers if r.role is Role.PREFILL else -r.workers for r in found if r.means is Means.FLIP)


def _spare(giver: Workers, needed: int) -> int:
    """Workers that serve and can leave at once; the last of a role never can."""
    return max(0, giver.serving - max(1, needed))


def _movable(giver: Workers, needed: int) -> int:
    """Those, and the ones that found no node: they are nowhere yet."""
    return _spare(replace(giver, serving=giver.serving + giver.unschedulable), needed)


def _clamp(want: int, bounds: RoleBounds) -> int:
    return max(bounds.min, min(bounds.max, want))
