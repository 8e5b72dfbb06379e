"""Waiting for many answers at once, and for none of them too long."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Found = TypeVar("Found")

LOOK_SECONDS = 6.0
"""For one look at all pods of a resource: a little more than one request may take, so that it ends by itself."""


async def answers_within(seconds: float, asked: Iterable[Coroutine[Any, Any, Found]]) -> list[Found | None]:
    """Answers in the order of the questions; None where there is none in time. What still runs then is given up."""
    tasks = [asyncio.ensure_future(one) for one in asked]
    try:
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)
    finally:
        for task in tasks:
            task.cancel()
    return [task.result() if task.done() and not task.cancelled() else None for task in tasks]
