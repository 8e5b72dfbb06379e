from dataclasses import replace

import pytest

from dopd.replay.equal_hours import FEWEST_LATE, MOST_LATE, RUNS, at_gpu_hours, nearest
from dopd.replay.runner import Result

RESULT = Result(0.99, 0.99, 1.0, 10.0, 1.0, 1.0, 0.01, 1.0, 0, 0, 0, ((0.0, 1, 1),))


def spends(attainment):
    """The more may be late, the less it costs: 10 GPU-hours at 1 %, none below 5."""
    return replace(RESULT, gpu_hours=max(5.0, 10.0 * (0.01 / (1 - attainment)) ** 0.2))


@pytest.mark.parametrize("hours", [6.0, 7.5, 9.99, 12.0])
def test_the_search_ends_close_below_the_hours_of_the_peer(hours):
    runs = at_gpu_hours(hours, spends(0.99), 0.99, spends)
    attainment, result = nearest(hours, runs)
    assert 0.97 * hours <= result.gpu_hours <= hours
    assert len(runs) <= RUNS + 1
    assert FEWEST_LATE <= 1 - attainment <= MOST_LATE


def test_hours_that_dopd_never_comes_down_to_give_its_cheapest_run():
    assert nearest(3.0, at_gpu_hours(3.0, spends(0.99), 0.99, spends))[1].gpu_hours == 5.0


def test_nothing_is_run_where_the_hours_are_equal_already():
    def never(attainment):
        raise AssertionError

    assert at_gpu_hours(10.0, spends(0.99), 0.99, never) == [(0.99, spends(0.99))]
