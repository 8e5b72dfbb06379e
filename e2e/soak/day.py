"""The working day: how many requests come when. Pure."""

import random
from itertools import pairwise

from e2e.endurance.engines import Engines
from e2e.load import Arrival, Schedule

DAY = ((0.0, 2.0), (0.1, 3.0), (0.3, 9.0), (0.42, 8.5), (0.52, 5.0), (0.62, 8.0), (0.8, 7.0), (0.92, 3.0), (1.0, 2.0))
"""(share of the day, requests a second of the clock): a slow start, a busy morning, noon, an afternoon that ebbs away.
What two cores carry sets the top."""
GREATEST_RATE = max(rate for _, rate in DAY)


def rate_at(share: float) -> float:
    """Mean requests a second at this share of the day, straight between the points of `DAY`.

    Args:
        share: 0 is its beginning, 1 its end.
    """
    for (left, before), (right, after) in pairwise(DAY):
        if share <= right:
            return before + (after - before) * (max(share, left) - left) / (right - left)
    return DAY[-1][1]


def arrivals(engines: Engines, seconds: float, seed: int) -> Schedule:
    """A day of independent arrivals, of prompts and answers of all lengths that the engines are sent.

    Args:
        engines: what they are sent to.
        seconds: that the day takes, of the clock.
        seed: of times and lengths.
    """
    chance, at, found = random.Random(seed), 0.0, []
    while (at := at + chance.expovariate(GREATEST_RATE)) < seconds:
        if chance.random() * GREATEST_RATE < rate_at(at / seconds):  # thinned to the rate of the hour
            found.append(Arrival(at, chance.randint(*engines.prompt_tokens), chance.randint(*engines.answer_tokens)))
    return Schedule(tuple(found))
