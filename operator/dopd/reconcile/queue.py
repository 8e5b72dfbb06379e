"""Which resource is looked at next.

A key stands in the queue once, however many events name it. A key that is being worked on and named again is worked on
once more afterwards, so no event is lost and no resource is handled twice at a time. Between two passes over a key
there is a short rest, whoever names it: a resource that changes without end costs the others little.
"""

import asyncio
from collections.abc import Hashable
from typing import NamedTuple

REST_SECONDS = 0.1
REST_AFTER_FAILURE_SECONDS = 1.0
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 1.0, 15.0


class Key(NamedTuple):
    """A DisaggregatedInference."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class KeyQueue:
    """A queue of keys with due times, on the event loop's clock."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._working: set[Key] = set()
        self._resting: dict[Key, float] = {}
        self._changed = asyncio.Event()

    def add(self, key: Key, delay_seconds: float = 0.0) -> None:
        """Make a key due after a delay; an earlier due time stands."""
        due = asyncio.get_running_loop().time() + delay_seconds
        if due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._changed.set()

    def add_namespace(self, namespace: str) -> None:
        """Make every key of a namespace due that stands in the queue or is being worked on."""
        for key in [key for key in {*self._due, *self._working} if key.namespace == namespace]:
            self.add(key)

    async def take(self) -> Key:
        """Wait for a key that is due and not being worked on; it is the caller's until `done`."""
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            self._resting = {key: until for key, until in self._resting.items() if until > now}
            free = [
                (max(due, self._resting.get(key, due)), key)
                for key, due in self._due.items()
                if key not in self._working
            ]
            due, key = min(free, default=(float("inf"), None))
            if key is not None and due <= loop.time():
                del self._due[key]
                self._working.add(key)
                return key
            self._changed.clear()
            try:
                async with asyncio.timeout(None if key is None else due - loop.time()):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key, rest_seconds: float = REST_SECONDS) -> None:
        """Give a key back; it is not taken again before it has rested."""
        self._working.discard(key)
        self._resting[key] = asyncio.get_running_loop().time() + rest_seconds
        self._changed.set()

    def __len__(self) -> int:
        return len(self._due)


class Pace:
    """How soon a resource that is not as it should be is looked at again: less often while nothing changes.

    What a look waits for mostly comes as an event; the gateway and the engines send none.
    """

    def __init__(self) -> None:
        self._seen: dict[Key, tuple[Hashable, float]] = {}

    def pause_seconds(self, key: Key, state: Hashable) -> float:
        """Pause before the next look.

        Args:
            key: of the resource.
            state: what this look saw; while it is the same, pauses grow.
        """
        before, pause = self._seen.get(key, (None, 0.0))
        same = key in self._seen and before == state
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS) if same else FIRST_PAUSE_SECONDS
        self._seen[key] = (state, pause)
        return pause

    def forget(self, key: Key) -> None:
        """Begin anew: it is as it should be, or gone."""
        self._seen.pop(key, None)
