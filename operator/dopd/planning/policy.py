"""Policy: what the user wants and allows, as numbers, taken from the spec."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from dopd.api.base import seconds
from dopd.api.events import ForecastEvent
from dopd.api.inference import DisaggregatedInferenceSpec, RatioBand
from dopd.api.names import Role
from dopd.planning.per_role import PerRole
from dopd.planning.schedules import limits_ahead, limits_at, reserved_ahead


@dataclass(frozen=True)
class Objectives:
    """Latency objectives.

    Attributes:
        ttft_seconds: time to first token.
        itl_seconds: time between output tokens, mean over a request.
        attainment: share of requests that must meet both.
    """

    ttft_seconds: float = 1.5
    itl_seconds: float = 0.05
    attainment: float = 0.99


@dataclass(frozen=True)
class RoleBounds:
    """Fewest and most workers of one role, the GPUs of one worker, and the workers beside those that are needed."""

    min: int = 1
    max: int = 1000
    gpus: int = 1
    spare: int = 0


@dataclass(frozen=True)
class Ratio:
    """Allowed prefill workers per decode worker, as exact fractions."""

    min: Fraction
    max: Fraction

    @classmethod
    def from_spec(cls, band: RatioBand) -> "Ratio":
        """Read `1:4` as a quarter."""
        return cls(*(Fraction(*map(int, text.split(":"))) for text in (band.min, band.max)))


@dataclass(frozen=True)
class Fallback:
    """Fewest workers once the load has not been known for so many seconds."""

    after_seconds: float
    prefill: int
    decode: int


@dataclass(frozen=True)
class Policy:
    """Everything that bounds a decision.

    Attributes:
        objectives: latency objectives.
        prefill: bounds of the prefill workers.
        decode: bounds of the decode workers.
        gpu_budget: GPUs of both roles at most; None for no limit.
        gpu_budget_min: GPUs of both roles at least, as far as the other bounds allow; 0 for no limit.
        ratio: prefill per decode workers; None for no limit.
        max_step: workers of a role that one decision adds or removes at most.
        interval_seconds: time to the next plan.
        scale_down_stabilization_seconds: a worker is given up if nothing needed it for so long; None for as long as a
            new worker of the role takes to serve.
        role_switching: a running worker may change its role.
        fallback: what to run when the load has not been known for long; None to hold the target.
        schedules: names of the schedules that these bounds come from.
        on_time_first: prefill workers serve prompts in the order of that name, and not as they come.
        events: what changes the load and stands in no history.
        idle_after_seconds: both roles go to zero once no request came for so long; None: never.
        reserved: a schedule asks for workers, now or within the lead.
        batch: requests without a deadline are served, too: they are in no demand, and what waits at decode is theirs.
        batch_share: what a batch that waits may add to the load that is planned for, as a share of the online load.
    """

    objectives: Objectives = field(default_factory=Objectives)
    prefill: RoleBounds = field(default_factory=RoleBounds)
    decode: RoleBounds = field(default_factory=RoleBounds)
    gpu_budget: int | None = None
    gpu_budget_min: int = 0
    ratio: Ratio | None = None
    max_step: int = 8
    interval_seconds: float = 15.0
    scale_down_stabilization_seconds: float | None = None
    role_switching: bool = False
    fallback: Fallback | None = None
    schedules: tuple[str, ...] = ()
    on_time_first: bool = False
    events: Sequence[ForecastEvent] = ()
    idle_after_seconds: float | None = None
    reserved: bool = False
    batch: bool = False
    batch_share: float = 0.0

    @classmethod
    def from_spec(
        cls,
        spec: DisaggregatedInferenceSpec,
        now_seconds: float,
        lead_seconds: PerRole[float] | None = None,
        on_time_first: bool = False,
    ) -> "Policy":
        """The policy that a resource states, with the schedules that are active at a time, or begin within the lead.

        Args:
            spec: of the resource.
            now_seconds: seconds since the epoch.
            lead_seconds: from a start to a worker that serves, by role; None to heed what holds now alone.
            on_time_first: the engines are known to serve prompts in the order of that name.

        Raises:
            ValueError: the resource has no spec.scaling, so there is nothing to decide.
        """
        scaling = spec.scaling
        if scaling is None:
            raise ValueError("spec.scaling is absent: replicas are static and nothing is planned; add spec.scaling")
        interval_seconds = seconds(scaling.behavior.interval)  # what one plan misses waits for the next
        longest = 0.0
        if lead_seconds is None:
            limits = limits_at(scaling, now_seconds)
        else:
            ahead = {role: lead_seconds[role] + interval_seconds for role in Role}
            limits, longest = limits_ahead(scaling, now_seconds, ahead), max(ahead.values())
        budget, stabilization = limits.gpu_budget, scaling.behavior.scale_down_stabilization
        return cls(
            objectives=Objectives(spec.slo.ttft_seconds, spec.slo.itl_seconds, spec.slo.attainment),
            prefill=RoleBounds(limits.prefill.min, limits.prefill.max, spec.prefill.gpus, limits.prefill.spare),
            decode=RoleBounds(limits.decode.min, limits.decode.max, spec.decode.gpus, limits.decode.spare),
            gpu_budget=budget.max if budget else None,
            gpu_budget_min=(budget.min or 0) if budget else 0,
            ratio=Ratio.from_spec(scaling.ratio) if scaling.ratio else None,
            max_step=scaling.behavior.max_step,
            interval_seconds=interval_seconds,
            scale_down_stabilization_seconds=seconds(stabilization) if stabilization is not None else None,
            role_switching=spec.role_switching is not None and spec.role_switching.enabled,
            fallback=Fallback(seconds(scaling.fallback.after), scaling.fallback.prefill, scaling.fallback.decode)
            if scaling.fallback
            else None,
            schedules=limits.schedules,
            on_time_first=on_time_first,
            events=tuple(scaling.forecast.events),
            idle_after_seconds=seconds(scaling.idle.after) if scaling.idle else None,
            reserved=scaling.idle is not None and reserved_ahead(scaling, now_seconds, longest),
            batch=spec.scheduling.batch is not None,
            batch_share=scaling.batch_share if spec.scheduling.batch else 0.0,
        )

    @property
    def switches(self) -> bool:
        """Whether a worker of one role can take the place of one of the other."""
        return self.role_switching and self.prefill.gpus == self.decode.gpus

    def bounds(self, role: Role) -> RoleBounds:
        """Bounds of one role."""
        return self.prefill if role is Role.PREFILL else self.decode

    def gpus(self, prefill: int, decode: int) -> int:
        """GPUs that so many workers hold."""
        return prefill * self.prefill.gpus + decode * self.decode.gpus
