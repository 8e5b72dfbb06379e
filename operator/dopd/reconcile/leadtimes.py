"""How long a decision takes to have an effect, as measured on this cluster: of a start and of an exit, part by part.

The forecast must look as far ahead as a new worker takes to serve, and only the cluster itself knows that: whether a
node is free or one has to be made, images, weights on disk or not, graph capture, how soon the gateway notices.

| part | from | to |
|---|---|---|
| node | the pod is made | it has a node |
| start | it has a node | it is ready |
| registration | it is ready | a gateway lists it |
| drain | it is drained | no gateway lists it, and its engine has nothing to do |
| exit | it is drained | it is gone, and its GPUs are free |

A worker that changes its role tells of the drain of the role that it leaves, and of no exit.

Each step of a pod is dated by what Kubernetes noted, but never outside of the time between the two looks that saw it
happen, which are dated on a clock that no step of the wall clock moves. Of what was there before this process the notes
alone tell, of node and start; the rest stands in the status.
"""

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median, quantiles
from typing import Any

from dopd.api.names import Role
from dopd.reconcile.pods import epoch_seconds, trouble
from dopd.reconcile.pods import life as life_of
from dopd.rollout import Worker

Pod = dict[str, Any]

NEWEST = 20
"""Measurements of a part that count: the newest tell of the nodes and images of now."""
ENOUGH_STARTS = 3
"""With fewer measured starts the profile's figure stands; with fewer of another part, that of before a restart."""
BEYOND_USUAL = 10.0
"""A start that took so many times as long as the others, and as the profile expects, met a clock that was set."""
LONGEST_START_SECONDS = 6 * 3600.0
"""The times are those of wall clocks: what is longer than any start, or below zero, tells of one that was set."""
LONGEST_NODE_WAIT_SECONDS = 1800.0
"""No node autoscaler takes longer: whoever waits longer waits for a person, which is no lead time."""
LONGEST_REGISTRATION_SECONDS = 300.0
"""The same of a gateway: it looks for new workers each minute or sooner."""
LONGEST_EXIT_SECONDS = 25 * 3600.0
"""The longest drain deadline, and an hour."""


class Part(StrEnum):
    """A part of the time that a decision takes."""

    NODE = "node"
    START = "start"
    REGISTRATION = "registration"
    DRAIN = "drain"
    EXIT = "exit"


LONGEST = {
    Part.NODE: LONGEST_NODE_WAIT_SECONDS,
    Part.START: LONGEST_START_SECONDS,
    Part.REGISTRATION: LONGEST_REGISTRATION_SECONDS,
    Part.DRAIN: LONGEST_EXIT_SECONDS,
    Part.EXIT: LONGEST_EXIT_SECONDS,
}
_OF_START = (Part.NODE, Part.START, Part.REGISTRATION)


@dataclass(frozen=True)
class Lead:
    """How long a decision takes to have an effect, of one role.

    Attributes:
        node_seconds: from a pod to its node, as measured.
        start_seconds: from the node to a worker that is ready.
        registration_seconds: until a gateway lists it.
        exit_seconds: from the drain of a worker until it is gone; None where none has gone yet.
        drain_seconds: from the drain of a worker until it is idle; None where none was seen to be.
        waits: how long some pod takes already, seconds by part, where that is a lead time still.
    """

    node_seconds: float = 0.0
    start_seconds: float = 0.0
    registration_seconds: float = 0.0
    exit_seconds: float | None = None
    drain_seconds: float | None = None
    waits: Mapping[Part, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """From the decision for a worker until it serves: as measured, or as a pod takes already where that is more."""
        return sum(seconds for part, seconds in self.parts().items() if part in _OF_START)

    def parts(self) -> dict[Part, float]:
        """What is known, by part."""
        known = {
            Part.NODE: max(self.node_seconds, self.waits.get(Part.NODE, 0.0)),
            Part.START: max(self.start_seconds, self.waits.get(Part.START, 0.0)),
            Part.REGISTRATION: max(self.registration_seconds, self.waits.get(Part.REGISTRATION, 0.0)),
        }
        leaving = {Part.DRAIN: self.drain_seconds, Part.EXIT: self.exit_seconds}
        return known | {part: seconds for part, seconds in leaving.items() if seconds is not None}


@dataclass(frozen=True)
class Look:
    """A role at one time.

    Attributes:
        pods: that hold their place.
        workers: the same as the pool's state machine sees them, in the same order.
        apart: names of workers of a revision that no gateway is there for: it comes with the first partner.
        held: lives of pods that are being deleted and are not gone.
        gpus_to_come: a worker of the resource, of whatever role, gives up GPUs that a new one may wait for.
        expected_seconds: what the profile expects of a start.
    """

    pods: Sequence[Pod]
    workers: Sequence[Worker]
    apart: frozenset[str] = frozenset()
    held: frozenset[str] = frozenset()
    gpus_to_come: bool = False
    expected_seconds: float = 0.0


@dataclass(frozen=True)
class _Life:
    """A pod as it was last seen; times on the steady clock.

    Attributes:
        waiting_since: since when only the cluster keeps it from a node.
        held_back: it waited for something else before, so that how long it waited tells nothing.
        scheduled_at: when it got one.
        ready_at: when it was ready first.
        registered: a gateway has listed it, or that was not seen to happen.
        drained_at: since when it is drained, having been ready.
        idle: it has become idle since, or that was not seen to happen.
    """

    waiting_since: float
    held_back: bool = False
    scheduled_at: float | None = None
    ready_at: float | None = None
    registered: bool = False
    drained_at: float | None = None
    idle: bool = False


@dataclass
class _OfRole:
    """What was measured of a role.

    Attributes:
        newest: seconds by part.
        seen: how many of these this process saw itself.
        lives: its pods by uid.
    """

    newest: dict[Part, deque[float]] = field(default_factory=lambda: {part: deque(maxlen=NEWEST) for part in Part})
    seen: Counter[Part] = field(default_factory=Counter)
    lives: dict[str, _Life] = field(default_factory=dict)

    def add(self, part: Part, seconds: float, *, seen: bool) -> None:
        """Note a measurement that can be one."""
        if 0 <= seconds <= LONGEST[part]:
            self.newest[part].append(seconds)
            self.seen[part] += seen


class LeadTimes:
    """Measures the lead times of one resource, look by look.

    Args:
        restored: what was measured before a restart, by role.
    """

    def __init__(self, restored: Mapping[Role, Lead] | None = None) -> None:
        self._restored = {role: (restored or {}).get(role, Lead()) for role in Role}
        self._roles = {role: _OfRole() for role in Role}
        self._looked_at: float | None = None

    def look(self, looks: Mapping[Role, Look], steady_seconds: float, wall_seconds: float) -> dict[Role, Lead]:
        """Lead times by role: the P90 of what was measured, and what pods wait already.

        Args:
            looks: each role.
            steady_seconds: the time on a clock that no step of the wall clock moves.
            wall_seconds: seconds since the epoch.
        """
        clock = _Clock(self._looked_at, steady_seconds, wall_seconds)
        there = {life_of(pod): role for role, look in looks.items() for pod in look.pods}
        for role, mine in self._roles.items():  # a worker that changes its role takes its life along
            for uid in [uid for uid in mine.lives if there.get(uid, role) is not role]:
                self._roles[there[uid]].lives[uid] = replace(mine.lives.pop(uid), registered=True)
        for role, look in looks.items():
            _follow(self._roles[role], self._roles[role.other], look, clock)
        self._looked_at = steady_seconds
        return {role: self._lead(role, look, clock) for role, look in looks.items()}

    def nothing_new(self, steady_seconds: float) -> None:
        """A look that saw what the one before saw, of workers that all serve.

        Args:
            steady_seconds: the time of it.
        """
        self._looked_at = steady_seconds

    def _lead(self, role: Role, look: Look, clock: "_Clock") -> Lead:
        mine, restored = self._roles[role], self._restored[role].parts()
        measured = mine.newest[Part.START]
        usual = BEYOND_USUAL * max(median(measured) if measured else 0.0, look.expected_seconds)
        starts = [seconds for seconds in measured if seconds <= usual]
        found: dict[Part, float] = {Part.START: look.expected_seconds}
        if len(starts) >= ENOUGH_STARTS:
            found[Part.START] = _p90(starts)
        for part in (Part.NODE, Part.REGISTRATION, Part.DRAIN, Part.EXIT):
            known = [_p90(mine.newest[part])] if mine.newest[part] else []
            if part in restored and mine.seen[part] < ENOUGH_STARTS:
                known.append(restored[part])
            if known:
                found[part] = max(known)
        return Lead(
            node_seconds=found.get(Part.NODE, 0.0),
            start_seconds=found[Part.START],
            registration_seconds=found.get(Part.REGISTRATION, 0.0),
            exit_seconds=found.get(Part.EXIT),
            drain_seconds=found.get(Part.DRAIN),
            waits={
                part: seconds
                for part, seconds in _waits(mine, look, clock).items()
                if seconds <= (min(usual, LONGEST[part]) if part is Part.START else LONGEST[part])
            },
        )


@dataclass(frozen=True)
class _Clock:
    """The time of a look, and of the one before; None for the first.

    All on the steady clock but `wall`, which is the time now in seconds since the epoch.
    """

    before: float | None
    now: float
    wall: float

    def at(self, noted: str | None) -> float:
        """When something happened that is new in this look, as it was noted in RFC 3339."""
        told = self.now if noted is None else self.now - (self.wall - epoch_seconds(noted))
        return told if self.before is None else min(max(told, self.before), self.now)


def _follow(mine: _OfRole, other: _OfRole, look: Look, clock: _Clock) -> None:
    lives: dict[str, _Life] = {}
    for pod, worker in zip(look.pods, look.workers, strict=True):
        life = mine.lives.get(life_of(pod)) or _Life(clock.at(pod["metadata"].get("creationTimestamp")))
        life = _next(mine, life, pod, worker, look, clock)
        lives[life_of(pod)] = _drained(other if worker.turning else mine, life, worker, clock)
    for uid, life in mine.lives.items():
        if uid in look.held and uid not in lives:
            lives[uid] = life
        elif uid not in lives and life.drained_at is not None:
            mine.add(Part.EXIT, clock.now - life.drained_at, seen=True)
    mine.lives = lives


def _next(mine: _OfRole, life: _Life, pod: Pod, worker: Worker, look: Look, clock: _Clock) -> _Life:
    """A pod as it is now; each step that it took since the last look is measured."""
    seen = clock.before is not None
    times = _condition_times(pod)
    if life.scheduled_at is None:
        if not worker.scheduled:
            # The GPUs that it waits for are those of another worker of ours, or a queue has not let it in.
            held_back = look.gpus_to_come or _gated(pod)
            return replace(life, waiting_since=clock.now, held_back=True) if held_back else life
        scheduled_at = clock.at(times.get("PodScheduled"))
        life = replace(life, scheduled_at=scheduled_at)
        if not life.held_back and (seen or "PodScheduled" in times):
            mine.add(Part.NODE, scheduled_at - life.waiting_since, seen=seen)
    if life.ready_at is None and worker.ready:
        ready_at = clock.at(times.get("Ready"))
        # One that restarted is ready anew, much later.
        if not _restarted(pod) and (seen or {"PodScheduled", "Ready"} <= set(times)):
            mine.add(Part.START, ready_at - (life.scheduled_at or ready_at), seen=seen)
        life = replace(life, ready_at=ready_at, registered=not seen)
    if not worker.labelled:  # drained; one that no gateway knew by then is not to be registered any more
        return replace(life, registered=True)
    if life.ready_at is not None and worker.name in look.apart:  # it waits for a partner, not for a gateway
        life = replace(life, registered=True)
    if life.ready_at is not None and worker.registered and not life.registered:
        mine.add(Part.REGISTRATION, clock.now - life.ready_at, seen=seen)
        life = replace(life, registered=True)
    return life


def _drained(leaves: _OfRole, life: _Life, worker: Worker, clock: _Clock) -> _Life:
    """A pod with what is known of its drain, which tells of the role that it leaves."""
    if worker.labelled or worker.proving:
        return replace(life, drained_at=None, idle=False)
    if life.drained_at is None:
        return replace(life, drained_at=clock.now, idle=clock.before is None) if worker.ready else life
    if not life.idle and worker.ready and worker.registered is False and worker.idle:
        leaves.add(Part.DRAIN, clock.now - life.drained_at, seen=True)
        return replace(life, idle=True)
    return life


def _waits(mine: _OfRole, look: Look, clock: _Clock) -> dict[Part, float]:
    """How long a step of some pod takes already, the longest of each part."""
    found: dict[Part, float] = {}
    for pod, worker in zip(look.pods, look.workers, strict=True):
        life = mine.lives[life_of(pod)]
        if not worker.labelled:
            continue
        if life.scheduled_at is None:
            part, since = Part.NODE, life.waiting_since
        elif life.ready_at is None and not _restarted(pod) and trouble(pod) is None:
            part, since = Part.START, life.scheduled_at
        elif life.ready_at is not None and worker.ready and worker.registered is False and not life.registered:
            part, since = Part.REGISTRATION, life.ready_at
        else:
            continue
        found[part] = max(found.get(part, 0.0), clock.now - since, 0.0)
    return found


def _condition_times(pod: Pod) -> dict[str, str]:
    """Since when each condition of a pod is true."""
    return {
        c["type"]: c["lastTransitionTime"]
        for c in pod.get("status", {}).get("conditions", [])
        if c["status"] == "True" and c.get("lastTransitionTime")
    }


def _gated(pod: Pod) -> bool:
    return any(c.get("reason") == "SchedulingGated" for c in pod.get("status", {}).get("conditions", []))


def _restarted(pod: Pod) -> bool:
    return any(c.get("restartCount", 0) for c in pod.get("status", {}).get("containerStatuses", []))


def _p90(measured: Sequence[float]) -> float:
    return quantiles(measured, n=10, method="inclusive")[-1] if len(measured) > 1 else measured[0]
