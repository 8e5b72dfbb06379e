"""One pool of GPUs for several resources: guarantees first, then by priority, among equals to the worst served.

Between resources of equal priority the next worker goes to the one of which the smallest share of its need is
served, to the role that holds it back. That is the greatest gain in served requests per GPU where needs are alike,
and it starves nobody. The sum never exceeds the pool, and nobody gets more than it wants. A resource with nothing takes
its minimum or nothing: half a pair of roles answers nobody.

Pure arithmetic on one moment. `pool` adds time: what is kept of the division before.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from math import inf

from dopd.planning.bounds import Pair

Gpus = Mapping[str, int]
"""GPUs by type."""
NOTHING: Pair = (0, 0)
ONE_TYPE = ("gpu", "gpu")


@dataclass(frozen=True)
class Entry:
    """What the pool says of one of its members, which may be several resources together.

    Attributes:
        priority: greater ones are served first.
        guaranteed: GPUs by type that it gets whenever it wants them.
        most: GPUs by type that it gets at most; no limit for a type that is absent.
    """

    priority: int = 0
    guaranteed: Gpus = field(default_factory=dict)
    most: Gpus = field(default_factory=dict)


@dataclass(frozen=True)
class Claim:
    """What one resource wants of the pool.

    Attributes:
        name: of the resource.
        entry: name of the entry that is about it.
        wanted: workers that its load needs, within its own bounds.
        minimum: workers without which it takes none.
        gpus: GPUs of one prefill and of one decode worker.
        types: types of these GPUs.
        kept: GPUs by type that it has and that none of its own or of lower priority takes, but for what is guaranteed.
    """

    name: str
    entry: str
    wanted: Pair
    minimum: Pair = (1, 1)
    gpus: Pair = (1, 1)
    types: tuple[str, str] = ONE_TYPE
    kept: Gpus = field(default_factory=dict)

    def cost(self, pair: Pair) -> dict[str, int]:
        """GPUs by type of so many workers."""
        found: dict[str, int] = {}
        for kind, gpus, workers in zip(self.types, self.gpus, pair, strict=True):
            found[kind] = found.get(kind, 0) + gpus * workers
        return found

    def served(self, pair: Pair) -> float:
        """Share of the need that so many workers serve."""
        return min(have / want if want else 1.0 for have, want in zip(pair, self.wanted, strict=True))


def lesser(one: Pair, other: Pair) -> Pair:
    """The smaller number of each role."""
    return min(one[0], other[0]), min(one[1], other[1])


def share(claims: Sequence[Claim], entries: Mapping[str, Entry], caps: Gpus) -> dict[str, Pair]:
    """Divide the pool.

    Args:
        claims: what is wanted; names are unique.
        entries: what the pool says, by name; each claim has one.
        caps: GPUs of the pool by type.

    Returns:
        Workers by name of the claim; (0, 0) for one whose minimum finds no room.
    """
    division = _of_guarantees(claims, entries, caps)
    levels = sorted({entries[claim.entry].priority for claim in claims}, reverse=True)
    for room in (division.kept, division.free):
        for priority in levels:
            division.fill([claim for claim in claims if entries[claim.entry].priority == priority], room)
    return division.given


def guaranteed(claims: Sequence[Claim], entries: Mapping[str, Entry], caps: Gpus) -> dict[str, Pair]:
    """Workers by name of the claim that it wants and is guaranteed: the part of `share` that no priority takes."""
    return _of_guarantees(claims, entries, caps).given


def _of_guarantees(claims: Sequence[Claim], entries: Mapping[str, Entry], caps: Gpus) -> "_Division":
    division = _Division(entries, caps, {claim.name: NOTHING for claim in claims})
    division.fill(claims, division.guaranteed)
    return division


class _Division:
    """A division under way: workers that were given, GPUs that are left."""

    def __init__(self, entries: Mapping[str, Entry], caps: Gpus, given: dict[str, Pair]) -> None:
        self.given = given
        self._entries, self._left = entries, dict(caps)
        self._used: dict[tuple[str, str], int] = {}

    def guaranteed(self, claim: Claim, kind: str, _: int) -> float:
        """GPUs of a type that the claim may take of what its entry is guaranteed."""
        return self._entries[claim.entry].guaranteed.get(kind, 0) - self._used.get((claim.entry, kind), 0)

    def kept(self, claim: Claim, kind: str, has: int) -> float:
        """Those of what it kept; `has`: it was given so many already."""
        return claim.kept.get(kind, 0) - has

    def free(self, *_: object) -> float:
        """Those of what is left: all."""
        return inf

    def fill(self, claims: Iterable[Claim], room: Callable[[Claim, str, int], float]) -> None:
        """Give workers one at a time to the claim that is served worst, while it wants some and there is room.

        Room only gets less, so a claim that can not grow is done with.
        """
        queue = [(claim.served(self.given[claim.name]), claim.name, claim) for claim in claims]
        heapify(queue)
        while queue:
            _, _, claim = heappop(queue)
            grown = self._grown(claim, room)
            if grown is None:
                continue
            self._take(claim, grown)
            heappush(queue, (claim.served(grown), claim.name, claim))

    def _grown(self, claim: Claim, room: Callable[[Claim, str, int], float]) -> Pair | None:
        """The next workers of a claim: its minimum, or one more of the role that serves the smaller share."""
        have = self.given[claim.name]
        if have == NOTHING:
            first = lesser(claim.minimum, claim.wanted)
            return first if first != NOTHING and self._fits(claim, first, room) else None
        steps = [(have[0] + 1, have[1]), (have[0], have[1] + 1)]
        able = [role for role in (0, 1) if have[role] < claim.wanted[role]]
        able = [role for role in able if self._fits(claim, steps[role], room)]
        return steps[min(able, key=lambda role: have[role] / claim.wanted[role])] if able else None

    def _fits(self, claim: Claim, pair: Pair, room: Callable[[Claim, str, int], float]) -> bool:
        entry, before = self._entries[claim.entry], claim.cost(self.given[claim.name])
        for kind, gpus in claim.cost(pair).items():
            more = gpus - before[kind]
            of_entry = entry.most.get(kind, inf) - self._used.get((claim.entry, kind), 0)
            if more and more > min(self._left.get(kind, 0), of_entry, room(claim, kind, before[kind])):
                return False
        return True

    def _take(self, claim: Claim, pair: Pair) -> None:
        before = claim.cost(self.given[claim.name])
        for kind, gpus in claim.cost(pair).items():
            more = gpus - before[kind]
            self._left[kind] = self._left.get(kind, 0) - more
            self._used[claim.entry, kind] = self._used.get((claim.entry, kind), 0) + more
        self.given[claim.name] = pair
