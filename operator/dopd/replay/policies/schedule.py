"""Counts that were planned for the whole trace: what the offline optimum is checked with."""

import numpy as np
import numpy.typing as npt

from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry


class Schedule:
    """Holds at each step what it needs, and starts workers one start-up time ahead.

    Args:
        setting: what every policy is told.
        needs: workers that are to serve in each step, shape (steps, 2).
        step_seconds: length of a step.
    """

    def __init__(self, setting: Setting, needs: npt.NDArray[np.int64], step_seconds: float) -> None:
        self._startup, self.needs, self._step = setting.startup_seconds, needs, step_seconds

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """The most that any step needs until a worker started now could serve."""
        now = telemetry.now_seconds
        first = min(int((now + 1e-6) // self._step), len(self.needs) - 1)
        last = int((now + self._startup + 1e-6) // self._step) + 1
        prefill, decode = self.needs[first : max(last, first + 1)].max(axis=0)
        return (int(prefill), int(decode)), min(self._step, 15.0)
