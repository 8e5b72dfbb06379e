"""When a worker first serves in a role that it had not before: by a start, or by a change of its role. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from e2e.load.summary import percentile

Json = dict[str, Any]
PREFILL = "prefill"


class Way(StrEnum):
    """How a worker came to its role."""

    START = "start"
    """Its pod was made for it."""
    FLIP = "flip"
    """It served in the other role before."""


@dataclass(frozen=True)
class Look:
    """A worker at one moment.

    Attributes:
        uid: of its pod.
        role: that its label names; "" without one.
        ready: Kubernetes says ready.
        requests: that its engine runs or that wait there.
        computed_tokens: of prompts, since the engine's start; a decode engine computes none.
    """

    uid: str
    role: str
    ready: bool
    requests: int = 0
    computed_tokens: int = 0


@dataclass(frozen=True)
class Served:
    """A worker that has served in its new role. Times are seconds since the epoch.

    Attributes:
        way: how it came to it.
        role: the new one.
        able_at: it was first seen ready, with its label.
        answered_at: it was first seen with a request: at decode one that it answers, at prefill a prompt that is done.
    """

    way: Way
    role: str
    able_at: float
    answered_at: float


class Arrivals:
    """Workers that come to serve, told one look after the other.

    Canaries and the engine's own first request come before the label and before it is ready, so what the engine has
    computed by then counts as nothing.

    Args:
        before: the workers before the change.
    """

    def __init__(self, before: Iterable[Look]) -> None:
        self._before = {(look.uid, look.role) for look in before}
        self._uids = {uid for uid, _ in self._before}
        self._able: dict[tuple[str, str], tuple[float, Look]] = {}
        self.served: dict[tuple[str, str], Served] = {}

    def awaits(self, uid: str, role: str) -> bool:
        """Whether a worker in this role is one to look at."""
        return bool(role) and (uid, role) not in self._before and (uid, role) not in self.served

    def look(self, now: float, worker: Look) -> None:
        """A worker is looked at.

        Args:
            now: seconds since the epoch.
            worker: what is seen of it.
        """
        key = (worker.uid, worker.role)
        if not (self.awaits(*key) and worker.ready):
            return
        able_at, first = self._able.setdefault(key, (now, worker))
        at_work = worker.computed_tokens > first.computed_tokens if worker.role == PREFILL else worker.requests > 0
        if at_work:
            way = Way.FLIP if worker.uid in self._uids else Way.START
            self.served[key] = Served(way, worker.role, able_at, now)


def decided_at(events: Iterable[Mapping[str, Any]], name: str, change: str, since: float) -> float | None:
    """When the operator wrote a decision, seconds since the epoch; None where it has not yet.

    Args:
        events: of events.k8s.io/v1.
        name: of the resource.
        change: workers before and after, as `1+1 -> 2+2`.
        since: when it was asked for, seconds since the epoch.
    """
    mine = (e for e in events if e["regarding"].get("name") == name and str(e.get("note")).startswith(f"{change} "))
    times = [datetime.fromisoformat(event["eventTime"]).timestamp() for event in mine if event.get("eventTime")]
    return min((at for at in times if at >= since), default=None)


def moves(decided: float, served: Iterable[Served]) -> list[Json]:
    """What each worker took from the decision on, seconds, for JSON."""
    return [
        {
            "way": str(each.way),
            "role": each.role,
            "able_seconds": round(each.able_at - decided, 2),
            "seconds": round(each.answered_at - decided, 2),
        }
        for each in served
    ]


def table(found: Sequence[Json]) -> str:
    """All moves as Markdown."""
    rows = [
        ("start of a prefill worker", [m for m in found if (m["way"], m["role"]) == (Way.START, PREFILL)]),
        ("start of a decode worker", [m for m in found if m["way"] == Way.START and m["role"] != PREFILL]),
        ("**all starts**", [m for m in found if m["way"] == Way.START]),
        ("decode worker that becomes prefill", [m for m in found if (m["way"], m["role"]) == (Way.FLIP, PREFILL)]),
        ("prefill worker that becomes decode", [m for m in found if m["way"] == Way.FLIP and m["role"] != PREFILL]),
        ("**all flips**", [m for m in found if m["way"] == Way.FLIP]),
    ]
    heads = (
        "| from the decision on | times | ready with its label, median s | first answer, median s | P90 s | longest s |"
    )
    lines = [heads, "|---|---|---|---|---|---|", *(_row(what, some) for what, some in rows)]
    return "\n".join(lines) + "\n"


def summary(found: Sequence[Json]) -> Json:
    """Times, median and P90 of seconds to the first answer, by way."""
    by_way = {way: [m["seconds"] for m in found if m["way"] == way] for way in Way}
    return {
        str(way): {"times": len(took), "median_seconds": percentile(took, 0.5), "p90_seconds": percentile(took, 0.9)}
        for way, took in by_way.items()
    }


def _row(what: str, some: Sequence[Json]) -> str:
    if not some:
        return f"| {what} | 0 | | | | |"
    took, able = [m["seconds"] for m in some], [m["able_seconds"] for m in some]
    figures = (percentile(able, 0.5), percentile(took, 0.5), percentile(took, 0.9), max(took))
    return f"| {what} | {len(some)} | " + " | ".join(f"{seconds:.1f}" for seconds in figures) + " |"
