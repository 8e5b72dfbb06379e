"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), one target per role; what KEDA sets up is one, too.

desired = ceil(metric / target), unless it is within a tenth of what serves; every 15 s; upwards as fast as its scaleUp
policies allow, down to the highest recommendation of its stabilisation window. `Hpa` aims at a share of use: prefill is
measured by the share of time that its workers compute, decode by the share of its slots that are taken.
"""

from collections import deque
from dataclasses import dataclass
from math import ceil

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry

SYNC_SECONDS = 15.0
TOLERANCE = 0.1


@dataclass(frozen=True)
class Behaviour:
    """The field `behavior` of an HPA; the defaults are those of its controller.

    Attributes:
        down_window_seconds: scaleDown.stabilizationWindowSeconds.
        up_window_seconds: scaleUp.stabilizationWindowSeconds.
        up_pods: workers that may be added in 15 s, or
        up_factor: the multiple that may be reached in 15 s, whichever is more.
    """

    down_window_seconds: float = 300.0
    up_window_seconds: float = 0.0
    up_pods: int = 4
    up_factor: float = 2.0

    def __str__(self) -> str:
        up = f", up after {self.up_window_seconds:g} s" if self.up_window_seconds else ""
        pods = f", up by {self.up_pods}" if self.up_pods != Behaviour.up_pods else ""
        return f"down after {self.down_window_seconds:g} s{up}{pods}"


DEFAULT = Behaviour()


class RoleScaler:
    """The controller's arithmetic for one role.

    Args:
        behaviour: how fast it may move.
        most: workers at most.
    """

    def __init__(self, behaviour: Behaviour, most: int) -> None:
        self.behaviour, self._most = behaviour, most
        self._wanted: deque[int] = deque(maxlen=max(1, round(behaviour.down_window_seconds / SYNC_SECONDS)))
        self._up_looks = max(1, round(behaviour.up_window_seconds / SYNC_SECONDS))

    def desired(self, ready: int, present: int, needed: float | None) -> int:
        """Workers to have.

        Args:
            ready: that serve.
            present: that serve or will.
            needed: the metric over its target, in workers; None where there is no metric, and nothing moves.
        """
        wanted = present
        if needed is not None and ready and abs(needed / ready - 1) > TOLERANCE:
            wanted = max(1, ceil(needed - 1e-9))
        if wanted > ready:
            limit = max(present + self.behaviour.up_pods, int(present * self.behaviour.up_factor))
            wanted = max(present, min(wanted, limit))
        self._wanted.append(wanted)
        if wanted < present:
            wanted = min(present, max(self._wanted))
        elif wanted > present:
            wanted = max(present, min(list(self._wanted)[-self._up_looks :]))
        return min(wanted, self._most)


class Hpa:
    """One autoscaler per role, independent of each other.

    Args:
        setting: what every policy is told.
        target: utilisation aimed at.
        decode_target: that of decode, when it is another.
        behaviour: how fast it may move.
        window_seconds: over which the use of prefill is measured.
    """

    def __init__(
        self,
        setting: Setting,
        target: float = 0.7,
        decode_target: float | None = None,
        behaviour: Behaviour = DEFAULT,
        window_seconds: float = SYNC_SECONDS,
    ) -> None:
        self._targets = {Role.PREFILL: target, Role.DECODE: target if decode_target is None else decode_target}
        self._scalers = {role: RoleScaler(behaviour, setting.most) for role in Role}
        self._window = window_seconds

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Both roles' recommendations."""
        use = {
            Role.PREFILL: telemetry.prefill_busy_share(self._window),
            Role.DECODE: telemetry.decode_slot_share(),
        }
        prefill, decode = (self._desired(role, telemetry, use[role]) for role in Role)
        return (prefill, decode), SYNC_SECONDS

    def _desired(self, role: Role, telemetry: Telemetry, use: float) -> int:
        workers = telemetry.workers(role)
        needed = workers.serving * use / self._targets[role] if telemetry.seen_seconds >= self._window else None
        return self._scalers[role].desired(workers.serving, workers.supply, needed)
