"""The loads that lie ahead of one role: what it is sized for, and what must still fit before a worker is given up."""

from dataclasses import dataclass

from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning.decision import Forecast, Learnt, Observation
from dopd.planning.demand import Demand
from dopd.planning.level import as_measured, level
from dopd.planning.policy import Policy
from dopd.planning.sizing import Load
from dopd.planning.surprise import LoadSample, move_from, rise, sampling_noise, typical_move

ROOM_MOVES, ROOM_SECONDS = 2.2, 75.0
"""A worker is given up only if the load, grown by so many of its typical moves within so many seconds, would have
fitted on the rest at every look of the stabilization window. The window has seen what the load does within a start-up
time; the room is for what it does until a rise is seen. The noise of measuring counts here: it would ask for the
worker again. What the error budget pays for needs no room."""


@dataclass(frozen=True)
class Ahead:
    """Demands that one role may meet by the time a worker started now serves.

    Attributes:
        now: the load of now.
        grown: the load of now and its margin.
        forecast: what is forecast; None if no forecast is trusted.
        roomy: what the rest must carry if a worker is given up.
        held: the load of now and the least headroom; what workers are held for in debt.
    """

    now: Demand
    grown: Demand
    forecast: Demand | None
    roomy: Demand
    held: Demand

    @property
    def all(self) -> tuple[Demand, ...]:
        """What the role is sized for: the greatest need counts."""
        return (self.now, self.grown) if self.forecast is None else (self.now, self.grown, self.forecast)


def ahead(
    role: Role,
    observation: Observation,
    load: Load,
    forecast: Forecast | None,
    learnt: Learnt,
    trusted: float,
    model: EngineModel,
    policy: Policy,
) -> Ahead:
    """The loads ahead of a role.

    Args:
        role: which.
        observation: of which the demand is known.
        load: that demand on an engine.
        forecast: demand at each role's lead time; None if there is none to be trusted.
        learnt: how the load moved, and how cautious to be; with this observation in it.
        trusted: how much of the margin the error budget stands in for (`error_budget.trust`).
        model: performance of one engine.
        policy: objectives and bounds.
    """
    assert observation.demand is not None
    assert learnt.measured_at_seconds is not None
    times, loads = [sample.at_seconds for sample in learnt.history], [sample.of(role) for sample in learnt.history]
    lead = model.startup_seconds[role] + policy.interval_seconds
    window_seconds = observation.window_seconds or 0.0
    noise = _noise(role, observation.demand, load, window_seconds)
    known = as_measured(noise)
    if learnt.error_budget >= 0:  # what has surprised lately does not stand still, whatever it did since
        known = level(learnt.history, load_sample(load, learnt.measured_at_seconds), role, noise, window_seconds)
    growth = learnt.caution * move_from(typical_move(times, loads, lead), noise, known.noise)
    if not known.flat:
        growth = max(growth, rise(times, loads, lead))
    room_moves = (1 - trusted) * ROOM_MOVES * typical_move(times, loads, ROOM_SECONDS)
    now = observation.demand.scaled(known.share)
    return Ahead(
        now=now,
        grown=now.scaled(1 + growth),
        forecast=forecast.of(role).scaled(known.work_share) if forecast else None,
        roomy=now.scaled(1 + max(policy.scale_down_headroom, room_moves)),
        held=now.scaled(1 + policy.scale_down_headroom),
    )


def load_sample(load: Load, at_seconds: float) -> LoadSample:
    """What is remembered of a load."""
    prefill, decode = load.prefill, load.decode
    return LoadSample(at_seconds, prefill.busy_workers, decode.busy_workers, prefill.requests_per_second)


def _noise(role: Role, demand: Demand, load: Load, window_seconds: float) -> float:
    """How far the measured load may be from the load, as it is that of the requests of a short window."""
    squared_cv = load.prefill.squared_cv if role is Role.PREFILL else demand.output_tokens_squared_cv
    return sampling_noise(demand.requests_per_second * window_seconds, squared_cv)
