"""Places for passes: so many work at a time, and one that waits for what a tenant runs takes none.

A pass waits for the engines, the gateway and the Prometheus of one resource for as long as they like to take, within
their limits. If it held a place meanwhile, a few resources whose engines hang would hold them all.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

from dopd.cluster.fairness import FairGate
from dopd.reconcile.queue import Key

PLACES = 8

_HELD: ContextVar["_Held | None"] = ContextVar("place", default=None)


class _Held:
    """The place of one pass."""

    def __init__(self, gate: FairGate, key: Key) -> None:
        self._gate, self._asker = gate, (key.namespace, key.name)
        self._inside = False

    async def enter(self) -> None:
        await self._gate.enter(self._asker)
        self._inside = True

    def leave(self) -> None:
        if self._inside:
            self._inside = False
            self._gate.leave(self._asker)


class Places:
    """Places of one process; of those that wait, namespaces and resources have their turns."""

    def __init__(self, places: int = PLACES) -> None:
        self._gate = FairGate(places, 1)

    @asynccontextmanager
    async def of(self, key: Key) -> AsyncIterator[None]:
        """Hold a place while the block runs, but for what it does `outside`."""
        held = _Held(self._gate, key)
        token = _HELD.set(held)
        try:
            await held.enter()
            yield
        finally:
            held.leave()
            _HELD.reset(token)


@asynccontextmanager
async def outside() -> AsyncIterator[None]:
    """Wait for what belongs to a tenant; the place of this pass is another's meanwhile."""
    held = _HELD.get()
    if held is None:
        yield
        return
    held.leave()
    try:
        yield
    finally:
        await held.enter()
