"""Slow to shrink: a worker is given up once the load has long needed fewer, with headroom.

How long, if the policy does not say: as long as it would take to start the worker again. Who holds what he does not
need for as long as it costs to get back never pays more than twice what one pays who knows when he will need it (the
ski rental problem; for servers: Lu, Chen and Andrew, arXiv 1112.0442). That counts what workers cost. While the error
budget is a debt, requests that are late without them cost more, and workers are held longer.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning.bounds import Bound, Pair
from dopd.planning.decision import Want
from dopd.planning.policy import Policy

LEAST_SECONDS = 60.0
"""Workers that start sooner are held so long all the same: looks closer than the window of the load are one sample."""
DEBT_SECONDS = 3600.0
"""In debt, so long at most: a load that jumped once, faster than workers start, jumps to there again."""


@dataclass(frozen=True)
class Window:
    """Since when plans have to agree before a worker of a role is given up.

    Attributes:
        start_seconds: with all that they needed.
        debt_start_seconds: with what the load alone needed; no later. What margin or queue added is held no longer.
    """

    start_seconds: float
    debt_start_seconds: float


def window_of(role: Role, model: EngineModel, policy: Policy, trusted: float, now_seconds: float) -> Window:
    """The stabilisation window of a role.

    Args:
        role: which.
        model: how long its workers take to start.
        policy: how long the window is, or None.
        trusted: see `error_budget.trust`; a debt makes the window longer.
        now_seconds: its end.
    """
    if policy.scale_down_stabilization_seconds is not None:
        start = now_seconds - policy.scale_down_stabilization_seconds
        return Window(start, start)
    seconds = max(LEAST_SECONDS, model.startup_seconds[role])
    in_debt = max(0.0, -trusted) * max(0.0, DEBT_SECONDS - seconds)
    return Window(now_seconds - seconds, now_seconds - seconds - in_debt)


def within(windows: Sequence[Window], wants: tuple[Want, ...]) -> tuple[Want, ...]:
    """What plans of any of the windows needed."""
    oldest = min(window.debt_start_seconds for window in windows)
    return tuple(want for want in wants if want.at_seconds > oldest)


def slow_to_shrink(
    needed: Pair, before: Pair, recent: tuple[Want, ...], windows: Sequence[Window], since_seconds: float
) -> tuple[Pair, tuple[Bound, ...]]:
    """Grow at once; shrink no further than to what the windows hold. Returns the bounds that bit, too.

    Args:
        needed: workers of each role that the load of now needs.
        before: the previous target.
        recent: what recent plans needed, that of now last.
        windows: of each role; until one is full all of the role's workers are held.
        since_seconds: time of the first plan of an unbroken sequence.
    """
    bit: list[Bound] = []
    wanted = []
    for i, window in enumerate(windows):
        if needed[i] >= before[i]:
            wanted.append(needed[i])
            continue
        target = min(before[i], recent[-1].with_headroom[i])
        full = since_seconds <= window.start_seconds
        held = min(before[i], _most_needed(i, recent, window)) if full else before[i]
        if target > needed[i]:
            bit.append(Bound.HYSTERESIS)
        if held > target:
            bit.append(Bound.STABILIZATION)
        wanted.append(held)
    return (wanted[0], wanted[1]), tuple(dict.fromkeys(bit))


def _most_needed(i: int, recent: tuple[Want, ...], window: Window) -> int:
    """The most workers of a role that a plan of its window needed."""
    needed = [want.with_headroom[i] for want in recent if want.at_seconds > window.start_seconds]
    held = [want.held[i] for want in recent if want.at_seconds > window.debt_start_seconds]
    return max([recent[-1].with_headroom[i], *needed, *held])
