"""dopd itself: the planner that the operator runs, fed by the telemetry of the simulated cluster."""

from dataclasses import replace

from dopd.api.names import Role
from dopd.planning import Decision, Observation, Policy, RoleBounds, plan
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry


class Dopd:
    """plan() at the operator's interval."""

    def __init__(self, setting: Setting, window_seconds: float = 45.0, **changes: float) -> None:
        self.setting, self._window = setting, window_seconds
        policy = Policy(
            objectives=setting.objectives,
            prefill=RoleBounds(1, setting.most, setting.prefill_gpus),
            decode=RoleBounds(1, setting.most, setting.decode_gpus),
        )
        self.policy = replace(policy, **changes)  # type: ignore[arg-type]
        self.decision: Decision | None = None

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One pass of the operator's loop."""
        if telemetry.now_seconds == 0:
            prefill, decode = (telemetry.workers(role).supply for role in Role)
            return (prefill, decode), self.policy.interval_seconds
        observation = Observation(
            demand=telemetry.demand(self._window),
            prefill=telemetry.workers(Role.PREFILL),
            decode=telemetry.workers(Role.DECODE),
            late_share=telemetry.late_share(self.policy.interval_seconds),
            ttft_seconds=telemetry.ttft_seconds(self.policy.interval_seconds),
        )
        self.decision = plan(observation, None, self.setting.model, self.policy, self.decision, telemetry.now_seconds)
        return (self.decision.prefill, self.decision.decode), self.decision.next_look_seconds
