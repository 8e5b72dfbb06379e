"""Which resource is looked at next.

A key stands in the queue once, however many events name it. A key that is being worked on and named again is worked on
once more afterwards, so no event is lost and no resource is handled twice at a time. Between two passes over a key
there is a short rest, whoever names it: a resource that changes without end costs the others little.
"""

import asyncio
import heapq
from collections.abc import Callable
from typing import NamedTuple

REST_SECONDS = 0.1
REST_AFTER_FAILURE_SECONDS = 1.0


class Key(NamedTuple):
    """A DisaggregatedInference."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class KeyQueue:
    """A queue of keys with due times, on the event loop's clock.

    Attributes:
        mine: whether a key may be taken here. One that may not stays in the queue, until `look_again`.
    """

    def __init__(self) -> None:
        self.mine: Callable[[Key], bool] = lambda _: True
        self._due: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._resting: dict[Key, float] = {}
        self._order: list[tuple[float, Key]] = []
        """A heap of keys by the time at which they may be taken; what is not so any more stays until its turn."""
        self._changed = asyncio.Event()

    def add(self, key: Key, delay_seconds: float = 0.0) -> None:
        """Make a key due after a delay; an earlier due time stands."""
        due = asyncio.get_running_loop().time() + delay_seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._line_up(key)

    def of_namespace(self, namespace: str) -> list[Key]:
        """Every key of a namespace that stands in the queue or is being worked on."""
        return [key for key in {*self._due, *self._working} if key.namespace == namespace]

    def look_again(self) -> None:
        """What is `mine` has changed: keys that were passed over may be taken now."""
        for key in self._due:
            self._line_up(key)

    async def take(self) -> Key:
        """Wait for a key that is due and not being worked on; it is the caller's until `done`."""
        loop = asyncio.get_running_loop()
        while True:
            self._drop_stale()
            at, key = self._order[0] if self._order else (float("inf"), None)
            if key is not None and at <= loop.time():
                heapq.heappop(self._order)
                del self._due[key]
                self._resting.pop(key, None)
                self._working.add(key)
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(None if key is None else at - loop.time()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, rest_seconds: float = REST_SECONDS) -> None:
        """Give a key back; it is not taken again before it has rested."""
        loop = asyncio.get_running_loop()
        self._working.discard(key)
        self._resting[key] = loop.time() + rest_seconds
        if key in self._due:
            self._line_up(key)
        else:
            loop.call_later(rest_seconds, self._rested, key)

    def _rested(self, key: Key) -> None:
        if self._resting.get(key, float("inf")) <= asyncio.get_running_loop().time() and key not in self._due:
            del self._resting[key]

    def _may_be_taken_at(self, key: Key) -> float:
        return max(self._due[key], self._resting.get(key, 0.0))

    def _line_up(self, key: Key) -> None:
        if not self.mine(key):
            return
        heapq.heappush(self._order, (self._may_be_taken_at(key), key))
        self._changed.set()

    def _drop_stale(self) -> None:
        """Entries at the head of keys that are taken, that somebody works on, or that have another time by now."""
        while self._order:
            at, key = self._order[0]
            known = key in self._due and key not in self._working and self.mine(key)
            if known and at == self._may_be_taken_at(key):
                return
            heapq.heappop(self._order)

    def __len__(self) -> int:
        return len(self._due)
