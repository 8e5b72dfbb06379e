"""Sending a schedule: every request at its time, whatever became of the ones before."""

import asyncio
import time
from collections.abc import Callable

from e2e.load.client import Result, Target, client_session, send
from e2e.load.schedule import Arrival, Schedule


async def play(
    target: Target,
    schedule: Schedule,
    *,
    on_result: Callable[[Result], None],
    stop: asyncio.Event | None = None,
) -> None:
    """Send a schedule and wait until every request that was sent has ended.

    Args:
        target: whom it is for.
        schedule: what is sent and when.
        on_result: gets each result as it comes in.
        stop: once set, nothing more is sent; what was sent is still waited for.
    """
    async with client_session() as session:

        async def one(arrival: Arrival, late_seconds: float) -> None:
            on_result(await send(session, target, arrival, late_seconds))

        zero = time.perf_counter()
        async with asyncio.TaskGroup() as sent:
            for arrival in schedule:
                wait = zero + arrival.at_seconds - time.perf_counter()
                if wait > 0 and await _stopped(stop, wait):
                    return
                if stop is not None and stop.is_set():
                    return
                late = max(0.0, time.perf_counter() - zero - arrival.at_seconds)
                sent.create_task(one(arrival, late))


async def _stopped(stop: asyncio.Event | None, wait_seconds: float) -> bool:
    if stop is None:
        await asyncio.sleep(wait_seconds)
        return False
    try:
        async with asyncio.timeout(wait_seconds):
            await stop.wait()
    except TimeoutError:
        return False
    return True
