from dataclasses import replace

import pytest

from dopd.replay.equal_hours import at_gpu_hours, nearest
from dopd.replay.runner import Result

RESULT = Result(0.99, 0.99, 1.0, 20.0, 1.0, 1.0, 0.01, 1.0, 0, 0, 0, ((0.0, 3, 1), (60.0, 20, 10)))


def spends(budget):
    """A day's load of which a budget cuts the peaks: nothing below 4 GPUs, all of it from 120 on."""
    return replace(RESULT, gpu_hours=min(20.0, budget / 6))


@pytest.mark.parametrize("hours", [3.0, 7.5, 19.9])
def test_the_greatest_budget_within_the_hours_of_the_peer_is_found(hours):
    runs = at_gpu_hours(hours, RESULT, 4, spends)
    budget, result = nearest(hours, runs)
    assert result.gpu_hours <= hours < spends(budget + 4).gpu_hours
    assert len(runs) <= 6


def test_hours_that_dopd_never_comes_down_to_give_its_cheapest_run():
    assert nearest(0.5, at_gpu_hours(0.5, RESULT, 4, spends))[0] == 8, "a worker of each role is the least"


def test_no_budget_is_needed_where_dopd_costs_no_more_anyway():
    def never(budget):
        raise AssertionError

    assert at_gpu_hours(25.0, RESULT, 4, never) == [(None, RESULT)]
