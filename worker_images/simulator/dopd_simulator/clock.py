"""Engine time: one place where `--sim-speedup` divides every duration.

All of the simulator counts in engine seconds, which pass `speedup` times as fast as those of the wall. Only what
leaves the process (metrics, /v1/loads) is converted, because its readers live in wall time.
"""

import asyncio
import time


class Clock:
    """A monotonic clock in engine seconds.

    Args:
        speedup: engine seconds in one wall second.
    """

    def __init__(self, speedup: float = 1.0) -> None:
        self.speedup = speedup
        self._zero = time.monotonic()

    def now(self) -> float:
        """Engine seconds since the clock was made."""
        return (time.monotonic() - self._zero) * self.speedup

    def wall(self, seconds: float) -> float:
        """Wall seconds that `seconds` engine seconds take."""
        return seconds / self.speedup

    async def sleep(self, seconds: float) -> None:
        """Sleep for that many engine seconds."""
        await asyncio.sleep(max(0.0, seconds) / self.speedup)


class Alarm:
    """Lets one coroutine sleep until a moment, or until somebody rings."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[bool] | None = None
        self._rung = False

    def ring(self) -> None:
        """Wake the sleeper, or keep the next one from falling asleep."""
        self._rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(True)

    async def wait(self, wall_seconds: float | None = None) -> bool:
        """Sleep; True when rung, False when the time has passed (None: no limit)."""
        if not self._rung:
            loop = asyncio.get_running_loop()
            self._waiter = waiter = loop.create_future()
            timer = None if wall_seconds is None else loop.call_later(wall_seconds, _expire, waiter)
            try:
                await waiter
            finally:
                self._waiter = None
                if timer is not None:
                    timer.cancel()
        rung, self._rung = self._rung, False
        return rung


def _expire(waiter: "asyncio.Future[bool]") -> None:
    if not waiter.done():
        waiter.set_result(False)
