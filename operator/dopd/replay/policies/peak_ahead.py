"""A plan in one piece, on the way to replace dopd's planner: the peak within the lead, at a quantile that clients move.

Sizing, backlog and the order of prompts are the planner's own; bounds are not applied.
"""

from dopd.api.names import Role
from dopd.autoscaler import Knob, PeakForecast, Tuning
from dopd.planning import Demand, Policy, RoleBounds
from dopd.planning.backlog import decode_for_backlog, prefill_for_backlog
from dopd.planning.bounds import Pair
from dopd.planning.sizing import Load
from dopd.replay.policies.base import Setting
from dopd.replay.telemetry import Telemetry

INTERVAL_SECONDS = 15.0
WINDOW_SECONDS = 45.0


class PeakAhead:
    """The loop around `dopd.autoscaler`.

    Args:
        setting: what every policy is told.
        tuning: constants of the autoscaler.
    """

    def __init__(self, setting: Setting, tuning: Tuning | None = None) -> None:
        self.setting, self.tuning = setting, tuning or Tuning()
        lead = setting.startup_seconds + INTERVAL_SECONDS
        self._hold_seconds = max(self.tuning.least_hold_seconds, setting.startup_seconds)
        self._policy = Policy(
            objectives=setting.objectives,
            prefill=RoleBounds(1, setting.most, setting.prefill_gpus),
            decode=RoleBounds(1, setting.most, setting.decode_gpus),
        )
        self._knob = Knob(self.tuning, 1 - setting.objectives.attainment, lead)
        self._peaks = [PeakForecast(self.tuning, lead) for _ in Role]
        self._needed: list[tuple[float, Pair]] = []
        self._last_seconds = 0.0
        self._known: Demand | None = None

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One pass."""
        now = telemetry.now_seconds
        held = (telemetry.workers(Role.PREFILL).supply, telemetry.workers(Role.DECODE).supply)
        demand = telemetry.demand(WINDOW_SECONDS, decoded=True) if now else None
        if demand is not None and not demand.requests_per_second and self._known is not None:
            demand = self._known.at(0.0)
        if demand is None or not demand.input_tokens:
            return held, INTERVAL_SECONDS
        self._known = demand
        since = now - self._last_seconds
        self._knob.observe(telemetry.late_share(max(1.0, since)), since)
        self._last_seconds = now
        needed = self._need(telemetry, demand)
        self._needed = [one for one in self._needed if one[0] > now - self._hold_seconds] + [(now, needed)]
        settled = now > self._hold_seconds + INTERVAL_SECONDS
        most = [max(pair[i] for _, pair in self._needed) for i in range(2)]
        target = [n if n >= h else min(h, m) if settled else h for n, h, m in zip(needed, held, most, strict=True)]
        grows = any(n > h for n, h in zip(needed, held, strict=True))
        return (target[0], target[1]), INTERVAL_SECONDS / 2 if grows else INTERVAL_SECONDS

    def _need(self, telemetry: Telemetry, demand: Demand) -> Pair:
        setting, policy = self.setting, self._policy
        load = Load.of(demand, setting.model, setting.objectives, on_time_first=setting.on_time_first)
        one = load.at(1.0)
        sizes = []
        for peak, busy in zip(self._peaks, (one.prefill.busy_workers, one.decode.busy_workers), strict=True):
            rate = demand.requests_per_second
            if telemetry.now_seconds >= WINDOW_SECONDS:
                peak.observe(telemetry.now_seconds, rate * busy)
                rate = peak.quantile(self._knob.miss) / busy if busy else 0.0
            sizes.append(load.at(rate).size(setting.prefill_gpus, setting.decode_gpus))
        prefill, decode = (telemetry.workers(role) for role in Role)
        return (
            max(sizes[0].prefill, prefill_for_backlog(prefill, demand, load.prefill, setting.model, policy)),
            max(sizes[1].decode, decode_for_backlog(decode, load.decode, policy)),
        )
