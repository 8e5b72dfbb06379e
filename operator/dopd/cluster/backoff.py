"""How long to leave alone what fails: one pause for each key, whoever asks. No I/O; the clock is passed in."""

import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass

_FORGOTTEN_AFTER = 4.0
"""A key that was not heard of for so many of the longest pauses begins anew."""
_ASKED_FOR = 2.0
"""What the other side asks for counts up to so many of the longest pauses."""


@dataclass
class _Failing:
    failures: int
    until_seconds: float


class Backoff:
    """Pauses that double with each failure of a key, and end with a success.

    Args:
        first_seconds: the first pause.
        longest_seconds: no pause is longer, unless the other side asks for it.
        now: monotonic clock, seconds.
        free_failures: so many failures in a row have no pause yet.
    """

    def __init__(
        self,
        first_seconds: float,
        longest_seconds: float,
        now: Callable[[], float] = time.monotonic,
        free_failures: int = 0,
    ) -> None:
        self._first_seconds, self._longest_seconds, self._now = first_seconds, longest_seconds, now
        self._free_failures = free_failures
        self._failing: dict[Hashable, _Failing] = {}

    def failed(self, key: Hashable, asked_seconds: float = 0.0) -> float:
        """Note a failure; returns the pause that follows, seconds.

        Args:
            key: that failed.
            asked_seconds: the pause that the other side asks for, `Retry-After` say; counts up to twice the longest.
        """
        now = self._now()
        stale = now - _FORGOTTEN_AFTER * self._longest_seconds
        self._failing = {k: failing for k, failing in self._failing.items() if failing.until_seconds > stale}
        before = self._failing.get(key, _Failing(0, now))
        failures = before.failures + 1
        doublings = min(failures - self._free_failures - 1, 60)
        own = min(self._first_seconds * 2.0**doublings, self._longest_seconds) if doublings >= 0 else 0.0
        pause = max(own, min(asked_seconds, _ASKED_FOR * self._longest_seconds))
        self._failing[key] = _Failing(failures, max(before.until_seconds, now + pause))
        return pause

    def succeeded(self, key: Hashable) -> None:
        """Forget the failures of a key."""
        self._failing.pop(key, None)

    def failing(self, key: Hashable) -> bool:
        """Whether the last that was heard of a key is a failure."""
        return key in self._failing

    def seconds_left(self, key: Hashable) -> float:
        """Rest of the pause of a key; 0 when it may be asked."""
        failing = self._failing.get(key)
        return max(0.0, failing.until_seconds - self._now()) if failing else 0.0
