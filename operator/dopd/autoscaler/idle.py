"""Sleep and wake: both roles go to zero together while no request comes, and come back together. Pure.

Sleep needs all of this: no request for `idle_after_seconds` as every gateway counts them, the load known and zero,
nothing in the engines, no schedule that reserves workers now or within the lead, and no request foreseen within it.
Wake needs one of three: a request, such a schedule, or a forecast. The silence begins anew with each wake, so a wake
holds for as long as it takes to fall asleep: the two can not chase each other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from dopd.autoscaler.past import PastLoad
from dopd.planning.per_role import PerRole
from dopd.planning.workers import Workers

Counts = Mapping[str, float | None]
"""Requests that each gateway has counted since it started, by a name of its own; None of one that did not tell."""

FORESEEN_REQUESTS = 1.0
"""A wake ahead pays once so many requests are foreseen within the lead: else nobody is late without it."""


NO_KV_USE = 0.001
"""An empty cache counts as that much at most."""


class Wake(StrEnum):
    """What ended a sleep. Closed."""

    REQUEST = "FirstRequest"
    """A request came."""
    FORESEEN = "Foreseen"
    """The forecast expects one before a worker that is started later could serve it."""
    SCHEDULE = "ScheduleAhead"
    """A schedule reserves workers, now or within the lead."""
    FIELD = "BoundsChanged"
    """The spec asks for sleep no more."""


@dataclass(frozen=True)
class Silence:
    """What a history shows.

    Attributes:
        since_seconds: no request since then, without a gap until now.
        after_request: one came right before; False where the history, or what is known of it without a gap, begins.
    """

    since_seconds: float
    after_request: bool


@dataclass(frozen=True)
class Facts:
    """What is known at a look.

    Attributes:
        now_seconds: time, on the clock of the samples.
        after_seconds: silence that it takes to fall asleep; None: never.
        counted: requests as the gateways count them; None where nobody asked.
        arriving: whether the newest reading of the load has requests in it; None while the load is not known.
        silence: what the history shows; None where it does not tell.
        working: the engines hold requests.
        foreseen: the forecast expects a request within the lead.
        reserved: a schedule asks for workers within the lead.
    """

    now_seconds: float
    after_seconds: float | None
    counted: Counts | None = None
    arriving: bool | None = None
    silence: Silence | None = None
    working: bool = False
    foreseen: bool = False
    reserved: bool = False


@dataclass(frozen=True)
class Idle:
    """What is remembered from look to look.

    Attributes:
        asleep: both roles are at zero.
        quiet_since_seconds: no request is known since; None before the first look.
        counted: what the gateways had counted.
        woken_by: what ended the sleep at this look; None at any other.
        recalled: the history was asked whether a request came while nobody looked.
    """

    asleep: bool = False
    quiet_since_seconds: float | None = None
    counted: Counts | None = None
    woken_by: Wake | None = None
    recalled: bool = False

    def look(self, facts: Facts) -> "Idle":
        """The next state."""
        if facts.after_seconds is None:
            return Idle(woken_by=Wake.FIELD if self.asleep else None)
        known = self._recall(facts, facts.after_seconds)
        counted = known.counted if facts.counted is None else _kept(known.counted or {}, facts.counted)
        busy = (
            bool(facts.arriving) or facts.working or grown(known.counted, facts.counted) or known.woken_by is not None
        )
        known = replace(known, counted=counted, woken_by=None)
        if known.asleep:
            cause = _cause(facts, busy=busy)
            return (
                known if cause is None else replace(known._quiet_from(facts.now_seconds), asleep=False, woken_by=cause)
            )
        if busy or known.quiet_since_seconds is None:
            return known._quiet_from(facts.now_seconds)
        silent = facts.now_seconds - known.quiet_since_seconds >= facts.after_seconds
        sure = facts.arriving is not None and bool(facts.counted) and None not in (facts.counted or {}).values()
        return replace(known, asleep=silent and sure and not (facts.foreseen or facts.reserved))

    def _quiet_from(self, now_seconds: float) -> "Idle":
        return replace(self, quiet_since_seconds=now_seconds)

    def _recall(self, facts: Facts, after_seconds: float) -> "Idle":
        """What came before the first look; `woken_by` says that a request came while a sleeper was not looked after."""
        if self.recalled or facts.silence is None:
            return self
        since = facts.silence.since_seconds
        if self.asleep:
            missed = facts.silence.after_request and facts.now_seconds - since < after_seconds
            return replace(self, recalled=True, woken_by=Wake.REQUEST if missed else None)
        mine = facts.now_seconds if self.quiet_since_seconds is None else self.quiet_since_seconds
        return replace(self, recalled=True, quiet_since_seconds=min(mine, since))


def grown(before: Counts | None, now: Counts | None) -> bool:
    """Whether some gateway has counted a request since the look before; what the first look finds may be old."""
    if before is None or now is None:
        return False
    pairs = ((before.get(name, 0.0), count) for name, count in now.items())
    return any(bool(count) and had is not None and count != had for had, count in pairs)


def _kept(before: Counts, now: Counts) -> Counts:
    return {name: before.get(name) if count is None else count for name, count in now.items()}


def silence(past: Sequence[PastLoad], now_seconds: float, offset_seconds: float) -> Silence | None:
    """Since when a history has shown no request; None where it does not tell of now.

    Args:
        past: bins, oldest first.
        now_seconds: time, on the clock of the samples.
        offset_seconds: what is added to times of the history to get those of that clock.
    """
    since: float | None = None
    for one in reversed(past):
        end = one.end_seconds + offset_seconds
        if (now_seconds if since is None else since) - end > 2 * one.seconds:
            break
        if one.demand.requests_per_second > 0:
            return Silence(end if since is None else since, after_request=True)
        since = end - one.seconds
    return None if since is None else Silence(since, after_request=False)


def working(workers: PerRole[Workers]) -> bool:
    """Whether engines are known to hold requests. One that does not tell is asked again before it may go: it drains."""
    return any(
        bool(role.waiting_tokens) or bool(role.waiting_requests) or (role.kv_use or 0.0) > NO_KV_USE for role in workers
    )


def _cause(facts: Facts, *, busy: bool) -> Wake | None:
    if busy:
        return Wake.REQUEST
    if facts.reserved:
        return Wake.SCHEDULE
    return Wake.FORESEEN if facts.foreseen else None
