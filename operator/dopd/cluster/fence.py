"""A fence around writes: what runs within it writes only while it may. And a count of them.

Work that was begun under a Lease may go on for a moment after the Lease is lost: a process that stood still for long
learns of it only as it goes on. So each write asks, just before it is sent. What is asked is carried by the context,
and so reaches the tasks that are begun within the fence too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_MAY: ContextVar[Callable[[], bool] | None] = ContextVar("fence", default=None)


@dataclass
class Writes:
    """How many writes were begun, whatever came of them."""

    count: int = 0


_WRITES: ContextVar[Writes | None] = ContextVar("writes", default=None)


@contextmanager
def fenced(may: Callable[[], bool] | None) -> Iterator[None]:
    """Let what runs in the block, and the tasks that it begins, write only while `may` says so; None for always."""
    token = _MAY.set(may)
    try:
        yield
    finally:
        _MAY.reset(token)


def may_write() -> bool:
    """Whether what runs here may write now."""
    may = _MAY.get()
    return may is None or may()


@contextmanager
def counted() -> Iterator[Writes]:
    """Count the writes of what runs in the block, and of the tasks that it begins."""
    writes = Writes()
    token = _WRITES.set(writes)
    try:
        yield writes
    finally:
        _WRITES.reset(token)


def note_write() -> None:
    """What runs here begins a write."""
    writes = _WRITES.get()
    if writes is not None:
        writes.count += 1
