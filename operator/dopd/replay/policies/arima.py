"""One-step ARIMA(1,1,0) on a window, as peers forecast: fitted anew at each point by least squares."""

from collections import deque

import numpy as np

WINDOW_POINTS = 50
FEWEST_POINTS = 5


class ArimaSeries:
    """One series. Below five points, and for a constant series, the last value is the forecast."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW_POINTS)

    def next(self, value: float) -> float:
        """Take in a value and forecast the next one; never negative."""
        self._values.append(value)
        if len(self._values) < FEWEST_POINTS:
            return value
        steps = np.diff(np.array(self._values))
        before, after = steps[:-1], steps[1:]
        power = float(before @ before)
        slope = float(np.clip(before @ after / power, -0.99, 0.99)) if power else 0.0
        return max(0.0, value + slope * float(steps[-1]))
