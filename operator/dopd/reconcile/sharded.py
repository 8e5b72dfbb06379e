"""One of several instances that act at once, each for the resources of the shards whose Leases it holds.

All of them watch all resources, and keep the keys of others in the queue: so one that gains a shard knows at once what
is in it. What is remembered of a resource is forgotten with its shard; a pass begins from what is there.
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from dopd.cluster.shards import Shards
from dopd.cluster.shares import Candidate, shard_of
from dopd.reconcile import metrics
from dopd.reconcile.passes import Passes
from dopd.reconcile.queue import Key, KeyQueue
from dopd.reconcile.reconciler import Reconciler

_ONCE_FOR_ALL = 0
"""Who holds this shard does what one instance has to do for all."""


class Sharded:
    """Passes over the resources of the shards that this process holds.

    Args:
        reconciler: does a pass.
        queue: says which resource is due.
        candidate: decides which shards are ours.
        name: of the Lease over all.
        namespace: of the Leases.
        check: looks at what concerns all resources, for ever; run by one instance.
    """

    def __init__(
        self,
        reconciler: Reconciler,
        queue: KeyQueue,
        candidate: Candidate,
        name: str,
        namespace: str,
        check: Callable[[], Coroutine[Any, Any, None]],
    ) -> None:
        self._shards = Shards(
            reconciler.kubernetes,
            name=name,
            namespace=namespace,
            candidate=candidate,
            gained=self._gained,
            lost=self._lost,
        )
        self._count, self._queue, self._check = candidate.shards, queue, check
        self._passes = Passes(reconciler, queue, self._mine)
        self._checking: asyncio.Task[None] | None = None
        queue.mine = self._mine

    async def run(self) -> None:
        """Act for what is held until this is cancelled; then all of it is given away."""
        passing = asyncio.create_task(self._passes.run())
        holding = asyncio.create_task(self._shards.run())
        try:
            done, _ = await asyncio.wait((passing, holding), return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in (holding, passing):  # in this order: what is under way ends before its Lease is given away
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def release(self) -> None:
        """Give away what is held, where the end of `run` was cut short."""
        await self._shards.release()

    def _mine(self, key: Key) -> bool:
        return self._shards.holds(self._shard(key))

    def _shard(self, key: Key) -> int:
        return shard_of(key.namespace, key.name, self._count)

    def _gained(self, shard: int) -> None:
        metrics.LEADER.set(1)
        metrics.SHARD_HELD.labels(shard).set(1)
        if shard == _ONCE_FOR_ALL:
            self._checking = asyncio.create_task(self._check())
        self._queue.look_again()

    async def _lost(self, shard: int) -> None:
        metrics.LEADER.set(bool(self._shards.acting))
        metrics.SHARD_HELD.labels(shard).set(0)
        if shard == _ONCE_FOR_ALL and self._checking:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self._passes.leave(lambda key: self._shard(key) == shard)
