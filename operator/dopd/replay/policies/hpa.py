"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2), one utilisation per role, defaults of its controller.

desired = ceil(workers x utilisation / target), unless within a tenth of the target; every 15 s; up by at most four
workers or twofold in 15 s; down to the highest recommendation of the last 300 s. Prefill is measured by the share
of time that its workers compute, decode by the share of its slots that are taken.
"""

from collections import deque
from math import ceil

from dopd.api.names import Role
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry

SYNC_SECONDS = 15.0
TOLERANCE = 0.1
DOWN_WINDOW_SECONDS = 300.0
UP_PODS, UP_FACTOR = 4, 2


class Hpa:
    """One autoscaler per role, independent of each other.

    Args:
        setting: what every policy is told.
        target: utilisation aimed at.
        decode_target: that of decode, when it is another.
    """

    def __init__(self, setting: Setting, target: float = 0.7, decode_target: float | None = None) -> None:
        self.setting = setting
        self._targets = {Role.PREFILL: target, Role.DECODE: target if decode_target is None else decode_target}
        looks = int(DOWN_WINDOW_SECONDS / SYNC_SECONDS)
        self._recommended: dict[Role, deque[int]] = {role: deque(maxlen=looks) for role in Role}

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """Both roles' recommendations."""
        utilisation = {
            Role.PREFILL: telemetry.prefill_busy_share(SYNC_SECONDS),
            Role.DECODE: telemetry.decode_slot_share(),
        }
        prefill, decode = (
            self._desired(role, telemetry.workers(role).serving, telemetry.workers(role).supply, utilisation[role])
            for role in Role
        )
        return (prefill, decode), SYNC_SECONDS

    def _desired(self, role: Role, ready: int, present: int, utilisation: float) -> int:
        wanted, pressure = present, utilisation / self._targets[role]
        if ready and abs(pressure - 1) > TOLERANCE:
            wanted = max(1, ceil(ready * pressure))
        if wanted > ready:
            wanted = max(present, min(wanted, max(present + UP_PODS, present * UP_FACTOR)))
        self._recommended[role].append(wanted)
        return min(max(wanted, max(self._recommended[role])) if wanted < present else wanted, self.setting.most)
