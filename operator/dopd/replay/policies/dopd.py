"""dopd itself: the autoscaler that the operator runs, fed by simulated telemetry."""

from dataclasses import replace

from dopd.autoscaler import Autoscaler, Decision, Sample, Tuning
from dopd.planning import PerRole, Policy, RoleBounds
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry
from dopd_forecasting import Forecaster

LOOK_ASLEEP_SECONDS = 2.0
"""Between two looks at the gateways while no worker runs: spec.scaling.behavior.queueInterval."""


class Dopd:
    """The loop at the operator's interval.

    Args:
        setting: what every policy is told.
        window_seconds: over which the load of now is measured.
        forecast: whether to know the history, and to have a forecaster.
        load_share: share of the load that the planner is told, to make it spend less or more than it would.
        tuning: constants of the autoscaler.
        spare: workers of each role beside those that are needed.
        changes: other fields of the policy.

    Attributes:
        policy: objectives, and bounds that no trace reaches.
    """

    def __init__(
        self,
        setting: Setting,
        window_seconds: float = 45.0,
        forecast: bool = True,
        load_share: float = 1.0,
        tuning: Tuning | None = None,
        spare: int = 0,
        **changes: float | bool | None,
    ) -> None:
        self.setting, self._window, self._load_share = setting, window_seconds, load_share
        policy = Policy(
            objectives=setting.objectives,
            prefill=RoleBounds(1, setting.most, setting.prefill_gpus, spare),
            decode=RoleBounds(1, setting.most, setting.decode_gpus, spare),
            on_time_first=setting.on_time_first,
        )
        self.policy = replace(policy, **changes)  # type: ignore[arg-type]
        self.autoscaler = Autoscaler(tuning, forecaster=Forecaster if forecast else None)
        self._past = setting.history if forecast else ()
        self._last_seconds = 0.0

    @property
    def decision(self) -> Decision | None:
        """The last one; None before the first."""
        return self.autoscaler.last

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One pass of the operator's loop."""
        now, model = telemetry.now_seconds, self.setting.model
        if self.policy.switches:
            model = replace(model, drain_seconds=telemetry.cluster.drain_seconds())
        since, self._last_seconds = now - self._last_seconds, now
        demand = None  # a part of a window is no measurement
        if now >= self._window:
            demand = telemetry.demand(self._window, decoded=True).scaled(self._load_share)
        late_share = telemetry.late_share(max(1.0, since)) if now else None
        sample = Sample(now, demand, late_share, self._window, batch_waits=telemetry.batch_waits)
        self.autoscaler.observe(sample, model, self.policy, self._past)
        counted = telemetry.counted() if self.policy.idle_after_seconds else None
        decision = self.autoscaler.decide(PerRole.of(telemetry.workers), now, model, self.policy, counted)
        return decision.pair, decision.next_look_seconds if sum(decision.pair) else LOOK_ASLEEP_SECONDS

    @property
    def flips(self) -> int:
        """Decode workers that the last decision turns into prefill workers (negative: the other way)."""
        return self.decision.flips if self.decision else 0
