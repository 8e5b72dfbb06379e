"""What of a history is believed."""

from hypothesis import given
from hypothesis import strategies as st

from dopd.autoscaler.past import FALSE_RISE, PastLoad, believable
from dopd.planning import Demand


def past(*rates: float) -> list[PastLoad]:
    return [PastLoad(60.0 * i, 60.0, Demand(rate, 1000.0, 2e6, 200.0)) for i, rate in enumerate(rates)]


def test_a_bin_far_above_all_around_it_is_left_out_and_no_other():
    loads = past(10, 12, 60_000, 11, 9)
    assert believable(loads) == [*loads[:2], *loads[3:]]


def test_a_burst_out_of_silence_is_a_load():
    loads = past(0, 0, 0, 40, 0, 0)
    assert believable(loads) == loads


def test_a_rise_that_stays_is_believed_but_not_before_the_next_bin():
    loads = past(1, 1, 1, 500)
    assert believable(loads) == loads[:3]
    loads = past(1, 1, 1, 500, 480)
    assert believable(loads) == loads


@given(st.lists(st.floats(1, FALSE_RISE), max_size=30))
def test_loads_within_a_hundredfold_are_all_believed(rates: list[float]):
    assert believable(past(*rates)) == past(*rates)
