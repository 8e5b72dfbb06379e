"""dopd itself: the planner that the operator runs, with the forecaster that it runs, fed by simulated telemetry."""

from dataclasses import replace

import numpy as np

from dopd.api.inference import ForecastSpec
from dopd.api.names import Role
from dopd.planning import Decision, Demand, Forecast, Observation, Policy, RoleBounds, plan
from dopd.planning.bounds import Pair
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry
from dopd_forecasting import Forecaster, Series

BIN_SECONDS = 60.0
QUANTILE = ForecastSpec().quantile
FEWEST_BINS = 10


class Dopd:
    """plan() at the operator's interval.

    Args:
        setting: what every policy is told.
        window_seconds: over which the load of now is measured.
        forecast: forecast the request rate as the operator does; without it the margin learnt by the planner has to do.
        bin_seconds: width of the bins of the forecaster's history.
        load_share: share of the load that the planner is told, to make it spend less or more than it would.
        changes: other fields of the planner's policy.

    Attributes:
        policy: the planner's policy, with bounds that no trace reaches.
    """

    def __init__(
        self,
        setting: Setting,
        window_seconds: float = 45.0,
        forecast: bool = True,
        bin_seconds: float = BIN_SECONDS,
        load_share: float = 1.0,
        **changes: float | None,
    ) -> None:
        self.setting, self._window, self._bin_seconds = setting, window_seconds, bin_seconds
        self._load_share = load_share
        policy = Policy(
            objectives=setting.objectives,
            prefill=RoleBounds(1, setting.most, setting.prefill_gpus),
            decode=RoleBounds(1, setting.most, setting.decode_gpus),
        )
        self.policy = replace(policy, **changes)  # type: ignore[arg-type]
        self.decision: Decision | None = None
        self._forecaster = Forecaster() if forecast else None
        self._bins = 0

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One pass of the operator's loop."""
        if telemetry.now_seconds == 0:
            prefill, decode = (telemetry.workers(role).supply for role in Role)
            return (prefill, decode), self.policy.interval_seconds
        demand = telemetry.demand(self._window, decoded=True).scaled(self._load_share)
        observation = Observation(
            demand=demand,
            prefill=telemetry.workers(Role.PREFILL),
            decode=telemetry.workers(Role.DECODE),
            late_share=telemetry.late_share(self.policy.interval_seconds),
            ttft_seconds=telemetry.ttft_seconds(self.policy.interval_seconds),
            window_seconds=self._window,
        )
        forecast = self._forecast(telemetry, demand)
        self.decision = plan(
            observation, forecast, self.setting.model, self.policy, self.decision, telemetry.now_seconds
        )
        return (self.decision.prefill, self.decision.decode), self.decision.next_look_seconds

    @property
    def flips(self) -> int:
        """Decode workers that the last decision turns into prefill workers (negative: the other way)."""
        return self.decision.flips if self.decision else 0

    def _forecast(self, telemetry: Telemetry, demand: Demand) -> Forecast | None:
        """Request rate at each role's lead time, once the forecaster is to be trusted; lengths are those of now."""
        bins = int((telemetry.now_seconds - telemetry.delay_seconds) // self._bin_seconds)
        if self._forecaster is None or bins < FEWEST_BINS or demand.requests_per_second == 0:
            return None
        if bins > self._bins:
            edges = np.arange(bins + 1) * self._bin_seconds
            counts = np.diff(np.searchsorted(telemetry.cluster.trace.arrival_seconds, edges))
            series = Series.from_values(counts / self._bin_seconds, bin_seconds=self._bin_seconds, unit="requests/s")
            if self._bins:
                self._forecaster.update(series)
            else:
                self._forecaster.fit(series)
            self._bins = bins
        if not self._forecaster.trust(telemetry.now_seconds).trusted:
            return None
        leads = [self.setting.startup_seconds + self.policy.interval_seconds] * 2
        prefill, decode = self._load_share * self._forecaster.predict(leads, [QUANTILE]).quantiles[:, 0]
        return Forecast(
            replace(demand, requests_per_second=float(prefill)), replace(demand, requests_per_second=float(decode))
        )
