"""Shards of this process: the Leases are read and written here, as `shares` says; what it holds is told to others."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from dopd.api.base import GROUP
from dopd.cluster import kinds, lease
from dopd.cluster.client import ApiError, Kubernetes
from dopd.cluster.shares import LAYOUT, Candidate, Put, Seen

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
OF_LABEL = f"{GROUP}/shards-of"
"""On the Lease of each shard: name of the Lease that stands over all."""
WANTED_BY = f"{GROUP}/wanted-by"
"""On the Lease of a shard: who asks its holder for it, or whom it was given to."""


def shard_lease(name: str, shard: int) -> str:
    """Name of the Lease of a shard.

    Args:
        name: of the Lease that stands over all.
        shard: its number.
    """
    return f"{name}-shard-{shard}"


class Shards:
    """Takes a share of the shards, and keeps it.

    Args:
        kubernetes: where the Leases are.
        name: of the Lease over all; those of shards begin with it.
        namespace: of the Leases.
        candidate: decides.
        gained: told of each shard for which this process acts from now on.
        lost: told of each for which it does so no more; ends what is under way for it, and returns then.
    """

    def __init__(
        self,
        kubernetes: Kubernetes,
        *,
        name: str,
        namespace: str,
        candidate: Candidate,
        gained: Callable[[int], None],
        lost: Callable[[int], Awaitable[None]],
    ) -> None:
        self._kubernetes, self._candidate = kubernetes, candidate
        self._name, self._namespace = name, namespace
        self._gained, self._lost = gained, lost
        self._leases: dict[int, Json] = {}
        self._acting: set[int] = set()
        self._changing = asyncio.Lock()

    @property
    def acting(self) -> frozenset[int]:
        """Shards for which `gained` was told last, and not `lost`."""
        return frozenset(self._acting)

    def holds(self, shard: int) -> bool:
        """Whether this process may write for the resources of a shard at this moment."""
        return self._candidate.may_act(shard, time.monotonic())

    async def run(self) -> None:
        """Take and keep shards until this is cancelled; what is held then is given away."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look())
                group.create_task(self._mind())
        finally:
            self._candidate.stop()
            await self._settle()
            await self.release()

    async def release(self) -> None:
        """Give away what is held, as it is now: a renewal may have been cut short, and been done all the same."""
        try:
            async with asyncio.timeout(self._candidate.round_seconds):
                await self._read()
                await asyncio.gather(*map(self._put, self._candidate.farewell()))
        except (ApiError, TimeoutError) as error:
            _LOG.warning("shards not given away, their Leases expire by themselves: %s", error or "no answer in time")

    async def _look(self) -> None:
        while True:
            try:
                await self._round()
            except (ApiError, TimeoutError) as error:
                _LOG.warning("leases of %s/%s: %s", self._namespace, self._name, error or "no answer in time")
            await self._settle()
            await asyncio.sleep(self._candidate.round_seconds)

    async def _mind(self) -> None:
        """End what is under way for a shard whose Lease could not be renewed, while a request for that hangs too."""
        while True:
            await asyncio.sleep(self._candidate.round_seconds / 2)
            await self._settle()

    async def _read(self) -> None:
        asked = time.monotonic()
        async with asyncio.timeout(self._candidate.round_seconds * 2):
            over_all, listed = await asyncio.gather(
                self._kubernetes.get(kinds.LEASE, self._namespace, self._name),
                self._kubernetes.list(kinds.LEASE, self._namespace, f"{OF_LABEL}={self._name}"),
            )
        by_name = {one["metadata"]["name"]: one for one in listed}
        named = {shard: by_name.get(shard_lease(self._name, shard)) for shard in range(self._candidate.shards)}
        self._leases = {slot: one for slot, one in {LAYOUT: over_all, **named}.items() if one is not None}
        found = {slot: _seen(one) for slot, one in self._leases.items()}
        self._candidate.saw(found, asked, time.monotonic())

    async def _round(self) -> None:
        await self._read()
        self._candidate.review(time.monotonic())
        await self._settle()
        puts = self._candidate.puts(time.monotonic())
        await asyncio.gather(*map(self._put, puts))
        if any(put.slot == LAYOUT for put in puts):  # only now may shards be taken
            more = [put for put in self._candidate.puts(time.monotonic()) if put.slot not in {one.slot for one in puts}]
            await asyncio.gather(*map(self._put, more))

    async def _put(self, put: Put) -> None:
        old, asked = self._leases.get(put.slot), time.monotonic()
        try:
            async with asyncio.timeout(self._candidate.round_seconds * 2):
                written = await self._write(put, old)
        except (ApiError, TimeoutError) as error:  # another one was first, or nobody answers: the next look tells
            _LOG.info("lease %s: %s", self._lease_name(put.slot), error or "no answer in time")
            return
        self._leases[put.slot] = written
        self._candidate.wrote(put, _seen(written), asked, time.monotonic())

    async def _write(self, put: Put, old: Json | None) -> Json:
        shared: Json = {} if put.slot == LAYOUT else {"labels": {OF_LABEL: self._name}}
        if put.wanted_by:
            shared["annotations"] = {WANTED_BY: put.wanted_by}
        body = lease.body(
            old,
            name=self._lease_name(put.slot),
            namespace=self._namespace,
            holder=put.holder,
            duration_seconds=self._candidate.duration_seconds,
            **shared,
        )
        if old is None:
            return await self._kubernetes.create(kinds.LEASE, body)
        if not put.renews:
            body["spec"] = old["spec"]
        return await self._kubernetes.request(
            "PUT", kinds.LEASE.path(self._namespace, body["metadata"]["name"]), body=body
        )

    async def _settle(self) -> None:
        """Tell of what was gained and lost since the last time."""
        async with self._changing:
            for shard in range(self._candidate.shards):
                if shard in self._acting and not self.holds(shard):
                    self._acting.discard(shard)
                    _LOG.info("shard %d of %s: not ours any more", shard, self._name)
                    await self._lost(shard)
                if shard not in self._acting and self.holds(shard):
                    self._acting.add(shard)
                    _LOG.info("shard %d of %s: %s acts", shard, self._name, self._candidate.me)
                    self._gained(shard)
                elif shard not in self._acting:
                    self._candidate.ended(shard)

    def _lease_name(self, slot: int) -> str:
        return self._name if slot == LAYOUT else shard_lease(self._name, slot)


def _seen(found: Json) -> Seen:
    """A Lease as it was read. One that somebody else wrote in another form is held by nobody."""
    spec, annotations = found.get("spec") or {}, found["metadata"].get("annotations") or {}
    return Seen(
        holder=spec.get("holderIdentity") or "",
        wanted_by=annotations.get(WANTED_BY, ""),
        renewed=str(spec.get("renewTime", "")),
        duration_seconds=float(spec.get("leaseDurationSeconds", 0)),
        version=found["metadata"]["resourceVersion"],
    )
