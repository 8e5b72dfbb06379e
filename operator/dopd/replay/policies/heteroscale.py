"""HeteroScale's metric-driven policy (arXiv 2508.19559): one signal for both roles, at a fixed ratio.

The signal is decode's tokens per second, which its study of a production fleet found to follow the load best.
Proportional control: decode workers = tokens per second / target of a worker, unless within the tolerances; prefill
workers = ratio x decode workers, so that both always move together. Growing is immediate, shrinking waits for a
cool-down. Its topology-aware placement and its mix of hardware have no counterpart here.
"""

from collections import deque
from math import ceil

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry

INTERVAL_SECONDS = 15.0
WINDOW_SECONDS = 60.0
TOLERANCE = 0.1


class HeteroScale:
    """One controller.

    Args:
        setting: what every policy is told.
        tokens_per_second: of a decode worker, aimed at.
        ratio: prefill workers for each decode worker.
        cool_down_seconds: in which the highest recommendation holds.
    """

    def __init__(
        self, setting: Setting, tokens_per_second: float, ratio: float, cool_down_seconds: float = 300.0
    ) -> None:
        self._target, self._ratio, self._most = tokens_per_second, ratio, setting.most
        self._wanted: deque[float] = deque(maxlen=max(1, round(cool_down_seconds / INTERVAL_SECONDS)))
        self._held = 0.0

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One look. What is held is kept as a number that is not whole, so that the ratio is not rounded twice."""
        if telemetry.seen_seconds < WINDOW_SECONDS:
            prefill, decode = (telemetry.workers(role).supply for role in Role)
            self._held = float(decode)
            self._wanted.append(self._held)
            return (prefill, decode), INTERVAL_SECONDS
        needed = telemetry.decode_tokens_per_second(WINDOW_SECONDS) / self._target
        self._wanted.append(needed)
        if needed > self._held * (1 + TOLERANCE):
            self._held = needed
        elif max(self._wanted) < self._held * (1 - TOLERANCE):
            self._held = max(self._wanted)
        decode, prefill = max(1, ceil(self._held)), max(1, ceil(self._held * self._ratio))
        return (min(prefill, self._most), min(decode, self._most)), INTERVAL_SECONDS
