"""A load that plays beside what the caller does: in a thread of its own, with an event loop of its own."""

import asyncio
import threading
from types import TracebackType
from typing import Self

import uvloop

from e2e.load.client import Outcome, Result, Target
from e2e.load.player import play
from e2e.load.schedule import Schedule


class BackgroundLoad:
    """Plays a schedule from `start` on; as a context manager it starts, and stops when the block is left.

    Attributes:
        results: what has ended so far, in the order of ending.
    """

    def __init__(self, target: Target, schedule: Schedule) -> None:
        self.results: list[Result] = []
        self._target, self._schedule = target, schedule
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._begun = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()
        self._begun.wait()

    @property
    def playing(self) -> bool:
        """Whether something is still to be sent or answered."""
        return self._thread.is_alive()

    @property
    def lost(self) -> list[Result]:
        """The results so far that are not ok."""
        return [result for result in self.results if result.outcome is not Outcome.OK]

    def stop(self) -> list[Result]:
        """Send nothing more, wait for what was sent, and return all results."""
        if self._loop is not None and self._stop is not None and self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)
        return self.wait()

    def wait(self, timeout_seconds: float | None = None) -> list[Result]:
        """Wait until all has been sent and answered (or the time is over), and return what has ended."""
        self._thread.join(timeout_seconds)
        if self._failure is not None:
            raise self._failure
        return list(self.results)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        try:
            uvloop.run(self._play())
        except BaseException as error:  # told to the caller by `wait`
            self._failure = error
        finally:
            self._begun.set()

    async def _play(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._begun.set()
        await play(self._target, self._schedule, on_result=self.results.append, stop=self._stop)
