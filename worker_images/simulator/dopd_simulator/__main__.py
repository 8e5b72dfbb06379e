"""`dopd-simulator`: start one simulated engine and serve until told to stop."""

import asyncio
import logging
import signal
import sys
from collections.abc import Sequence

import uvloop

from dopd_simulator.options import parse_options
from dopd_simulator.profile import DEFAULT_PROFILE, load_profile
from dopd_simulator.server import Server
from dopd_simulator.surface.app import listen

log = logging.getLogger("dopd_simulator")

KILLED = 137
"""Exit status of an engine that ended itself by SIGKILL."""


async def serve(server: Server) -> bool:
    """Start, serve, and stop after SIGTERM, or at once after SIGINT; whether it ended as it should.

    Raises:
        OSError: a port is taken.
    """
    options = server.options
    loop = asyncio.get_running_loop()
    await server.start()
    runner = await listen(server)
    interrupted = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, server.draining.set)
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    await server.warm_up()
    log.info("The server is fired up and ready to roll! %s on %s:%d", server.engine.role, options.host, options.port)
    ends = [asyncio.create_task(server.drained()), asyncio.create_task(interrupted.wait())]
    ends.append(asyncio.create_task(server.died.wait()))
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    for end in ends:
        end.cancel()
    await server.engine.stop()
    if server.died.is_set():
        return False  # whoever waits for an answer gets none
    await runner.cleanup()
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of `dopd-simulator`; returns the exit status."""
    try:
        options = parse_options(sys.argv[1:] if arguments is None else arguments)
        profile = DEFAULT_PROFILE if options.sim_profile is None else load_profile(options.sim_profile)
        server = Server(options, profile)
    except ValueError as error:
        print(f"dopd-simulator: {error}", file=sys.stderr)
        return 2
    logging.basicConfig(level=options.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    if options.ignored:
        log.warning("flags that are not simulated, ignored: %s", " ".join(options.ignored))
    try:
        well = uvloop.run(serve(server))
    except OSError as error:
        print(f"dopd-simulator: cannot listen on {options.host}: {error}", file=sys.stderr)
        return 1
    return 0 if well else KILLED


if __name__ == "__main__":
    sys.exit(main())
