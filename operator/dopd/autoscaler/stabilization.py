"""Stabilisation: a worker is given up once nothing of a window needed it.

How long the window is, if the policy does not say: as long as it takes to start the worker again. Who holds what he
does not need for as long as it costs to get back never pays more than twice what one pays who knows when he will need
it (the ski rental problem; for servers: Lu, Chen and Andrew, arXiv 1112.0442).
"""

from collections import deque

from dopd.autoscaler.tuning import Tuning
from dopd.perf import EngineModel
from dopd.planning.bounds import Pair
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Policy


class Stabilization:
    """What was needed lately."""

    def __init__(self, tuning: Tuning) -> None:
        self._tuning = tuning
        self._needed: deque[tuple[float, Pair]] = deque()
        self._since_seconds: float | None = None

    def begin_anew(self) -> None:
        """Forget: the load was not known for a time."""
        self._needed.clear()
        self._since_seconds = None

    def note(self, now_seconds: float, needed: Pair, longest_seconds: float) -> None:
        """Take in what is needed; what is older than `longest_seconds` is forgotten."""
        if self._since_seconds is None:
            self._since_seconds = now_seconds
        if self._needed and self._needed[-1] == (now_seconds, needed):
            return
        self._needed.append((now_seconds, needed))
        while self._needed and self._needed[0][0] <= now_seconds - longest_seconds:
            self._needed.popleft()

    def held(self, needed: Pair, before: Pair, now_seconds: float, windows: PerRole[float]) -> Pair:
        """The least that each role may shrink to.

        Args:
            needed: now.
            before: the last target, which all of it is while the window is not full.
            now_seconds: time.
            windows: length of the window of each role, seconds.
        """
        since = now_seconds if self._since_seconds is None else self._since_seconds

        def of(i: int, window_seconds: float) -> int:
            if since > now_seconds - window_seconds:
                return before[i]
            lately = (pair[i] for at, pair in self._needed if at > now_seconds - window_seconds)
            return min(before[i], max([needed[i], *lately]))

        return of(0, windows.prefill), of(1, windows.decode)


def windows(model: EngineModel, policy: Policy, tuning: Tuning) -> PerRole[float]:
    """Length of the stabilisation window of each role, seconds."""
    stated = policy.scale_down_stabilization_seconds
    if stated is not None:
        return PerRole(stated, stated)
    return PerRole.of(lambda role: max(tuning.least_hold_seconds, model.startup_seconds[role]))
