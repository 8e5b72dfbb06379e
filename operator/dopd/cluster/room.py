"""Room for large answers, shared by all who are asked: what is held of all of them together is bounded.

Each answer has a cap of its own; with hundreds under way these add up. So an answer may be small for nothing, and to
grow beyond that it needs room for all that it may become, before it grows: none waits with half of its room for the
other half. Room is given in turns: first to whoever was not slow of late, of those to the namespace that holds the
least, of equals to whoever has waited longest. Whoever holds room and is slow to fill it loses it, and what was read,
as soon as somebody waits: a byte a second keeps nobody waiting. For threads and for the event loop alike.
"""

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from contextvars import ContextVar
from typing import Protocol

SMALL_BYTES = 2**16
"""An answer of no more needs no room. Real engines' `/v1/loads`, and most answers of Prometheus, are smaller."""
ROOM_BYTES = 32 * 2**20
"""For all answers of pods and of resources' own Prometheus together."""
HOLD_SECONDS = 0.5
"""An answer that is read for longer may lose its room: 4 MiB in that time is a slow network, and 1 MiB a bad one."""
SLOW_SECONDS = 60.0
"""Who lost room waits behind all others for so long."""

NAMESPACE: ContextVar[Hashable] = ContextVar("namespace", default=None)
"""On whose behalf something is asked, where it is not passed on."""


class Room:
    """So many bytes, for places of answers.

    Args:
        total_bytes: of all answers together.
        hold_seconds: for so long nobody loses a place.
        now: monotonic clock, seconds.
    """

    def __init__(
        self,
        total_bytes: int = ROOM_BYTES,
        hold_seconds: float = HOLD_SECONDS,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._free_bytes, self._total_bytes = total_bytes, total_bytes
        self._hold_seconds, self._now = hold_seconds, now
        self._lock = threading.RLock()
        self._waiting: list[Place] = []
        self._held: list[Place] = []
        self._slow_until: dict[Hashable, float] = {}

    def place(self, group: Hashable, size_bytes: int) -> "Place":
        """A place that is not taken yet; leave it in any case.

        Args:
            group: on whose behalf.
            size_bytes: what the answer may become.
        """
        return Place(self, group, min(size_bytes, self._total_bytes))

    def look(self) -> float:
        """Let in whoever may be; returns seconds until that is to be looked at again."""
        with self._lock:
            while self._waiting:
                place = min(self._waiting, key=self._rank())
                if not self._make_room(place.size_bytes):
                    break
                self._waiting.remove(place)
                self._free_bytes -= place.size_bytes
                place.since_seconds = self._now()
                self._held.append(place)
                place.let_in()
            ends = [held.since_seconds + self._hold_seconds for held in self._held if held.reading]
            return max(0.01, min(ends, default=1.0 + self._now()) - self._now())

    def enter(self, place: "Place") -> None:
        """A place waits to be taken."""
        with self._lock:
            self._waiting.append(place)
        self.look()

    def read(self, place: "Place") -> None:
        """A place can not be lost any more; if it has been, what it was for was dropped before this returns."""
        with self._lock:
            place.reading = False

    def leave(self, place: "Place") -> None:
        """A place is given back, or not waited for any more."""
        with self._lock:
            if place in self._waiting:
                self._waiting.remove(place)
            if place in self._held:
                self._held.remove(place)
                self._free_bytes += place.size_bytes
        self.look()

    def _rank(self) -> "Callable[[Place], tuple[bool, int]]":
        now = self._now()
        self._slow_until = {group: until for group, until in self._slow_until.items() if until > now}
        holds = Counter[Hashable]()
        for held in self._held:
            holds[held.group] += held.size_bytes
        return lambda place: (place.group in self._slow_until, holds[place.group])

    def _make_room(self, size_bytes: int) -> bool:
        """Take room from whoever has been slow, the slowest first, if that suffices."""
        now = self._now()
        slow = [held for held in self._held if held.reading and now - held.since_seconds >= self._hold_seconds]
        if self._free_bytes + sum(held.size_bytes for held in slow) < size_bytes:
            return False
        for held in sorted(slow, key=lambda held: held.since_seconds):
            if self._free_bytes >= size_bytes:
                break
            self._held.remove(held)
            self._free_bytes += held.size_bytes
            self._slow_until[held.group] = now + SLOW_SECONDS
            held.lose()
        return True


class Droppable(Protocol):
    """What a place is taken for."""

    def drop(self) -> None:
        """Hold nothing any more; called in whatever thread, when the place is lost."""


class Place:
    """A claim to room for one answer; made by `Room.place`.

    Attributes:
        reading: the answer is still being read, so that the place can be lost.
        since_seconds: when it was taken.
    """

    def __init__(self, room: Room, group: Hashable, size_bytes: int) -> None:
        self.group, self.size_bytes = group, size_bytes
        self.reading, self.since_seconds = True, 0.0
        self._room = room
        self._body: Droppable | None = None
        self._taken: threading.Event  # of one that waits; most answers are small, and never do
        self._tell: Callable[[], None] = lambda: None

    def let_in(self) -> None:
        """The place is taken: whoever waits for it goes on."""
        self._taken.set()
        self._tell()

    def lose(self) -> None:
        """The place is another's now."""
        if self._body is not None:
            self._body.drop()

    def enter_within(self, body: Droppable, seconds: float) -> bool:
        """In a thread: wait for the place; whether it came in time."""
        self._wait(body)
        end_seconds = time.monotonic() + seconds
        while not self._taken.is_set() and (left := end_seconds - time.monotonic()) > 0:
            self._taken.wait(min(left, self._room.look()))
        return self._taken.is_set()

    async def enter(self, body: Droppable) -> None:
        """On an event loop: wait for the place."""
        loop = asyncio.get_running_loop()
        taken = asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                loop.call_soon_threadsafe(taken.set)

        self._tell = tell
        self._wait(body)
        while not self._taken.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._room.look()):
                    await taken.wait()

    def read(self) -> None:
        """The answer is whole: what is left to be done takes no time of others, so the place is safe from now on."""
        if self._body is not None:
            self._room.read(self)

    def leave(self) -> None:
        """Nothing of the answer is held any more, or it never needed the place."""
        if self._body is not None:
            self._room.leave(self)

    def _wait(self, body: Droppable) -> None:
        self._body, self._taken = body, threading.Event()
        self._room.enter(self)
