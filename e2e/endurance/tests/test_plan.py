import random
from collections import Counter

import pytest

from e2e.endurance.plan import Kind, steps

COUNTS = {Kind.SCALE_DOWN: 7, Kind.REBALANCE: 3, Kind.FLIP: 2, Kind.ROLLOUT: 2, Kind.EVICTION: 1, Kind.NODE_DRAIN: 1}


@pytest.mark.parametrize("gpus", [4, 6, 16])
def test_as_many_of_each_as_asked_for_and_always_within_the_budget(gpus: int) -> None:
    found = steps(COUNTS, gpus=gpus, seed=3)
    assert Counter(step.kind for step in found) == COUNTS
    for step in found:
        assert sum(step.start) == gpus, "there is no GPU to spare when it begins"
        assert sum(step.end) <= gpus
        assert min(*step.start, *step.end) >= 1
    moves = (Kind.SCALE_DOWN, Kind.REBALANCE, Kind.FLIP)
    assert all(step.end != step.start for step in found if step.kind in moves)
    assert all(sum(step.end) == gpus for step in found if step.kind in (Kind.REBALANCE, Kind.FLIP))
    assert all(sum(step.end) < gpus for step in found if step.kind is Kind.SCALE_DOWN)


def test_the_same_seed_gives_the_same_steps_whatever_was_drawn_before() -> None:
    random.seed(5)
    first = steps(COUNTS, gpus=6, seed=24)
    random.seed(6)
    assert steps(COUNTS, gpus=6, seed=24) == first
    assert steps(COUNTS, gpus=6, seed=25) != first


def test_too_few_gpus_are_refused() -> None:
    with pytest.raises(ValueError, match="gpus is 3; expected at least 4"):
        steps(COUNTS, gpus=3, seed=1)
