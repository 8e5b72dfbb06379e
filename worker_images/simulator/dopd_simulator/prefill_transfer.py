"""Prefill's side of the hand-over: a port that decode engines announce their rooms to, and the sending of bytes."""

import asyncio
import json
from collections.abc import Callable

from dopd_simulator.bootstrap import PrefillRank
from dopd_simulator.clock import Clock
from dopd_simulator.options import Timeouts
from dopd_simulator.transfer import TransferError, write_message

_BLANK = memoryview(bytes(1 << 20))


class _Room:
    """Prefill's side of one hand-over."""

    def __init__(self) -> None:
        self.destination: asyncio.StreamWriter | None = None
        self.announced = asyncio.Event()
        self.has_request = False


class PrefillTransfer:
    """Sends KV cache to decode engines. Lives as long as the engine is in the prefill role.

    Args:
        on_abort: called with a room that decode has given up.
    """

    def __init__(self, clock: Clock, timeouts: Timeouts, on_abort: Callable[[int], None]) -> None:
        self._clock = clock
        self._timeouts = timeouts
        self._on_abort = on_abort
        self._rooms: dict[int, _Room] = {}
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self, host: str, advertised_host: str | None) -> PrefillRank:
        """Listen on a free port; a new one for each turn in the role."""
        self._server = await asyncio.start_server(self._serve, host, 0)
        return PrefillRank(advertised_host, self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Close the port and all connections."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def destination(self, room: int) -> None:
        """Wait until decode has announced where the KV cache of a room goes.

        Raises:
            TransferError: it did not in time.
        """
        known = self._rooms.setdefault(room, _Room())
        known.has_request = True
        limit = self._timeouts.bootstrap_seconds
        try:
            async with asyncio.timeout(self._clock.wall(limit)):
                await known.announced.wait()
        except TimeoutError:
            reason = f"Request {room} timed out after {limit:.1f}s in KVPoll.Bootstrapping"
            raise TransferError(room, reason) from None

    async def send(self, room: int, size: int) -> None:
        """Send the KV cache of a room.

        Raises:
            TransferError: decode is gone.
        """
        writer = self._rooms[room].destination
        assert writer is not None  # destination() came first
        try:
            if writer.is_closing():
                raise ConnectionResetError
            write_message(writer, {"room": room, "bytes": size})
            while size > 0:
                writer.write(_BLANK[:size])
                size -= len(_BLANK)
            await writer.drain()
        except (ConnectionError, RuntimeError):
            peer = writer.get_extra_info("peername")
            reason = f"Decode instance could be dead, remote mooncake session {peer[0]}:{peer[1]} is not alive"
            raise TransferError(room, reason) from None

    def fail(self, room: int, reason: str) -> None:
        """Tell decode, if it is known, that nothing will come."""
        known = self._rooms.get(room)
        if known is not None and known.destination is not None and not known.destination.is_closing():
            write_message(known.destination, {"room": room, "failed": reason})

    def close(self, room: int) -> None:
        """Forget a room."""
        self._rooms.pop(room, None)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while line := await reader.readline():
                message = json.loads(line)
                room = int(message["room"])
                if message.get("abort"):
                    self._on_abort(room)
                    self.close(room)
                    write_message(writer, {"room": room, "aborted": True})
                    continue
                known = self._rooms.setdefault(room, _Room())
                known.destination = writer
                known.announced.set()
        except ConnectionError:
            pass
        finally:
            self._writers.discard(writer)
            self._rooms = {
                room: known
                for room, known in self._rooms.items()
                if known.has_request or known.destination is not writer
            }
            writer.close()
