"""Stabilisation: a worker is given up once nothing of a window needed it.

How long the window is, if the policy does not say: as long as it takes to start the worker again. Who holds what he
does not need for as long as it costs to get back never pays more than twice what one pays who knows when he will need
it (the ski rental problem; for servers: Lu, Chen and Andrew, arXiv 1112.0442).
"""

from collections import deque

from dopd.autoscaler.tuning import Tuning
from dopd.perf import EngineModel
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy
from dopd.planning.switching import Into


class Stabilization:
    """What was needed lately, of one role or of both together."""

    def __init__(self) -> None:
        self._needed: deque[tuple[float, int]] = deque()
        self._since_seconds: float | None = None

    def begin_anew(self) -> None:
        """Forget: the load was not known for a time."""
        self._needed.clear()
        self._since_seconds = None

    def note(self, now_seconds: float, needed: int, longest_seconds: float) -> None:
        """Take in what is needed; what is older than `longest_seconds` is forgotten."""
        if self._since_seconds is None:
            self._since_seconds = now_seconds
        if self._needed and self._needed[-1] == (now_seconds, needed):
            return
        self._needed.append((now_seconds, needed))
        while self._needed and self._needed[0][0] <= now_seconds - longest_seconds:
            self._needed.popleft()

    def held(self, needed: int, before: int, now_seconds: float, window_seconds: float) -> int:
        """The least that there may be.

        Args:
            needed: now.
            before: the last target, which all of it is while the window is not full.
            now_seconds: time.
            window_seconds: length of the window.
        """
        since = now_seconds if self._since_seconds is None else self._since_seconds
        if since > now_seconds - window_seconds:
            return before
        lately = (one for at, one in self._needed if at > now_seconds - window_seconds)
        return min(before, max([needed, *lately]))


def windows(model: EngineModel, policy: Policy, tuning: Tuning, into: Into) -> PerRole[float]:
    """Length of the stabilisation window of each role, seconds.

    Where a worker of the other role comes sooner than a new one starts, as long as that takes: nothing is given up but
    the role, and what both hold together has a window of its own (`window_together`).
    """
    whole = windows_of_starts(model, policy, tuning)
    return PerRole.of(lambda role: whole[role] if (seconds := into[role]) is None else min(seconds, whole[role]))


def windows_of_starts(model: EngineModel, policy: Policy, tuning: Tuning) -> PerRole[float]:
    """The same where no worker changes its role."""
    stated = policy.scale_down_stabilization_seconds
    if stated is not None:
        return PerRole(stated, stated)
    return PerRole.of(lambda role: max(tuning.least_hold_seconds, model.startup_seconds[role]))


def window_together(model: EngineModel, policy: Policy, tuning: Tuning) -> float:
    """Length of the window of what both roles hold together, seconds: a worker of it may be the dearer one."""
    return max(windows_of_starts(model, policy, tuning))
