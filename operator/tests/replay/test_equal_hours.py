from dataclasses import replace

import pytest

from dopd.replay.equal_hours import RUNS, at_gpu_hours, certain_budget, mean_budget, most_attained
from dopd.replay.runner import Result

RESULT = Result(0.99, 0.99, 1.0, 20.0, 1.0, 1.0, 0.01, 1.0, 0, 0, 0, ((0.0, 1, 1),))


def spends(share):
    """In proportion to the load that is told, and never below what a worker of each role costs."""
    return replace(RESULT, gpu_hours=max(9.0, 20.0 * share))


@pytest.mark.parametrize("hours", [10.0, 13.7, 19.9, 24.0])
def test_the_search_ends_close_below_the_hours_of_the_peer(hours):
    runs = at_gpu_hours(hours, RESULT, spends)
    assert any(0.99 * hours <= result.gpu_hours <= hours for _, result in runs)
    assert len(runs) <= RUNS + 1


def test_the_best_run_is_the_one_that_attains_most_of_those_that_cost_no_more():
    runs = [
        ("dear", RESULT),
        ("good", replace(RESULT, gpu_hours=9.0, attainment=0.9)),
        ("poor", replace(RESULT, gpu_hours=9.5, attainment=0.8)),
    ]
    assert most_attained(10.0, runs) == runs[1]
    assert most_attained(5.0, runs) is None


def test_nothing_is_run_where_the_hours_are_equal_already():
    def never(share):
        raise AssertionError

    assert at_gpu_hours(20.05, RESULT, never) == [(1.0, RESULT)]


def test_a_certain_budget_costs_no_more_even_if_it_is_used_all_the_time():
    assert certain_budget(15.71, 3540.0, 1) == 15
    assert certain_budget(100.0, 6 * 3600.0, 4) == 16
    assert certain_budget(0.1, 3600.0, 1) == 2, "a worker of each role"


def test_the_mean_budget_is_the_next_whole_one_that_holds_the_mean():
    assert mean_budget(219.52, 24 * 3600.0, 4) == 12
    assert mean_budget(24.0, 6 * 3600.0, 1) == 4
    assert mean_budget(0.1, 3600.0, 1) == 2, "a worker of each role"
