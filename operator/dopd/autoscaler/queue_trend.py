"""Whether a queue grows look after look: one burst makes it grow once."""

CLOSE_LOOKS_SECONDS = 0.75


class QueueTrend:
    """Takes in what waits, look after look."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._growths = (0.0, 0.0)

    def add(self, at_seconds: float, waiting: float | None) -> float:
        """Take in a look; returns the lesser growth of the last two looks, per second, 0 if it did not grow in both.

        Looks that follow each other closely count as one.
        """
        if waiting is None:
            self._last, self._growths = None, (0.0, 0.0)
        elif self._last is None:
            self._last = (at_seconds, waiting)
        elif at_seconds - self._last[0] >= CLOSE_LOOKS_SECONDS:
            growth = (waiting - self._last[1]) / (at_seconds - self._last[0])
            self._last, self._growths = (at_seconds, waiting), (self._growths[1], growth)
        return max(0.0, min(self._growths))
