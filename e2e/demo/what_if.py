"""What other policies would have done with the very load that was played, by dopd's replay engine. Pure.

Fixed counts for the busiest minute, known with hindsight. A HorizontalPodAutoscaler for each role with one target
utilisation, the one that proves cheapest on this very load; and the same with a target for each role, of all pairs the
one that proves cheapest, which nobody can know before. And dopd itself: its figures beside those of the real run tell
how far the others can be believed.

dopd runs in time of the clock, as the operator did; the others in time of the trace, since an autoscaler's periods are
not compressed. All figures are given in time of the trace.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Objectives
from dopd.planning.bounds import Pair
from dopd.replay.policies import static
from dopd.replay.policies.base import ScalingPolicy, Setting
from dopd.replay.policies.dopd import Dopd
from dopd.replay.policies.hpa import Hpa
from dopd.replay.runner import Result, run
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings as ClusterSettings
from dopd.telemetry.windows import PRESENT_INTERVALS
from e2e.demo.scenario import Settings
from e2e.load import Schedule

TARGETS = (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8)
PAIRS_OF_TARGETS = tuple(product((0.5, 0.6, 0.7, 0.8, 0.9), (0.3, 0.4, 0.5, 0.6, 0.7)))
PROMETHEUS_SECONDS = 1.0
"""The demo's Prometheus scrapes so often, of the clock."""


@dataclass(frozen=True)
class Outcome:
    """What clients would have met, and what it would have cost.

    Attributes:
        label: what was run.
        attainment: share of requests within both objectives.
        attainment_ttft: share within the objective of the first token.
        attainment_itl: share within the objective of the time between tokens.
        gpu_seconds: of the trace.
        timeline: (seconds of the clock, prefill, decode) at each change of the target.
    """

    label: str
    attainment: float
    attainment_ttft: float
    attainment_itl: float
    gpu_seconds: float
    timeline: tuple[tuple[float, int, int], ...]


@dataclass(frozen=True)
class WhatIf:
    """What was run.

    Attributes:
        static: fixed counts for the busiest minute.
        reactive: an autoscaler for each role, with one target for both.
        reactive_by_role: with a target for each role.
        dopd: the operator's planner.
    """

    static: Outcome
    reactive: Outcome
    reactive_by_role: Outcome
    dopd: Outcome

    @property
    def outcomes(self) -> tuple[Outcome, ...]:
        """All of them."""
        return self.dopd, self.reactive, self.reactive_by_role, self.static


class _Stage:
    """The load, the engines and the cluster, in one of the two times.

    Args:
        schedule: what was played.
        settings: of the scenario.
        lead_seconds: from a start to a worker that serves, by role, of the clock.
        lead_in_seconds: left out of the figures, of the clock.
        stretch: seconds of this time in one of the clock.
    """

    def __init__(
        self,
        schedule: Schedule,
        settings: Settings,
        lead_seconds: Mapping[Role, float],
        lead_in_seconds: float,
        stretch: float,
    ) -> None:
        self._stretch = stretch
        self._to_trace = schedule.speedup / stretch
        policy, slo = settings.policy, settings.policy.objectives
        arrivals = list(schedule)
        self.trace = Trace(
            "played",
            np.array([a.at_seconds for a in arrivals]) * stretch,
            np.array([a.input_tokens for a in arrivals], dtype=np.int64),
            np.array([a.output_tokens for a in arrivals], dtype=np.int64),
            "requests",
        )
        leads = {role: lead_seconds[role] * stretch for role in Role}
        self.model = _stretched(settings.model, stretch, leads)
        self.objectives = Objectives(slo.ttft_seconds * stretch, slo.itl_seconds * stretch, slo.attainment)
        self.cluster = ClusterSettings(
            startup_seconds=leads,
            gpus={role: policy.bounds(role).gpus for role in Role},
            counted_from_seconds=lead_in_seconds * stretch,
        )
        self.setting = Setting(
            self.model,
            self.objectives,
            max(leads.values()),
            policy.prefill.gpus,
            policy.decode.gpus,
            most=max(policy.prefill.max, policy.decode.max),
        )

    def run(self, label: str, start: Pair, policy: ScalingPolicy | None, scrape_seconds: float = 5.0) -> Outcome:
        cluster = replace(self.cluster, scrape_seconds=scrape_seconds, delay_seconds=scrape_seconds)
        result = run(self.trace, self.model, self.objectives, start, cluster, policy)
        return self._outcome(label, result)

    def _outcome(self, label: str, result: Result) -> Outcome:
        return Outcome(
            label=label,
            attainment=result.attainment,
            attainment_ttft=result.attainment_ttft,
            attainment_itl=result.attainment_itl,
            gpu_seconds=result.gpu_hours * 3600 * self._to_trace,
            timeline=tuple((at / self._stretch, prefill, decode) for at, prefill, decode in result.timeline),
        )


def what_if(
    schedule: Schedule, settings: Settings, lead_seconds: Mapping[Role, float], lead_in_seconds: float
) -> WhatIf:
    """Replay the load that was played.

    Args:
        schedule: what was played, lead-in included.
        settings: of the scenario.
        lead_seconds: from a start to a worker that serves, by role, of the clock, as measured in the run.
        lead_in_seconds: left out of the figures, of the clock.
    """
    of_trace = _Stage(schedule, settings, lead_seconds, lead_in_seconds, schedule.speedup)
    of_clock = _Stage(schedule, settings, lead_seconds, lead_in_seconds, 1.0)
    policy = settings.policy
    fewest = (policy.prefill.min, policy.decode.min)
    prefill, decode = static.peak(of_trace.setting, of_trace.trace)
    most = (min(prefill, policy.prefill.max), min(decode, policy.decode.max))
    return WhatIf(
        static=of_trace.run(f"static, {most[0]}+{most[1]}", most, None),
        reactive=_reactive(of_trace, fewest, [(target, target) for target in TARGETS]),
        reactive_by_role=_reactive(of_trace, fewest, PAIRS_OF_TARGETS),
        dopd=of_clock.run("dopd, replayed", fewest, _dopd(of_clock.setting, settings), PROMETHEUS_SECONDS),
    )


def _reactive(stage: _Stage, start: Pair, targets: Sequence[tuple[float, float]]) -> Outcome:
    """The cheapest autoscaler that reaches the objective, else the one that comes nearest."""
    outcomes = [
        stage.run(
            f"reactive, target {prefill:.0%}"
            if prefill == decode
            else f"reactive, targets {prefill:.0%}, {decode:.0%}",
            start,
            Hpa(stage.setting, prefill, decode_target=decode),
        )
        for prefill, decode in targets
    ]
    reached = [outcome for outcome in outcomes if outcome.attainment >= stage.objectives.attainment]
    if reached:
        return min(reached, key=lambda outcome: outcome.gpu_seconds)
    return max(outcomes, key=lambda outcome: outcome.attainment)


def _dopd(setting: Setting, settings: Settings) -> Dopd:
    window_seconds = PRESENT_INTERVALS * settings.policy.interval_seconds
    dopd = Dopd(setting, window_seconds)
    dopd.policy = settings.policy
    return dopd


def _stretched(model: EngineModel, stretch: float, leads: Mapping[Role, float]) -> EngineModel:
    """The same engine on a clock that runs `stretch` times as fast."""
    return replace(
        model.corrected(stretch, stretch),
        transfer_base_seconds=model.transfer_base_seconds * stretch,
        transfer_tokens_per_second=model.transfer_tokens_per_second / stretch,
        startup_seconds={role.value: leads[role] for role in Role},
    )
