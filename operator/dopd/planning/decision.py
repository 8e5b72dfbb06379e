"""What a plan is made from and what it says."""

import math
from dataclasses import dataclass
from enum import StrEnum

from dopd.api.names import Role
from dopd.planning.bounds import Bound, Pair
from dopd.planning.demand import Demand
from dopd.planning.sizing import Expected
from dopd.planning.surprise import FIRST_CAUTION, LoadSample


@dataclass(frozen=True)
class Workers:
    """Workers of one role as they are now, and what waits for them.

    Attributes:
        serving: get requests.
        starting: will serve; counted as supply.
        draining: finish what they run and get nothing new.
        unschedulable: of the starting ones, those that no node has room for.
        waiting_tokens: uncached prompt tokens that wait for prefill, all workers together; None if unknown.
        waiting_tokens_growth: tokens per second by which that grows look after look; 0 if it does not.
        waiting_requests: requests that wait for a decode slot, all workers together; None if unknown.
        kv_use: share of the KV cache that is in use, mean over workers, 0 to 1; None if unknown.
    """

    serving: int
    starting: int = 0
    draining: int = 0
    unschedulable: int = 0
    waiting_tokens: float | None = None
    waiting_tokens_growth: float = 0.0
    waiting_requests: float | None = None
    kv_use: float | None = None

    def __post_init__(self) -> None:
        _refuse_odd_numbers("workers", self)

    @property
    def supply(self) -> int:
        """Workers that serve or will."""
        return self.serving + self.starting


@dataclass(frozen=True)
class Observation:
    """The model's load and workers at one time.

    Attributes:
        demand: load now; None if telemetry failed, which is not the same as no load.
        prefill: prefill workers.
        decode: decode workers.
        late_share: share of the requests since the last measurement that missed an objective; None if unknown.
        ttft_seconds: mean time to first token since the last measurement; None if unknown.
        window_seconds: over which the demand was measured; None if unknown: then it is taken to be free of noise.
        measured_at_seconds: time of the measurement, which may have served for plans before; None: now.
    """

    demand: Demand | None
    prefill: Workers
    decode: Workers
    late_share: float | None = None
    ttft_seconds: float | None = None
    window_seconds: float | None = None
    measured_at_seconds: float | None = None

    def __post_init__(self) -> None:
        _refuse_odd_numbers("observation", self)


@dataclass(frozen=True)
class Forecast:
    """Demand that each role will meet when a worker started now begins to serve, at the policy's quantile."""

    prefill: Demand
    decode: Demand

    def of(self, role: Role) -> Demand:
        """What one role will meet."""
        return self.prefill if role is Role.PREFILL else self.decode


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
    NO_ROOM = "NoRoom"
    """The bounds contradict each other; the previous target is held."""


@dataclass(frozen=True)
class Want:
    """What one plan needed; kept for the stabilisation window.

    Attributes:
        at_seconds: when.
        with_headroom: workers of each role for what arrived, what waited and the headroom.
        held: for the load and the least headroom, without margin and backlog.
    """

    at_seconds: float
    with_headroom: Pair
    held: Pair


@dataclass(frozen=True)
class Learnt:
    """What plans have learnt of the load and of what clients meet; each hands it to the next.

    Attributes:
        history: load of the last hour.
        wait_factor: measured waiting for prefill over that of the model, smoothed.
        caution: how many typical moves of the load a plan adds; measured lateness moves it.
        error_budget: late requests saved so far, as a share of what it takes to do without a margin; negative: a debt.
        measured_at_seconds: time of the newest measurement in it; None before the first.
    """

    history: tuple[LoadSample, ...] = ()
    wait_factor: float = 1.0
    caution: float = FIRST_CAUTION
    error_budget: float = 0.0
    measured_at_seconds: float | None = None


@dataclass(frozen=True)
class Decision:
    """The target and everything that explains it. Hand it to the next plan as `previous`.

    Attributes:
        prefill: target of prefill workers.
        decode: target of decode workers.
        reason: why, in one word.
        message: why, with the numbers.
        limited_by: bounds that bit, in the order in which they are applied.
        needed: workers that the load needs, before bounds; None if not computed.
        forecast_used: the forecast asked for more than the load of now with its margin.
        demand_prefill: demand that prefill was planned for, the last one while telemetry fails; None before the first.
        demand_decode: the same for decode.
        expected: latency and attainment of that demand on the target, whose TTFT is infinite if the target is too small
            for the queue to end; None if telemetry failed, or a role has no worker and the bounds allow none.
        infeasible: why no number of workers meets the objectives; "" if some number does.
        gpus: GPUs of the target.
        flips: workers that could change from decode to prefill (negative: from prefill to decode) instead of being
            stopped and started.
        next_look_seconds: time until the next plan is due.
        watching_since_seconds: time of the first plan of an unbroken sequence.
        recent: what recent plans needed.
        learnt: what the next plan starts from.
        blind_since_seconds: since when the load is not known; None while it is.
    """

    prefill: int
    decode: int
    reason: Reason
    message: str
    limited_by: tuple[Bound, ...]
    needed: Pair | None
    forecast_used: bool
    demand_prefill: Demand | None
    demand_decode: Demand | None
    expected: Expected | None
    infeasible: str
    gpus: int
    flips: int
    next_look_seconds: float
    watching_since_seconds: float
    recent: tuple[Want, ...]
    learnt: Learnt
    blind_since_seconds: float | None = None


def _refuse_odd_numbers(what: str, fields: Workers | Observation) -> None:
    """Refuse what can not have been measured.

    Raises:
        ValueError: a number is negative, infinite or NaN.
    """
    for name, value in vars(fields).items():
        if isinstance(value, int | float) and not (math.isfinite(value) and value >= 0):
            raise ValueError(
                f"{what}: {name} is {value}; expected a finite number >= 0. Pass None for what could not be measured"
            )
