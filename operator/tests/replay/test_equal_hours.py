import math
from dataclasses import replace

import pytest

from dopd.replay.equal_hours import RUNS, at_gpu_hours, gpu_budget, most_attained
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


@pytest.mark.parametrize(
    ("gpu_hours", "trace_seconds", "gpus", "certain", "mean"),
    [(15.71, 3540.0, 1, 15, 16), (100.0, 6 * 3600.0, 4, 16, 20), (24.0, 6 * 3600.0, 1, 4, 4), (0.1, 3600.0, 1, 2, 2)],
)
def test_a_budget_is_of_whole_workers_and_has_one_of_each_role(gpu_hours, trace_seconds, gpus, certain, mean):
    assert gpu_budget(gpu_hours, trace_seconds, gpus, math.floor) == certain
    assert gpu_budget(gpu_hours, trace_seconds, gpus, math.ceil) == mean
