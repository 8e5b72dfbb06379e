"""A pool of GPUs over time: who is to have how many, and who may hold how many meanwhile. Pure.

Two numbers of each member. Its *share* is what the division gives it. What it is *granted* is what its pods may hold
now: it follows the share, but falls only as pods are gone and rises only by what is free. So GPUs are handed over by
drain, the loser first, and what is granted never exceeds the cap.

The division is not made anew each time: workers that a member has and wants stay with it (`hold_seconds`, and among
equals until another gains by a tenth), so that GPUs do not swing back and forth between two models.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dopd.planning.bounds import ABOUT_AS_MUCH, Pair
from dopd.planning.sharing import NOTHING, Claim, Entry, Gpus, guaranteed, lesser, share


@dataclass(frozen=True)
class Pool:
    """What an admin says.

    Attributes:
        caps: GPUs by type.
        entries: by name: NAMESPACE/NAME of one resource, NAMESPACE/ of all others there.
        hold_seconds: for so long after its share grew nothing is taken from a member.
    """

    caps: Gpus
    entries: Mapping[str, Entry] = field(default_factory=dict)
    hold_seconds: float = 300.0

    def entry_of(self, name: str) -> str | None:
        """The entry about a resource NAMESPACE/NAME; None where there is none."""
        of_namespace = f"{name.partition('/')[0]}/"
        return next((entry for entry in (name, of_namespace) if entry in self.entries), None)


@dataclass(frozen=True)
class Row:
    """One member of the ledger.

    Attributes:
        name: NAMESPACE/NAME of the resource.
        wanted: workers that it wants.
        minimum: workers without which it takes none.
        worker_gpus: GPUs of one worker of each role.
        types: types of these GPUs; "" for one that the pool has not.
        share: workers that it is to have.
        granted: GPUs by type that its pods may hold.
        held: GPUs by type that its pods hold.
        since_seconds: when its share last grew; None before.
    """

    name: str
    wanted: Pair
    minimum: Pair
    worker_gpus: Pair
    types: tuple[str, str]
    share: Pair = NOTHING
    granted: Gpus = field(default_factory=dict)
    held: Gpus = field(default_factory=dict)
    since_seconds: float | None = None

    def claim(self, entry: str = "", kept: Gpus | None = None) -> Claim:
        """What it wants, for a division."""
        return Claim(self.name, entry, self.wanted, self.minimum, self.worker_gpus, self.types, kept or {})

    def cost(self, pair: Pair) -> dict[str, int]:
        """GPUs by type of so many workers."""
        return self.claim().cost(pair)

    @property
    def keeps(self) -> dict[str, int]:
        """GPUs by type of its share that it still wants, for whichever role."""
        wants = self.cost(self.wanted)
        return {kind: min(gpus, wants[kind]) for kind, gpus in self.cost(self.share).items()}

    @property
    def waits(self) -> bool:
        """Whether GPUs of its share are held by others still."""
        return any(gpus > self.granted.get(kind, 0) for kind, gpus in self.cost(self.share).items())


Rows = Mapping[str, Row]


def divide(pool: Pool, rows: Rows, now_seconds: float) -> dict[str, Row]:
    """The rows with the shares of now.

    A resource that no entry is about keeps what it has and gets no more, as does one whose GPUs the pool has not.
    """
    members = {name: row for name, row in rows.items() if is_member(pool, row)}
    left = dict(pool.caps)
    for name, row in rows.items():
        if name not in members:
            for kind, gpus in row.granted.items():
                left[kind] = max(left.get(kind, 0) - gpus, 0)
    shares = _shares(pool, members, left, now_seconds)
    return {
        name: _with_share(row, shares[name] if name in members else lesser(row.share, row.wanted), now_seconds)
        for name, row in rows.items()
    }


def is_member(pool: Pool, row: Row) -> bool:
    """Whether a resource may get more than it has."""
    return pool.entry_of(row.name) is not None and all(kind in pool.caps for kind in row.types)


def settle(pool: Pool, rows: Rows, name: str, surge: Gpus | None = None) -> Row:
    """One row with what its pods may hold now.

    Only by this does that change, and only for the resource whose turn it is: with the pods that were counted for it
    in this turn.

    Args:
        pool: what an admin says.
        rows: the ledger, with the shares of now.
        name: of the row.
        surge: GPUs by type beyond its share that it could use for a rollout, of those that are nobody's.
    """
    row = rows[name]
    cost = row.cost(row.share)
    granted = {}
    for kind in sorted({*cost, *row.held, *row.granted}):
        held, due = row.held.get(kind, 0), cost.get(kind, 0)
        if is_member(pool, row):
            others = [other for other in rows.values() if other.name != name]
            room = pool.caps.get(kind, 0) - sum(other.granted.get(kind, 0) for other in others)
            spoken_for = sum(max(o.granted.get(kind, 0), o.cost(o.share).get(kind, 0)) for o in others)
            spare = pool.caps.get(kind, 0) - spoken_for - due
            more = max(0, min((surge or {}).get(kind, 0), spare))
            may = max(held, min(due + more, room))
        else:
            may = max(held, min(due, row.granted.get(kind, 0)))
        if may:
            granted[kind] = may
    return replace(row, granted=granted)


def denied(pool: Pool, rows: Rows, row: Row) -> str:
    """What a resource was denied, and who has it; "" where it has what it wants."""
    wants, gets = row.cost(row.wanted), row.cost(row.share)
    parts = []
    for kind in sorted(wants):
        if wants[kind] <= gets[kind]:
            continue
        having = [(other.cost(other.share).get(kind, 0), other) for other in rows.values() if other.name != row.name]
        first = sorted((one for one in having if one[0]), key=lambda one: (-_priority(pool, one[1]), one[1].name))
        who = ", ".join(f"{other.name} {gpus} (priority {_priority(pool, other)})" for gpus, other in first[:_NAMED])
        more = f" and {len(first) - _NAMED} more" if len(first) > _NAMED else ""
        cap = pool.caps.get(kind, 0)
        parts.append(
            f"wants {wants[kind]} {kind} GPUs and gets {gets[kind]} of {cap}" + (f": {who}{more}" if who else "")
        )
    return "; ".join(parts)


def lacking(pool: Pool, rows: Rows, row: Row) -> dict[str, int]:
    """GPUs by type that a resource wants and is guaranteed, in whole workers, and may not hold yet: others drain them.

    A type for which it is guaranteed nothing is left out.
    """
    if not is_member(pool, row):
        return {}
    members = [one for _, one in sorted(rows.items()) if is_member(pool, one)]
    claims = [one.claim(pool.entry_of(one.name) or "") for one in members]
    of_entry = pool.entries[pool.entry_of(row.name) or ""].guaranteed
    due = row.cost(guaranteed(claims, pool.entries, pool.caps)[row.name])
    return {kind: max(0, gpus - row.granted.get(kind, 0)) for kind, gpus in due.items() if of_entry.get(kind)}


_NAMED = 3
"""So many members are named in a message."""


def _priority(pool: Pool, row: Row) -> int:
    entry = pool.entry_of(row.name)
    return pool.entries[entry].priority if entry else 0


def _with_share(row: Row, new: Pair, now_seconds: float) -> Row:
    grows = new[0] > row.share[0] or new[1] > row.share[1]
    more = sum(row.cost(new).values()) > sum(row.cost(row.share).values())
    return replace(row, share=new, since_seconds=now_seconds if grows and more else row.since_seconds)


def _shares(pool: Pool, rows: Rows, caps: Gpus, now_seconds: float) -> dict[str, Pair]:
    entries = {name: pool.entry_of(name) or "" for name in rows}

    def divided(kept: Mapping[str, Gpus]) -> dict[str, Pair]:
        claims = [row.claim(entries[name], kept.get(name)) for name, row in sorted(rows.items())]
        return share(claims, pool.entries, caps)

    def held(row: Row) -> bool:
        return row.since_seconds is not None and 0 <= now_seconds - row.since_seconds < pool.hold_seconds

    as_before = divided({name: row.keeps for name, row in rows.items()})
    anew = divided({name: row.keeps for name, row in rows.items() if held(row)})
    levels: dict[int, list[Row]] = {}
    for row in rows.values():
        levels.setdefault(_priority(pool, row), []).append(row)
    return anew if _worth(levels, as_before, anew) else as_before


def _worth(levels: Mapping[int, Sequence[Row]], before: Mapping[str, Pair], after: Mapping[str, Pair]) -> bool:
    """Whether a division is better by enough to take workers away for it: for a priority, or for equals by a tenth."""
    for priority in sorted(levels, reverse=True):
        rows = levels[priority]
        if all(before[row.name] == after[row.name] for row in rows):
            continue
        had, has = (sum(sum(r.cost(pairs[r.name]).values()) for r in rows) for pairs in (before, after))
        if had != has:
            return has > had
        was, becomes = (min(r.claim().served(pairs[r.name]) for r in rows) for pairs in (before, after))
        return becomes > was and was <= ABOUT_AS_MUCH * becomes
    return False
