"""Asking many at once, and waiting for none of them too long."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from dopd.cluster.podhttp import CONNECTIONS_OF_RESOURCE

Asked = TypeVar("Asked")
Found = TypeVar("Found")

LOOK_SECONDS = 6.0
"""For one look at all pods of a resource: a little more than one request may take, so that it ends by itself."""


async def answers_within(
    seconds: float, ask: Callable[[Asked], Awaitable[Found]], everybody: Sequence[Asked]
) -> list[Found | None]:
    """Answers in the order of those that are asked; None where there is none in time. What still runs is given up."""
    found: list[Found | None] = [None] * len(everybody)
    left = iter(enumerate(everybody))

    async def some() -> None:
        for number, one in left:
            found[number] = await ask(one)

    # More tasks than connections would only wait.
    tasks: list[asyncio.Task[Any]] = [
        asyncio.create_task(some()) for _ in range(min(CONNECTIONS_OF_RESOURCE, len(everybody)))
    ]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    for task in tasks:
        if task.done() and not task.cancelled():
            task.result()
    return found
