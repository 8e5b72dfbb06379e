"""Search over the knobs of a policy: each run is chosen by what the runs before it gave.

A search is a generator: it yields what to run, is sent the result, and ends when it has seen enough. A run is given up
as soon as so many requests are late that it can not reach the objective any more, which is what makes searches
affordable: the runs that fail are the slow ones.
"""

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from dopd.planning.bounds import Pair
from dopd.replay.policies.base import ScalingPolicy
from dopd.replay.runner import NO_LIMITS, Limits, Result

NEARLY = 1.3
"""A run is given up when this many times as many requests are late as may be: one that fails narrowly with one seed may
succeed in the mean over several."""


@dataclass(frozen=True)
class Try:
    """One policy with one value of its knob.

    Attributes:
        label: the knob and its value; "" without a knob.
        start: counts at the beginning.
        policy: makes the policy; None for fixed counts.
    """

    label: str
    start: Pair
    policy: Callable[[], ScalingPolicy] | None


Search = Generator[Try, Result, None]
Step = Generator[Try, Result, bool]
"""A search that ends with whether the objective was reached."""


def explore(
    search: Search, serve: Callable[[Try, Limits], Result], attainment: float, requests: int
) -> list[tuple[Try, Result]]:
    """Run a search to its end.

    Args:
        search: what to run.
        serve: runs it, within limits.
        attainment: asked for.
        requests: of the trace.

    Returns:
        All runs in order, those that were given up, too; the one that came furthest is finished if none was.
    """
    limits = Limits(late=NEARLY * (1 - attainment) * requests + 10)
    found: list[tuple[Try, Result]] = []
    attempt = next(search, None)
    while attempt is not None:
        result = serve(attempt, limits)
        found.append((attempt, result))
        try:
            attempt = search.send(result)
        except StopIteration:
            attempt = None
    if found and all(result.stopped_seconds is not None for _, result in found):
        furthest = max(range(len(found)), key=lambda k: found[k][1].stopped_seconds or 0.0)
        found[furthest] = found[furthest][0], serve(found[furthest][0], NO_LIMITS)
    return found


def best(results: Sequence[tuple[Try, Result]], attainment: float) -> tuple[Try, Result]:
    """The cheapest run that reaches the attainment, else the one that comes nearest."""
    finished = [entry for entry in results if entry[1].stopped_seconds is None]
    reached = [entry for entry in finished if entry[1].attainment >= attainment]
    if reached:
        return min(reached, key=lambda entry: entry[1].gpu_hours)
    return max(finished, key=lambda entry: entry[1].attainment)


def listed(tries: Sequence[Try]) -> Search:
    """All of them, whatever they give."""
    for attempt in tries:
        _ = yield attempt


def attempt(one: Try, attainment: float) -> Step:
    """One run."""
    result = yield one
    return result.reaches(attainment)


def highest(step: Callable[[int], Step], low: int, end: int) -> Generator[Try, Result, int]:
    """The highest index in (low, end) that reaches the objective, by bisection; `low`, taken to reach it, if none does.

    What reaches it at an index is taken to reach it at all lower ones.
    """
    while end - low > 1:
        middle = (low + end) // 2
        if (yield from step(middle)):
            low = middle
        else:
            end = middle
    return low


def least(step: Callable[[int], Step], guess: int, least_tried: int, most: int) -> Generator[Try, Result, int | None]:
    """The least number in [least_tried, most] that reaches the objective, from a guess on; None if none does."""
    known: dict[int, bool] = {}

    def reached(number: int) -> Step:
        if number not in known:
            known[number] = yield from step(number)
        return known[number]

    low, high = least_tried - 1, max(least_tried, min(guess, most))
    while not (yield from reached(high)):
        if high >= most:
            return None
        low, high = high, min(most, max(high + 1, high * 6 // 5))
    width = max(1, high // 8)
    while high - low > 1:
        middle = max(high - width, (low + high) // 2)  # the guess is near: come down in steps before halving
        width *= 2
        if (yield from reached(middle)):
            high = middle
        else:
            low = middle
            width = high
    return high


def highest_pair(
    try_of: Callable[[int, int], Try], length: int, attainment: float
) -> Generator[Try, Result, tuple[int, int] | None]:
    """Indexes of two knobs of one role each, as high as the objective allows; None if none reaches it.

    First both together, then decode alone, then prefill alone: roles hardly hang together, so this is near the cheapest
    of all pairs in a dozen runs.
    """
    both = yield from highest(lambda k: attempt(try_of(k, k), attainment), -1, length)
    if both < 0:
        return None
    decode = yield from highest(lambda k: attempt(try_of(both, k), attainment), both, length)
    prefill = yield from highest(lambda k: attempt(try_of(k, decode), attainment), both, length)
    return prefill, decode
