"""A resource's own past as a trace, and the specs that it is replayed under: what a change would have done to it."""

from dataclasses import dataclass, replace

import numpy as np

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.scheduling import SchedulingPolicy
from dopd.autoscaler import Autoscaler, Decision, PastLoad, Sample
from dopd.perf import EngineModel
from dopd.planning import Objectives, PerRole, Policy
from dopd.planning.bounds import NoRoomError, Pair, apply_bounds
from dopd.planning.demand import squared_cv
from dopd.replay.ground import Ground
from dopd.replay.policies import static
from dopd.replay.policies.base import Setting
from dopd.replay.policies.dopd import LOOK_ASLEEP_SECONDS
from dopd.replay.runner import Result, run
from dopd.replay.telemetry import Telemetry
from dopd.replay.trace import Trace, of_bins
from dopd.replay.workers import FIRST_COME, ON_TIME_FIRST, Settings
from dopd.telemetry.windows import PRESENT_INTERVALS


def trace_of(name: str, past: tuple[PastLoad, ...], begin_seconds: float, seed: int = 1) -> Trace:
    """Requests of the bins that begin at a time or later; time 0 is that time.

    Prompts are as long as what the prefix cache did not hold of them: a trace of totals tells no prefixes.

    Args:
        name: of the trace.
        past: bins, oldest first.
        begin_seconds: on the clock of the bins.
        seed: of the draws.

    Raises:
        ValueError: no request, or more than can be replayed.
    """
    bins = [one for one in past if one.end_seconds - one.seconds >= begin_seconds - 1]
    demands = [one.demand for one in bins]

    def column(values: list[float]) -> np.ndarray:
        return np.array(values, dtype=float)

    return of_bins(
        name,
        column([one.end_seconds - one.seconds - begin_seconds for one in bins]),
        column([one.seconds for one in bins]),
        column([one.demand.requests_per_second * one.seconds for one in bins]),
        (column([demand.uncached_tokens for demand in demands]), column([demand.output_tokens for demand in demands])),
        (
            column([squared_cv(demand.input_tokens, demand.input_tokens_second_moment) ** 0.5 for demand in demands]),
            column([demand.output_tokens_squared_cv**0.5 for demand in demands]),
        ),
        seed,
    )


@dataclass(frozen=True)
class Variant:
    """A spec, and what it runs on.

    Attributes:
        name: such as before.
        spec: of the resource.
        engine: performance of one engine.
        leads: seconds from a start to a worker that serves, by role.
        plugin: the engines have dopd's plugin, so that they can serve prompts in the order on-time-first.
    """

    name: str
    spec: DisaggregatedInferenceSpec
    engine: EngineModel
    leads: PerRole[float]
    plugin: bool = False

    @property
    def on_time_first(self) -> bool:
        """Whether prompts are served in that order."""
        return self.plugin and self.spec.scheduling.policy is SchedulingPolicy.ON_TIME_FIRST

    @property
    def objectives(self) -> Objectives:
        """What clients are promised."""
        slo = self.spec.slo
        return Objectives(slo.ttft_seconds, slo.itl_seconds, slo.attainment)


class OfSpec:
    """dopd under the spec of a resource, with its schedules and events at their times.

    Args:
        variant: the spec.
        past: the load before the trace, seconds since the epoch.
        begin_seconds: time 0 of the trace, seconds since the epoch.
    """

    def __init__(self, variant: Variant, past: tuple[PastLoad, ...], begin_seconds: float) -> None:
        self._variant, self._past, self._begin_seconds = variant, past, begin_seconds
        leads = {role.value: variant.leads[role] for role in Role}
        self._model = replace(variant.engine, startup_seconds=leads)
        self._autoscaler = Autoscaler()
        self._last_seconds = 0.0

    def policy(self, now_seconds: float) -> Policy:
        """What the spec wants and allows at a time of the trace."""
        at, variant = self._begin_seconds + now_seconds, self._variant
        return Policy.from_spec(variant.spec, at, variant.leads, variant.on_time_first)

    @property
    def decision(self) -> Decision | None:
        """The last one; None before the first."""
        return self._autoscaler.last

    @property
    def flips(self) -> int:
        """Decode workers that the last decision turns into prefill workers (negative: the other way)."""
        return self.decision.flips if self.decision else 0

    def decide(self, telemetry: Telemetry) -> tuple[Pair, float]:
        """One pass of the operator's loop."""
        now = telemetry.now_seconds
        policy, since = self.policy(now), now - self._last_seconds
        self._last_seconds, window = now, PRESENT_INTERVALS * policy.interval_seconds
        demand = telemetry.demand(window, decoded=True) if now >= window else None  # a part of one is no measurement
        late_share = telemetry.late_share(max(1.0, since)) if now else None
        sample = Sample(now, demand, late_share, window)
        model = replace(self._model, drain_seconds=telemetry.cluster.drain_seconds())
        self._autoscaler.observe(sample, model, policy, self._past, -self._begin_seconds)
        counted = telemetry.counted() if policy.idle_after_seconds else None
        decision = self._autoscaler.decide(PerRole.of(telemetry.workers), now, model, policy, counted)
        return decision.pair, decision.next_look_seconds if sum(decision.pair) else LOOK_ASLEEP_SECONDS


def ground_of(variant: Variant, trace: Trace) -> Ground:
    """The simulated cluster of a resource: its engines, leads, GPUs and order of prompts.

    Args:
        variant: the spec, and what it runs on.
        trace: the requests.
    """
    spec = variant.spec
    setting = Setting(
        variant.engine,
        variant.objectives,
        max(variant.leads),
        spec.prefill.gpus,
        spec.decode.gpus,
        on_time_first=variant.on_time_first,
    )
    settings = Settings(
        startup_seconds={role: variant.leads[role] for role in Role},
        gpus={Role.PREFILL: spec.prefill.gpus, Role.DECODE: spec.decode.gpus},
        flip_seconds=variant.engine.flip_seconds,
        order=ON_TIME_FIRST if variant.on_time_first else FIRST_COME,
        late_share=spec.scheduling.late_share,
        most_unfinished=spec.scheduling.most_unfinished,
        objectives=variant.objectives,
    )
    return Ground(setting, trace, settings, variant.engine)


def replayed(variant: Variant, trace: Trace, past: tuple[PastLoad, ...], begin_seconds: float) -> Result:
    """Serve a trace under a spec.

    Args:
        variant: the spec.
        trace: the requests.
        past: the load before them, seconds since the epoch.
        begin_seconds: time 0 of the trace, seconds since the epoch.

    Raises:
        ValueError: its bounds allow no pair of workers.
    """
    spec = variant.spec
    ground = ground_of(variant, trace)
    setting, settings = ground.setting, ground.settings
    if spec.scaling is None:
        start = (spec.prefill.replicas or 0, spec.decode.replicas or 0)
        return run(trace, variant.engine, variant.objectives, start, settings)
    policy = OfSpec(variant, past, begin_seconds)
    bounds = policy.policy(0.0)
    first = static.first_counts(setting, trace)
    try:
        start, _ = apply_bounds(first, first, bounds)
    except NoRoomError as error:
        raise ValueError(f"{variant.name}: {error}") from error
    if bounds.gpu_budget is not None:
        settings = replace(settings, gpu_limit=bounds.gpu_budget)
    return run(trace, variant.engine, variant.objectives, start, settings, policy)


def most_gpus(result: Result, variant: Variant) -> int:
    """The most GPUs that its targets ask for at a time."""
    gpus = variant.spec.prefill.gpus, variant.spec.decode.gpus
    return max(prefill * gpus[0] + decode * gpus[1] for _, prefill, decode in result.timeline)
