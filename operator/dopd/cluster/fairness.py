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
    """

    def __init__(self, total: int, each: int) -> None:
        self._free, self._each = total, each
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
        place = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(asker, deque()).append(place)
        self._let_in()
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

    def _let_in(self) -> None:
        while self._free > 0:
            able = [asker for asker in self._waiting if self._of_asker[asker] < self._each]
            if not able:
                return
            # Of equals the one that has waited longest: the order of the dictionary.
            asker = min(able, key=lambda one: (self._of_group[one[0]], self._of_asker[one]))
            place = self._next_of(asker)
            if place.cancelled():  # whoever waited for it has given up
                continue
            self._free -= 1
            self._of_group[asker[0]] += 1
            self._of_asker[asker] += 1
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
