"""What others would have used on a resource's own arrivals: fixed counts, an HPA, and who knows the load in advance.

Pure: a call that another process can do, since it takes minutes.
"""

from dataclasses import dataclass

from dopd.autoscaler import PastLoad
from dopd.replay.own_history import Variant, ground_of, replayed, trace_of
from dopd.replay.runner import Result
from dopd.replay.seeds import choose

OURS = "dopd"
OTHERS = {"static": "fixed", "hpa": "hpa", "hindsight": "optimum"}
"""Policies by the name under which they are told, and that of the replay's catalogue."""
POLICIES = (OURS, *OTHERS)


@dataclass(frozen=True)
class WouldHave:
    """What a policy would have used and attained.

    Attributes:
        gpu_hours: GPU time of all workers.
        attainment: share of the requests within both objectives.
        reaches: it meets spec.slo.attainment. Where none of its settings does, this is the one that comes nearest.
        setting: of its knobs; "" without any.
        requests: that were replayed.
    """

    gpu_hours: float
    attainment: float
    reaches: bool
    setting: str
    requests: int


def newest(past: tuple[PastLoad, ...], seconds: float, most_requests: float) -> float:
    """When the newest part of a past begins that is no longer than `seconds` and holds no more requests than that.

    Args:
        past: bins, oldest first, at least one; the newest is taken whatever it holds.
        seconds: that the part may be long.
        most_requests: that it may hold.

    Returns:
        A time on the clock of the bins.
    """
    end = past[-1].end_seconds
    begin, requests = end - past[-1].seconds, past[-1].demand.requests_per_second * past[-1].seconds
    for one in reversed(past[:-1]):
        requests += one.demand.requests_per_second * one.seconds
        if end - (one.end_seconds - one.seconds) > seconds + 1 or requests > most_requests:
            break
        begin = one.end_seconds - one.seconds
    return begin


def would_have(policy: str, variant: Variant, past: tuple[PastLoad, ...], begin_seconds: float) -> WouldHave:
    """A policy on the arrivals of the past from a time on.

    dopd runs under the resource's own spec. The others are held by none of its bounds: what a bound keeps dopd from
    shows as a difference. Their knobs are searched on these very arrivals, which flatters them: it is the cheapest
    setting that meets the objective.

    Args:
        policy: one of POLICIES.
        variant: the resource's spec, and what it runs on.
        past: bins, oldest first; those before the time are what dopd knows of earlier days.
        begin_seconds: on the clock of the bins.

    Raises:
        ValueError: no request, too many, or bounds that allow no pair of workers.
    """
    trace = trace_of(variant.name, past, begin_seconds)
    aim, knob = variant.objectives.attainment, ""
    if policy == OURS:
        before = tuple(one for one in past if one.end_seconds <= begin_seconds)
        result: Result = replayed(variant, trace, before, begin_seconds)
    else:
        chosen = choose(OTHERS[policy], [ground_of(variant, trace).seed(quiet=True)], aim)
        result, knob = chosen.result, chosen.knob
    return WouldHave(result.gpu_hours, result.attainment, result.reaches(aim), knob, len(trace))
