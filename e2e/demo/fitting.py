"""What a trace asks of the demo's engines, computed offline by the operator's own planning.

It chose the figures of the demo's EngineProfile, and it thins another trace until the demo's workers can carry it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from dopd.perf import EngineModel
from dopd.planning import Demand, Policy, size
from e2e.load import Arrival, Schedule

BIN_SECONDS = 12.0
"""Load is averaged over so many seconds of the clock: a minute of the trace at the demo's speed."""
MOST_REQUESTS_PER_SECOND = 40.0
"""What two cores carry, of the clock."""
LONGEST_TOKENS = 120_000
"""Prompt and answer of one request; an engine's context ends at 131,072."""
_THINNER = 0.9


@dataclass(frozen=True)
class Need:
    """What one stretch of a schedule needs.

    Attributes:
        at_seconds: its start.
        demand: its load, in time of the clock.
        prefill: prefill workers that meet the objectives.
        decode: decode workers that meet them.
    """

    at_seconds: float
    demand: Demand
    prefill: int
    decode: int


def needs(schedule: Schedule, model: EngineModel, policy: Policy) -> list[Need]:
    """Workers that each stretch of a schedule needs, if its load lasted."""
    return list(_needs(schedule, model, policy))


def _needs(schedule: Schedule, model: EngineModel, policy: Policy) -> Iterator[Need]:
    for number, group in groupby(schedule, key=lambda arrival: arrival.at_seconds // BIN_SECONDS):
        demand = _demand(list(group))
        found = size(demand, model, policy.objectives, policy.prefill.gpus, policy.decode.gpus)
        yield Need(number * BIN_SECONDS, demand, found.prefill, found.decode)


def _demand(arrivals: list[Arrival]) -> Demand:
    count = len(arrivals)
    return Demand(
        requests_per_second=count / BIN_SECONDS,
        input_tokens=sum(a.input_tokens for a in arrivals) / count,
        input_tokens_second_moment=sum(a.input_tokens**2 for a in arrivals) / count,
        output_tokens=sum(a.output_tokens for a in arrivals) / count,
    )


def fit(schedule: Schedule, model: EngineModel, policy: Policy) -> tuple[Schedule, float]:
    """Thin a schedule until the most workers of the policy carry it; returns it and the share of requests kept."""
    share = 1.0
    fitting = schedule
    while not all(_carried(need, policy) for need in needs(fitting, model, policy)):
        share *= _THINNER
        fitting = schedule.scaled(share)
    return fitting, share


def _carried(need: Need, policy: Policy) -> bool:
    within = need.prefill <= policy.prefill.max and need.decode <= policy.decode.max
    return within and need.demand.requests_per_second <= MOST_REQUESTS_PER_SECOND


def without_longest(schedule: Schedule) -> Schedule:
    """The requests that one engine can hold."""
    held = tuple(a for a in schedule if a.input_tokens + a.output_tokens <= LONGEST_TOKENS)
    return Schedule(held, schedule.speedup)
