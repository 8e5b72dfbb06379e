"""One policy on one load over several seeds: knobs are searched with the first, and what is told is the mean.

A run with a seed has arrivals, lengths, the gateway's draws and all that its world disturbs drawn anew. What knows the
future is searched anew with each seed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from dopd.replay.policies.catalogue import HINDSIGHT, OURS
from dopd.replay.runner import NO_LIMITS, Limits, Result
from dopd.replay.search import Search, Try, best, explore

MOST_CANDIDATES = 4
"""Runs, cheapest first, that are tried with the other seeds until one reaches the objective in the mean."""
NEAR = 0.003
"""A run that misses the objective by no more with the first seed is one of them."""


@dataclass(frozen=True)
class Seed:
    """One draw of a load.

    Attributes:
        number: of the seed.
        requests: of the trace.
        search: for the name of a policy what to run.
        serve: runs it.
    """

    number: int
    requests: int
    search: Callable[[str], Search]
    serve: Callable[[Try, Limits], Result]


@dataclass(frozen=True)
class Chosen:
    """What a policy attained.

    Attributes:
        knob: its value.
        result: means over the seeds; what is no number is that of the first.
        seeds: results by seed, in their order.
        tries: knob and result of all runs with the first seed.
    """

    knob: str
    result: Result
    seeds: tuple[Result, ...]
    tries: tuple[tuple[str, Result], ...]

    @classmethod
    def of(cls, tried: Sequence[tuple[str, Result]], attainment: float) -> "Chosen":
        """The best of runs with one seed."""
        attempt, result = best([(Try(label, (0, 0), None), result) for label, result in tried], attainment)
        return cls(attempt.label, result, (result,), tuple(tried))


def choose(name: str, seeds: Sequence[Seed], attainment: float) -> Chosen:
    """Search a policy's knob and run it with all seeds."""
    first, *others = seeds
    give_up_below = 0.0 if name in OURS else attainment  # what has no knob is run to its end
    found = explore(first.search(name), first.serve, give_up_below, first.requests)
    tries = tuple((attempt.label, result) for attempt, result in found)
    if name in HINDSIGHT:
        each = [best(found, attainment)]
        each += [best(explore(s.search(name), s.serve, attainment, s.requests), attainment) for s in others]
        results = [result for _, result in each]
        return Chosen(each[0][0].label, mean(results), tuple(results), tries)
    candidates = [(attempt, [result]) for attempt, result in _candidates(found, attainment)]
    for attempt, results in candidates:
        results += [seed.serve(attempt, NO_LIMITS) for seed in others]
        if mean(results).attainment >= attainment:
            break
    else:
        attempt, results = max(candidates, key=lambda entry: mean(entry[1]).attainment)
    return Chosen(attempt.label, mean(results), tuple(results), tries)


def _candidates(found: list[tuple[Try, Result]], attainment: float) -> list[tuple[Try, Result]]:
    """The cheapest runs that reach the objective or nearly do; the nearest one where none does."""
    near = [entry for entry in found if entry[1].stopped_seconds is None and entry[1].attainment >= attainment - NEAR]
    if not near:
        return [best(found, attainment)]
    near.sort(key=lambda entry: entry[1].gpu_hours)
    surest = [entry for entry in near if entry[1].attainment >= attainment]
    return (near[: MOST_CANDIDATES - 1] + (surest or near)[:1]) if len(near) > MOST_CANDIDATES else near


def mean(results: Sequence[Result]) -> Result:
    """Means of all figures."""
    if len(results) == 1:
        return results[0]
    means = {
        field.name: float(np.mean([getattr(result, field.name) for result in results]))
        for field in fields(Result)
        if isinstance(getattr(results[0], field.name), (int, float))
    }
    return replace(results[0], **means)  # type: ignore[arg-type]


def spread(results: Sequence[Result], name: str) -> tuple[float, float]:
    """The least and the greatest of a figure over the seeds."""
    values = [float(getattr(result, name)) for result in results]
    return (min(values), max(values)) if values else (math.nan, math.nan)
