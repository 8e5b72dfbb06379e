"""Sharing what is scarce (connections, places for passes) so that nobody's slowness costs the others anything."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

Asker = tuple[Hashable, Hashable]
"""(group, member): a namespace and a resource in it, say."""


class FairGate:
    """Lets so many through at a time in all, and so many of each asker.

    Of those that wait, the next is of the group that has the fewest under way, in it of the asker that has the fewest.
    So whoever fills the gate with what hangs waits behind everybody else, however many askers it sends.

    Args:
        total: through the gate at a time.
        each: of one asker.
        own: a group that has fewer than these under way never waits, whatever others do; they count beyond the total.
    """

    def __init__(self, total: int, each: int, own: int = 0) -> None:
        self._free, self._each, self._own = total, each, own
        self._of_group: Counter[Hashable] = Counter()
        self._of_asker: Counter[Hashable] = Counter()
        self._waiting: dict[Asker, deque[asyncio.Future[None]]] = {}

    @asynccontextmanager
    async def of(self, asker: Asker) -> AsyncIterator[None]:
        """Hold a place while the block runs."""
        await self.enter(asker)
        try:
            yield
        finally:
            self.leave(asker)

    async def enter(self, asker: Asker) -> None:
        """Wait for a place; it is held until `leave`."""
        if asker not in self._waiting and self._may(asker):
            self._count_up(asker)
            return
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asker, deque()).append(place)
        try:
            await place
        except asyncio.CancelledError:
            if not place.cancelled():
                self.leave(asker)
            raise

    def leave(self, asker: Asker) -> None:
        """Give a place back."""
        self._free += 1
        _count_down(self._of_group, asker[0])
        _count_down(self._of_asker, asker)
        self._let_in()

    def _may(self, asker: Asker) -> bool:
        of_group = self._of_group[asker[0]]
        return self._of_asker[asker] < self._each and (self._free > 0 or of_group < self._own)

    def _count_up(self, asker: Asker) -> None:
        self._free -= 1
        self._of_group[asker[0]] += 1
        self._of_asker[asker] += 1

    def _let_in(self) -> None:
        while able := [asker for asker in self._waiting if self._may(asker)]:
            # Of equals the one that has waited longest: the order of the dictionary.
            asker = min(able, key=lambda one: (self._of_group[one[0]], self._of_asker[one]))
            place = self._next_of(asker)
            if not place.cancelled():  # by whoever waited for it
                self._count_up(asker)
                place.set_result(None)

    def _next_of(self, asker: Asker) -> asyncio.Future[None]:
        places = self._waiting.pop(asker)
        place = places.popleft()
        if places:  # behind the others that wait
            self._waiting[asker] = places
        return place


def _count_down(counter: Counter[Hashable], key: Hashable) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
