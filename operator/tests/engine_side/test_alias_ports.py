"""The forwarder, as it runs in the containers of engines: text that a Python of no packages is given."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

from dopd.workloads.role_switching import _FORWARDER

ECHO = """
import asyncio, os, sys
async def serve():
    async def echo(reader, writer):
        data = await reader.read()
        writer.write(data.upper())
        writer.write_eof()
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(echo, "127.0.0.1", int(sys.argv[1]))
    print(os.getpid(), flush=True)
    await server.serve_forever()
asyncio.run(serve())
"""
COUNT = 3


@pytest.fixture
def port() -> int:
    """The first of some ports that nobody has."""
    for first in range(20_000 + os.getpid() % 5000, 32_000, COUNT + 1):
        try:
            for number in range(first, first + COUNT + 1):
                socket.create_server(("127.0.0.1", number)).close()
        except OSError:
            continue
        return first
    pytest.fail("no free ports")


@asynccontextmanager
async def engine(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    words = [sys.executable, "-S", "-c", _FORWARDER, "127.0.0.1", str(port), str(COUNT), sys.executable, "-c", ECHO]
    process = await asyncio.create_subprocess_exec(
        *words, str(port), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()  # ends when the forwarder has let go of the pipes, too


async def said(port: int, words: bytes) -> bytes:
    """What a port answers, once the forwarder and the engine behind it are there."""
    for _ in range(100):
        with suppress(OSError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(words)
                writer.write_eof()
                if answer := await reader.read():
                    return answer
            finally:
                writer.close()
        await asyncio.sleep(0.05)
    pytest.fail(f"port {port} does not answer")


async def test_the_engine_is_the_process_itself_and_answers_at_all_ports(port: int):
    async with engine(port) as process:
        assert process.stdout is not None
        assert int(await process.stdout.readline()) == process.pid, "signals of the kubelet reach it"
        for each in range(port, port + COUNT + 1):
            assert await said(each, b"where do I pull from" * 9999) == b"WHERE DO I PULL FROM" * 9999


async def test_it_ends_with_the_engine(port: int):
    async with engine(port) as process:
        await said(port + 1, b"x")
        process.kill()
        await process.wait()
        await asyncio.wait_for(process.communicate(), 5)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port + 1)
