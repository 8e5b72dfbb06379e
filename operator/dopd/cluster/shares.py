"""Which process acts for which shard, from the Leases as it saw them. Pure: times are told, on a clock of durations.

Resources are divided into a fixed number of shards by a hash of namespace and name. Each shard has a Lease, and who
holds that acts for the shard. Over all of them stands one more, the *layout*: it is held in the name of the number of
shards, by all processes that have the same number together. So processes with another number, or with none, act only
when none of these does: otherwise one resource could be in two shards, each with a holder.

What a process may rely on:

- It acts for two thirds of a Lease's duration after the *beginning* of the request that renewed it. Another one takes
  the Lease when it has *seen* it unchanged for the whole duration. So clocks are compared nowhere, and may differ by a
  third in how fast they go.
- Each write names the version that was read, so that of two one is refused.
- A shard moves where that makes two processes more equal: who has two less asks for one, by an annotation, and the
  holder ends what is under way before it gives the Lease away.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf

LAYOUT = -1
"""In place of the number of a shard: the Lease that stands over all."""
TENURE = 2 / 3
"""Share of a Lease's duration for which its holder acts without a renewal."""
ROUNDS = 7.5
"""Looks at the Leases in a duration."""
PATIENCE_ROUNDS = 3
"""So long a free shard is left to who has the fewest, or was promised it."""
_OF = "-shards-of-"
"""In the name of a layout, behind the number of its shards."""


def shards_of_layout(holder: str) -> int | None:
    """How many shards there are, by who holds the Lease over all; None where that is a process, and there are none."""
    count, found, _ = holder.partition(_OF)
    return int(count) if found and count.isascii() and count.isdigit() else None


def shard_of(namespace: str, name: str, shards: int) -> int:
    """The shard of a resource: the same in each process and each version."""
    digest = hashlib.blake2b(f"{namespace}/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % shards


@dataclass(frozen=True)
class Seen:
    """A Lease as it was read; as it stands here where there is none.

    Attributes:
        holder: of it; "" for nobody.
        wanted_by: a process that asks the holder for it, or that it was given to; "" for none.
        renewed: when, as it was written. Only compared: it is of another machine's clock.
        duration_seconds: that a silent holder keeps it.
        version: of the object; "" where there is none.
    """

    holder: str = ""
    wanted_by: str = ""
    renewed: str = ""
    duration_seconds: float = 0.0
    version: str = ""


@dataclass(frozen=True)
class Put:
    """A write to a Lease, to be refused if it is another than was seen.

    Attributes:
        slot: number of the shard, or LAYOUT.
        holder: from then on.
        wanted_by: from then on.
        renews: the times are written, too. False for a wish, which must not look like a sign of life of the holder.
    """

    slot: int
    holder: str
    wanted_by: str = ""
    renews: bool = True


class Candidate:
    """One process: what it saw, what it may do, and what it should write next.

    Args:
        me: name of the process.
        shards: in how many the resources are divided.
        duration_seconds: for which a silent holder keeps a Lease.
    """

    def __init__(self, me: str, shards: int, duration_seconds: float) -> None:
        self.me, self.shards, self.duration_seconds = me, shards, duration_seconds
        self.round_seconds = duration_seconds / ROUNDS
        self._patience_seconds = PATIENCE_ROUNDS * self.round_seconds
        self.layout = f"{shards}{_OF}{duration_seconds:g}-s"
        """Processes with another duration would keep to another time, so they have another layout."""
        self._order = sorted(range(shards), key=lambda shard: shard_of(me, str(shard), 2**32))
        """In which shards are taken: another one for each process, so that two that begin together meet seldom."""
        self._seen: dict[int, Seen] = {}
        self._since: dict[int, float] = {}
        """When a Lease was first seen as it is."""
        self._asked: dict[int, float] = {}
        """When it was last asked for, or written to."""
        self._until: dict[int, float] = {}
        self._giving: set[int] = set()
        self._ended: set[int] = set()
        self._stopped = False

    def may_act(self, shard: int, now: float) -> bool:
        """Whether this process may write for the resources of a shard at this moment."""
        held = min(self._until.get(shard, -inf), self._until.get(LAYOUT, -inf))
        return now < held and shard not in self._giving and not self._stopped

    def stop(self) -> None:
        """This process acts for nothing any more."""
        self._stopped = True

    def saw(self, found: Mapping[int, Seen], asked: float, now: float) -> None:
        """All Leases were read.

        Args:
            found: those that are there.
            asked: when the reading began.
            now: when it ended.
        """
        for slot in (LAYOUT, *range(self.shards)):
            before = self._seen.get(slot)
            # One that somebody deleted is its holder's for as long as that may think so.
            seen = found.get(slot) or replace(before or Seen(), version="")
            if before is None or _life(before) != _life(seen):
                self._since[slot] = now
                if slot == LAYOUT and before is not None and seen.holder == self.layout:
                    # Renewed by one of us after it was last asked for, when it was another.
                    self._prolong(LAYOUT, self._asked[LAYOUT])
            if seen.holder != (self.layout if slot == LAYOUT else self.me):
                self._drop(slot)
            self._seen[slot], self._asked[slot] = seen, asked

    def wrote(self, put: Put, now_seen: Seen, asked: float, now: float) -> None:
        """A write was accepted. Of one that was refused or not answered nothing is known before the next reading.

        Args:
            put: what was written.
            now_seen: the Lease after it.
            asked: when the request began.
            now: when it was answered.
        """
        if put.renews:
            self._since[put.slot] = now
        self._seen[put.slot], self._asked[put.slot] = now_seen, asked
        if put.slot == LAYOUT or put.holder == self.me:
            self._prolong(put.slot, asked)
            self._ended.discard(put.slot)
        elif not put.holder:
            self._drop(put.slot)

    def review(self, now: float) -> None:
        """Decide what is given to those who ask for it: nothing more is begun for that."""
        shares = self._shares(now)
        for shard in self._mine():
            asks = self._seen[shard].wanted_by
            if shard in self._giving or asks in ("", self.me):
                continue
            shares[asks] -= 1  # it counts as theirs already
            shares[self.me] += 1
            if shares[self.me] >= shares[asks] + 2:
                self._giving.add(shard)
                shares[asks] += 1
                shares[self.me] -= 1

    def ended(self, shard: int) -> None:
        """Nothing is under way for the resources of a shard any more."""
        self._ended.add(shard)

    def puts(self, now: float) -> list[Put]:
        """What should be written now."""
        left, shares = self._until.get(LAYOUT, -inf) - now, self._shares(now)
        may_take = self._seen[LAYOUT].holder == self.layout or self._free_since(LAYOUT, now) is not None
        layout = [Put(LAYOUT, self.layout)] if may_take and left < self.duration_seconds / 3 else []
        if left <= 0:
            return layout
        return [*layout, *self._kept(), *self._taken(shares, now), *self._wishes(shares, now)]

    def farewell(self) -> list[Put]:
        """What should be written at an end, when nothing is under way any more. The layout expires by itself."""
        return [Put(shard, "") for shard in self._mine()]

    def _kept(self) -> Iterator[Put]:
        for shard in self._mine():
            if shard not in self._giving:
                yield Put(shard, self.me)
            elif shard in self._ended:
                yield Put(shard, "", self._seen[shard].wanted_by)

    def _taken(self, shares: Counter[str], now: float) -> Iterator[Put]:
        for shard in self._order:
            seen, free_since = self._seen[shard], self._free_since(shard, now)
            if free_since is None or seen.holder == self.me:
                continue
            promised = seen.wanted_by if not seen.holder else ""
            fewest = all(share >= shares[self.me] for share in shares.values())
            if promised == self.me or (fewest and not promised) or now - free_since >= self._patience_seconds:
                yield Put(shard, self.me)
                shares[self.me] += promised != self.me

    def _wishes(self, shares: Counter[str], now: float) -> Iterator[Put]:
        for shard in self._order:
            seen = self._seen[shard]
            held = self._free_since(shard, now) is None
            largest = max(shares.values(), default=0)
            if held and not seen.wanted_by and seen.holder != self.me and shares[seen.holder] == largest:
                if largest < shares[self.me] + 2:
                    return
                yield Put(shard, seen.holder, self.me, renews=False)
                shares[seen.holder] -= 1
                shares[self.me] += 1

    def _shares(self, now: float) -> Counter[str]:
        """Shards of each process, as they are when all that is asked for or promised is given."""
        shares = Counter({self.me: 0})
        for shard in range(self.shards):
            seen, free_since = self._seen[shard], self._free_since(shard, now)
            promised = free_since is not None and not seen.holder and now - free_since < self._patience_seconds
            if free_since is None or promised or seen.holder == self.me:
                shares[seen.wanted_by or seen.holder] += 1
        del shares[""]
        return shares

    def _mine(self) -> list[int]:
        return [shard for shard in self._order if shard in self._seen and self._seen[shard].holder == self.me]

    def _free_since(self, slot: int, now: float) -> float | None:
        """Since when anybody may take a Lease; None while it is held."""
        seen = self._seen[slot]
        since = self._since[slot] + (seen.duration_seconds if seen.holder else 0.0)
        return since if now >= since else None

    def _prolong(self, slot: int, from_seconds: float) -> None:
        until = from_seconds + TENURE * self.duration_seconds
        self._until[slot] = max(self._until.get(slot, -inf), until)

    def _drop(self, shard: int) -> None:
        self._until.pop(shard, None)
        self._giving.discard(shard)
        self._ended.discard(shard)


def _life(seen: Seen) -> tuple[str, str, float]:
    """What changes with each sign of life, and not with a wish."""
    return seen.holder, seen.renewed, seen.duration_seconds
