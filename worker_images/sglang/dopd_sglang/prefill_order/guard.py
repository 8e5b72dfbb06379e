"""Errors of the plugin: each kind is logged once with its traceback, and several switch it off for good."""

import logging
from collections import deque

MOST_ERRORS = 3
WITHIN_SECONDS = 60.0

log = logging.getLogger(__name__)


class Guard:
    """Counts errors; the engine goes on with its own order whatever happens here.

    Attributes:
        off: whether there were too many; stays so until the engine is started anew.
    """

    def __init__(self) -> None:
        self.off = False
        self._logged: set[tuple[str, str]] = set()
        self._times_seconds: deque[float] = deque(maxlen=MOST_ERRORS)

    def failed(self, where: str, error: BaseException, now_seconds: float) -> bool:
        """Take note of an error, within an `except`.

        Returns:
            Whether it was the one that switched the plugin off.
        """
        kind = (where, type(error).__name__)
        if kind not in self._logged:
            self._logged.add(kind)
            log.error("dopd: %s failed; the engine's own order decides about this pass", where, exc_info=error)
        self._times_seconds.append(now_seconds)
        if self.off or len(self._times_seconds) < MOST_ERRORS:
            return False
        if now_seconds - self._times_seconds[0] > WITHIN_SECONDS:
            return False
        self.off = True
        log.error(
            "dopd: %d errors within %.0f s: prompts are in the engine's own order until the engine is started anew",
            MOST_ERRORS,
            WITHIN_SECONDS,
        )
        return True
