"""One active operator: a coordination.k8s.io Lease.

`kubernetes.aio.leaderelection` 37.0 lets a request hang for five minutes and dies of a refused connection, so a
stalled leader would go on acting beside the next. Here every request is bounded, the leader stops itself when it could
not renew in time, and a clean stop gives the Lease away.

As in client-go, expiry is judged by how long the record was *seen* unchanged on the local monotonic clock, never by
comparing clocks of two machines.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from dopd.cluster import kinds, lease
from dopd.cluster.client import ApiError, Json, Kubernetes

_LOG = logging.getLogger(__name__)


class LeaseLost(Exception):
    """The Lease could not be renewed in time; what ran under it was cancelled."""


class Election:
    """A candidate for one Lease."""

    def __init__(
        self, kubernetes: Kubernetes, *, name: str, namespace: str, identity: str, duration_seconds: float = 15.0
    ) -> None:
        self._kubernetes = kubernetes
        self._name, self._namespace, self._identity = name, namespace, identity
        self._duration = duration_seconds
        self._retry = duration_seconds / 7.5
        self._seen: tuple[Any, float] = (None, 0.0)

    async def run(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Wait for the Lease and run `work` under it until it ends.

        Raises:
            LeaseLost: the Lease could not be renewed; `work` was cancelled before anyone else could hold it.
        """
        while not await self._try():  # noqa: ASYNC110 (polls a server)
            await asyncio.sleep(self._retry)
        _LOG.info("acting: %s holds lease %s/%s", self._identity, self._namespace, self._name)
        tasks = [asyncio.create_task(work()), asyncio.create_task(self._renew())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            done.pop().result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self.release()

    async def _renew(self) -> None:
        renewed = time.monotonic()
        while True:
            await asyncio.sleep(self._retry)
            started = time.monotonic()
            if await self._try():
                renewed = started
            elif time.monotonic() - renewed > self._duration * 2 / 3:
                raise LeaseLost(f"lease {self._namespace}/{self._name} not renewed for {self._duration * 2 / 3:.0f} s")

    async def _try(self) -> bool:
        """Take or renew the Lease; whether it is ours now."""
        try:
            async with asyncio.timeout(self._retry * 2):
                return await self._take()
        except (ApiError, TimeoutError) as error:
            _LOG.warning("lease %s/%s: %s", self._namespace, self._name, error or "no answer in time")
            return False

    async def _take(self) -> bool:
        found = await self._kubernetes.get(kinds.LEASE, self._namespace, self._name)
        if found is None:
            await self._kubernetes.create(kinds.LEASE, self._record(None, self._identity))
            return True
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity:
            if spec != self._seen[0]:
                self._seen = (spec, time.monotonic())
            if time.monotonic() - self._seen[1] < spec.get("leaseDurationSeconds", self._duration):
                return False
        await self._replace(self._record(found, self._identity))
        return True

    async def release(self) -> None:
        """Give the Lease away, if it is held."""
        try:
            async with asyncio.timeout(self._retry):
                found = await self._kubernetes.get(kinds.LEASE, self._namespace, self._name)
                if found and found.get("spec", {}).get("holderIdentity") == self._identity:
                    await self._replace(self._record(found, ""))
        except (ApiError, TimeoutError) as error:
            _LOG.warning("lease not given away, it expires by itself: %s", error)

    async def _replace(self, changed: Json) -> None:
        # A full update with the resourceVersion that was read: of two candidates only one can win.
        await self._kubernetes.request("PUT", kinds.LEASE.path(self._namespace, self._name), body=changed)

    def _record(self, old: Json | None, holder: str) -> Json:
        return lease.body(
            old, name=self._name, namespace=self._namespace, holder=holder, duration_seconds=self._duration
        )
