"""What the autoscaler says: a target for both roles, and all that explains it."""

from dataclasses import dataclass
from enum import StrEnum

from dopd.planning.bounds import Bound, Pair
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.sizing import Expected
from dopd.planning.switching import Remedy


class Reason(StrEnum):
    """Why the target is what it is. Closed: conditions, metrics and Events use it."""

    STEADY = "Steady"
    """The previous target still fits."""
    DEMAND_ROSE = "DemandRose"
    """More workers, since the demand planned for needs them."""
    DEMAND_FELL = "DemandFell"
    """Fewer workers, since the demand needed no more for the whole stabilisation window."""
    MIX_SHIFTED = "MixShifted"
    """One role grows while the other shrinks."""
    BACKLOG = "Backlog"
    """More workers than the demand needs, to work off what waits."""
    BOUNDS_CHANGED = "BoundsChanged"
    """The previous target lies outside the bounds."""
    TELEMETRY_FAILED = "TelemetryFailed"
    """The load is not known; the previous target is held."""
    FALLBACK = "Fallback"
    """The load has not been known for so long that the fallback holds."""
    EXTERNAL = "External"
    """A scaler of the user's own asked for it."""
    IDLE = "Idle"
    """No request came for as long as spec.scaling.idle says: no worker runs."""
    FIRST_REQUEST = "FirstRequest"
    """A request came while no worker ran."""
    FORESEEN = "Foreseen"
    """No worker ran, and the forecast expects a request within the lead."""
    SCHEDULE_AHEAD = "ScheduleAhead"
    """No worker ran, and a schedule reserves some within the lead."""
    NO_ROOM = "NoRoom"
    """The bounds contradict each other; the previous target is held."""


class Cause(StrEnum):
    """Which load decided the workers of a role. Closed: metrics and status use it."""

    NOW = "Now"
    """What arrives now, and the forecast asks for no more."""
    GROWN = "Grown"
    """The greatest load until a decision of now takes effect, as it follows from how the load moved lately."""
    FORECAST = "Forecast"
    """The greatest load until then, as it follows from the time: what came a day or a week before, or a forecaster."""
    BACKLOG = "Backlog"
    """What waits in the engines."""
    HELD = "Held"
    """What was needed lately: a worker is given up only after that."""
    TOGETHER = "Together"
    """What both roles hold together for each other, where workers may change their role."""
    BOUND = "Bound"
    """A bound of the spec."""


@dataclass(frozen=True)
class Weighed:
    """The loads of one role that were weighed, as workers that they need.

    Attributes:
        now: for what arrives now.
        peak: for the greatest load within the lead.
        backlog: for what waits; 0 if that is nothing.
        kept: for the greatest of these, and the noise of the load: what a worker is given up by.
        held: the most that was needed lately.
        cause: which of them decided.
    """

    now: int
    peak: int
    backlog: int
    kept: int
    held: int
    cause: Cause

    @property
    def needed(self) -> int:
        """Workers that the load needs, before bounds."""
        return max(self.peak, self.backlog)


@dataclass(frozen=True)
class Together:
    """The loads of both roles together that were weighed, as workers that they need; with role switching alone.

    Attributes:
        needed: for the greatest load of both together until a worker that is started now serves, and what waits.
        kept: for that and the noise of the load: what a worker is given up by.
        held: the most that was needed lately.
    """

    needed: int
    kept: int
    held: int


@dataclass(frozen=True)
class Decision:
    """The target and everything that explains it.

    Attributes:
        prefill: target of prefill workers.
        decode: target of decode workers.
        reason: why, in one word.
        message: why, with the numbers.
        limited_by: bounds that bit, in the order in which they are applied.
        weighed: the loads that were weighed; None while the load is not known.
        planned_for: demand that each role was planned for, the last one while the load is not known; None before.
        expected: latency and attainment of that demand on the target, whose TTFT is infinite if the target is too small
            for the queue to end; None if the load is not known, or a role has no worker and the bounds allow none.
        infeasible: why no number of workers meets the objectives; "" if some number does.
        gpus: GPUs of the target.
        flips: workers that change from decode to prefill (negative: from prefill to decode); one that drains goes
            first. The target has them in the role that they come to.
        next_look_seconds: time until the next decision is due.
        remedies: by what each role gets the workers that it lacks; empty without role switching.
        together: what both roles need together; None without role switching, and while the load is not known.
    """

    prefill: int
    decode: int
    reason: Reason
    message: str
    limited_by: tuple[Bound, ...]
    weighed: PerRole[Weighed] | None
    planned_for: PerRole[Demand] | None
    expected: Expected | None
    infeasible: str
    gpus: int
    flips: int
    next_look_seconds: float
    remedies: tuple[Remedy, ...] = ()
    together: Together | None = None

    @property
    def pair(self) -> Pair:
        """Both targets."""
        return self.prefill, self.decode

    @property
    def needed(self) -> Pair | None:
        """Workers that the load needs, before bounds; None while it is not known."""
        return (self.weighed.prefill.needed, self.weighed.decode.needed) if self.weighed else None
