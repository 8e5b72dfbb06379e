"""KEDA's usual trigger for LLM serving: requests per worker, by a Prometheus query, on the HPA that it sets up.

The guides of vLLM's production stack, KServe and llm-d scale on the sum of waiting requests over a threshold (type
AverageValue). Prefill goes by the prompts that wait or are computed, decode by the answers that wait or run, each mean
over the last looks, as such queries take `avg_over_time`.
"""

from collections import deque

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.policies.hpa import DEFAULT, SYNC_SECONDS, Behaviour, RoleScaler
from dopd.replay.telemetry import Telemetry

POLL_SECONDS = 5.0


class Keda:
    """One scaled object per role.

    Args:
        setting: what every policy is told.
        prompts: threshold of prefill, requests a worker.
        answers: threshold of decode, requests a worker.
        behaviour: of the HPA.
        window_seconds: over which requests are averaged.
    """

    def __init__(
        self,
        setting: Setting,
        prompts: float,
        answers: float,
        behaviour: Behaviour = DEFAULT,
        window_seconds: float = 60.0,
    ) -> None:
        self._window = window_seconds
        self._thresholds = {Role.PREFILL: prompts, Role.DECODE: answers}
        self._scalers = {role: RoleScaler(behaviour, setting.most) for role in Role}
        looks = max(1, round(window_seconds / POLL_SECONDS))
        self._requests: dict[Role, deque[int]] = {role: deque(maxlen=looks) for role in Role}
        self._sync_at, self._pair = 0.0, (0, 0)

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Poll, and recommend once in 15 s."""
        for role in Role:
            self._requests[role].append(telemetry.requests_in(role))
        if telemetry.now_seconds >= self._sync_at:
            self._sync_at = telemetry.now_seconds + SYNC_SECONDS - POLL_SECONDS / 2
            prefill, decode = (self._desired(role, telemetry) for role in Role)
            self._pair = prefill, decode
        return self._pair, POLL_SECONDS

    def _desired(self, role: Role, telemetry: Telemetry) -> int:
        workers, seen = telemetry.workers(role), self._requests[role]
        known = telemetry.seen_seconds >= self._window
        needed = sum(seen) / len(seen) / self._thresholds[role] if known else None
        return self._scalers[role].desired(workers.serving, workers.supply, needed)
