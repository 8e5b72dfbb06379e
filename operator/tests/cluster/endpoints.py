"""Endpoints on loopback that talk raw HTTP, as badly as they are told to."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def endpoint(talk: Talk) -> AsyncIterator[int]:
    """Port of an endpoint that runs; `talk` is called for each connection, once the request is there."""
    tasks: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        tasks.add(task)
        try:
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        # Whoever is let in as a server closes has a transport that nobody closes: let nobody in before that.
        for listening in server.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        await asyncio.sleep(0.01)
        server.close()
        await ended(tasks)


async def ended(tasks: set[asyncio.Task[None]]) -> None:
    """End what talks, also to those that were let in a moment ago; transports close in the turns of the loop after."""
    for _ in range(3):
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)


def answer(body: bytes, status: bytes = b"200 OK", headers: bytes = b"Content-Type: application/json\r\n") -> Talk:
    """One answer, and the end of the connection."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 " + status + b"\r\nConnection: close\r\n" + headers)
        writer.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    return talk


def drip(start: bytes, piece: bytes = b" ") -> Talk:
    """A start, and then a piece again and again."""

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)

    return talk


async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Nothing, ever."""
    await reader.read()
