"""Decode's side of the hand-over: finding prefill engines, remembering them, and waiting for their bytes."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

import aiohttp

from dopd_simulator.bootstrap import PrefillRank
from dopd_simulator.clock import Clock
from dopd_simulator.options import Timeouts
from dopd_simulator.request import Rendezvous
from dopd_simulator.transfer import TransferError, write_message

log = logging.getLogger(__name__)

INFO_ATTEMPTS = 15
INFO_RETRY_SECONDS = 1.0
RELEASE_TIMEOUT_SECONDS = 30.0
"""Decode keeps the KV cache of a failed transfer that long when prefill does not confirm that it stopped writing."""

_HTTP_TIMEOUT = aiohttp.ClientTimeout(total=5)
_RECONNECT_WALL_SECONDS = 0.2


class _Arriving:
    """Decode's side of one hand-over."""

    def __init__(self) -> None:
        self.arrival: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.rank: PrefillRank | None = None
        self.acknowledged = asyncio.Event()


class DecodeTransfer:
    """Receives KV cache from prefill engines. Lives as long as the engine is in the decode role.

    What it learns of a prefill engine it keeps under the bootstrap address and drops only when that address fails its
    heartbeats, or when a transfer from there timed out, as SGLang does. A prefill engine that has changed its port
    behind the same bootstrap address (a second turn in the role after a switch) is therefore not found: its transfers
    hang until they time out. `stale_rank_cache=False` asks anew for each request and so cures it.
    """

    def __init__(self, clock: Clock, timeouts: Timeouts, *, stale_rank_cache: bool) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._stale_rank_cache = stale_rank_cache
        self._known: set[str] = set()
        self._ranks: dict[str, PrefillRank] = {}
        self._links: dict[PrefillRank, _Link] = {}
        self._rooms: dict[int, _Arriving] = {}
        self._rooms_by_address: dict[str, set[int]] = {}
        self._failures: dict[str, int] = {}
        self._http: aiohttp.ClientSession | None = None
        self._heartbeat: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the heartbeats."""
        self._http = aiohttp.ClientSession(timeout=_HTTP_TIMEOUT)
        self._heartbeat = asyncio.create_task(self._beat())

    async def stop(self) -> None:
        """Close everything and forget all peers."""
        if self._heartbeat is not None:
            self._heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._heartbeat
        for link in self._links.values():
            await link.close()
        if self._http is not None:
            await self._http.close()

    async def handshake(self, rendezvous: Rendezvous) -> None:
        """Find the prefill engine of a room.

        Raises:
            TransferError: its bootstrap server does not answer or has nothing to tell.
        """
        address, room = rendezvous.address, rendezvous.room
        self._rooms_by_address.setdefault(address, set()).add(room)
        arriving = self._rooms[room] = _Arriving()
        attempts = 0
        while address not in self._known:
            if await self._route(address, -1) is not None:
                self._known.add(address)
                break
            attempts += 1
            if attempts >= INFO_ATTEMPTS:
                log.error("Could not fetch prefill parallel info from %s after %d attempts", address, attempts)
                raise TransferError(room, "Aborted by AbortReq.")
            await self._clock.sleep(INFO_RETRY_SECONDS)
        if address not in self._ranks or not self._stale_rank_cache:
            found = await self._route(address, 0)
            if found is None:
                reason = (
                    "Could not fetch bootstrap info for: prefill_dp_rank: 0 prefill_cp_rank: 0 "
                    "target_tp_rank: 0 and target_pp_rank 0"
                )
                raise TransferError(room, reason)
            self._ranks[address] = PrefillRank(found["rank_ip"], int(found["rank_port"]))
        arriving.rank = self._ranks[address]

    async def receive(self, rendezvous: Rendezvous, tokens: int) -> None:
        """Announce the destination of a room and wait until its bytes have come.

        Raises:
            TransferError: prefill failed, died, or did not send in time.
        """
        address, room = rendezvous.address, rendezvous.room
        arriving = self._rooms[room]
        assert arriving.rank is not None  # handshake() came first
        self._link(arriving.rank).send({"room": room, "tokens": tokens})
        limit = self._timeouts.waiting_seconds
        try:
            async with asyncio.timeout(self._clock.wall(limit)):
                await arriving.arrival
        except TimeoutError:
            self._ranks.pop(address, None)
            reason = f"Request {room} timed out after {limit:.1f}s in KVPoll.WaitingForInput"
            raise TransferError(room, reason) from None

    def notify_abort(self, rendezvous: Rendezvous) -> None:
        """Tell prefill, if it is known, that a room is given up."""
        arriving = self._rooms.get(rendezvous.room)
        if arriving is not None and arriving.rank is not None:
            self._link(arriving.rank).send({"room": rendezvous.room, "abort": True})

    async def drained(self, rendezvous: Rendezvous) -> None:
        """Wait until prefill confirms an abort, or the release time-out has passed."""
        arriving = self._rooms.get(rendezvous.room)
        if arriving is not None and arriving.rank is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._clock.wall(RELEASE_TIMEOUT_SECONDS)):
                    await arriving.acknowledged.wait()

    def close(self, rendezvous: Rendezvous) -> None:
        """Forget a room."""
        arriving = self._rooms.pop(rendezvous.room, None)
        if arriving is not None and not arriving.arrival.cancel() and not arriving.arrival.cancelled():
            arriving.arrival.exception()  # heard by nobody any more
        self._rooms_by_address.get(rendezvous.address, set()).discard(rendezvous.room)

    def _link(self, rank: PrefillRank) -> "_Link":
        if rank not in self._links:
            self._links[rank] = _Link(rank, self._hear)
        return self._links[rank]

    def _hear(self, message: dict[str, Any]) -> None:
        room = int(message["room"])
        arriving = self._rooms.get(room)
        if arriving is None:
            return
        if "aborted" in message:
            arriving.acknowledged.set()
        elif arriving.arrival.done():
            return
        elif "failed" in message:
            arriving.arrival.set_exception(TransferError(room, message["failed"]))
        else:
            arriving.arrival.set_result(None)

    async def _route(self, address: str, rank: int) -> dict[str, Any] | None:
        assert self._http is not None  # start() came first
        names = ("prefill_dp_rank", "prefill_cp_rank", "target_tp_rank", "target_pp_rank")
        try:
            async with self._http.get(f"http://{address}/route", params=dict.fromkeys(names, str(rank))) as answer:
                if answer.status == 200:
                    found: dict[str, Any] = await answer.json()
                    return found
                log.error("Failed to get prefill server info: %d, %s", answer.status, await answer.text())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.error("Error fetching prefill server info from bootstrap %s: %s", address, error)
        return None

    async def _beat(self) -> None:
        assert self._http is not None  # start() came first
        while True:
            await self._clock.sleep(self._timeouts.heartbeat_seconds)
            for address in list(self._known):
                try:
                    async with self._http.get(f"http://{address}/health") as answer:
                        healthy = answer.status == 200
                except (aiohttp.ClientError, TimeoutError, OSError):
                    healthy = False
                self._failures[address] = 0 if healthy else self._failures.get(address, 0) + 1
                if self._failures[address] >= self._timeouts.heartbeat_failures:
                    await self._lose(address)

    async def _lose(self, address: str) -> None:
        self._known.discard(address)
        self._failures.pop(address, None)
        rank = self._ranks.pop(address, None)
        if rank is not None and rank in self._links:
            await self._links.pop(rank).close()
        affected = 0
        for room in self._rooms_by_address.get(address, set()):
            arriving = self._rooms.get(room)
            if arriving is not None and not arriving.arrival.done():
                reason = f"Lost connection with prefill instance (bootstrap_addr: {address})"
                arriving.arrival.set_exception(TransferError(room, reason))
                affected += 1
        log.error("Lost connection with prefill instance (bootstrap_addr: %s), %d requests affected", address, affected)


class _Link:
    """A connection to one prefill engine that comes back by itself, silently, as a ZeroMQ socket does."""

    def __init__(self, rank: PrefillRank, hear: Callable[[dict[str, Any]], None]) -> None:
        self._rank = rank
        self._hear = hear
        self._unsent: list[dict[str, Any]] = []
        self._writer: asyncio.StreamWriter | None = None
        self._task = asyncio.create_task(self._run())

    def send(self, message: dict[str, Any]) -> None:
        """Send now, or when the other side can be reached."""
        if self._writer is not None and not self._writer.is_closing():
            write_message(self._writer, message)
        else:
            self._unsent.append(message)

    async def close(self) -> None:
        """Hang up for good."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _run(self) -> None:
        while True:
            try:
                reader, self._writer = await asyncio.open_connection(self._rank.host, self._rank.port)
            except OSError:
                await asyncio.sleep(_RECONNECT_WALL_SECONDS)
                continue
            try:
                unsent, self._unsent = self._unsent, []
                for message in unsent:
                    write_message(self._writer, message)
                while line := await reader.readline():
                    heard = json.loads(line)
                    if "bytes" in heard:
                        await _discard(reader, int(heard["bytes"]))
                    self._hear(heard)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass
            finally:
                self._writer.close()


async def _discard(reader: asyncio.StreamReader, size: int) -> None:
    while size > 0:
        size -= len(await reader.readexactly(min(size, 1 << 16)))
