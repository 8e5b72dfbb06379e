"""What was forecast for a time, until that has come: to be compared with what came."""

from collections import deque


class Promises:
    """Of one role."""

    def __init__(self) -> None:
        self._made: deque[tuple[float, float]] = deque(maxlen=1000)

    def add(self, due_seconds: float, load: float) -> None:
        """Note a load that was forecast for a time."""
        self._made.append((due_seconds, load))

    def due(self, now_seconds: float) -> float | None:
        """The newest load whose time has come; None before the first."""
        while len(self._made) > 1 and self._made[1][0] <= now_seconds:
            self._made.popleft()
        return self._made[0][1] if self._made and self._made[0][0] <= now_seconds else None
