"""Becomes an engine, and leaves a child behind that makes its bootstrap server answer at further ports.

A decode engine remembers the ranks behind a bootstrap address for as long as that address answers (sglang 0.5.23,
disaggregation/common/conn.py: prefill_info_table, connection_pool). An engine that became decode and prefill again has
new ranks, so each of its turns as prefill needs an address that no decode engine knows.

It is given to `python3 -c` as text (see `workloads.engines`), since it must run in any image that has SGLang: nothing
but the standard library, and no other file. Arguments: address to listen on, the engine's bootstrap port, number of
further ports, and the engine's command.
"""

import asyncio
import os
import sys


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.close()


async def forward(host: str, port: int, count: int, engine: int) -> None:
    """Take connections at the `count` ports after `port`, and pass each on to `port` of this machine.

    Args:
        host: address to listen on.
        port: the engine's bootstrap port.
        count: further ports.
        engine: process id of the engine, our parent; it ends with that.
    """
    target = "::1" if ":" in host else "127.0.0.1"

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            from_engine, to_engine = await asyncio.open_connection(target, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(_copy(reader, to_engine), _copy(from_engine, writer))
        to_engine.close()
        writer.close()

    servers = []  # an unreferenced server is closed
    for alias in range(port + 1, port + count + 1):
        try:
            servers.append(await asyncio.start_server(pass_on, host, alias))
        except OSError as error:  # one turn less: the canary finds out, and the next port is taken
            print(f"dopd: bootstrap port {alias} can not be opened: {error}", file=sys.stderr, flush=True)
    while os.getppid() == engine:  # noqa: ASYNC110 (nothing tells of the end of a parent)
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    engine = os.getpid()
    if os.fork():
        os.execvp(sys.argv[4], sys.argv[4:])
    asyncio.run(forward(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), engine))
