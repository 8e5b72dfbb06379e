"""What cumulative histograms tell of the values behind them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.telemetry.histograms import second_moment, share_above

VALUES = st.lists(st.floats(1, 1e4), min_size=1, max_size=200)
BOUNDS = [2.0**i for i in range(15)]


def histogram(values: list[float]) -> dict[float, float]:
    return {bound: float(sum(v <= bound for v in values)) for bound in (*BOUNDS, math.inf)}


@given(VALUES)
def test_second_moment_is_near_that_of_the_values(values: list[float]):
    mean = sum(values) / len(values)
    exact = sum(v * v for v in values) / len(values)
    assert mean * mean <= second_moment(histogram(values), mean) <= 2 * exact


def test_second_moment_without_buckets_is_that_of_equal_values():
    assert second_moment({}, 10.0) == 100.0


@given(VALUES, st.sampled_from(BOUNDS))
def test_the_share_above_a_bound_is_exact(values: list[float], limit: float):
    assert share_above(histogram(values), limit) == pytest.approx(sum(v > limit for v in values) / len(values))


@given(VALUES, st.floats(0.1, 2e4), st.floats(0.1, 2e4))
def test_the_share_above_falls_with_the_limit(values: list[float], one: float, other: float):
    low, high = sorted((one, other))
    below, above = share_above(histogram(values), low), share_above(histogram(values), high)
    assert below is not None
    assert above is not None
    assert 1 >= below >= above - 1e-12 >= -1e-12


def test_no_values_have_no_share():
    assert share_above({}, 1.0) is None
    assert share_above({1.0: 0.0, math.inf: 0.0}, 1.0) is None


ODD = st.dictionaries(
    st.one_of(st.floats(allow_nan=False), st.sampled_from([0.0, 1.0, 1e308, -1.0, math.inf])),
    st.one_of(st.floats(-1, 1e15), st.just(1e-300)),
    max_size=8,
)


@given(ODD, st.floats(0, 1e9))
def test_odd_buckets_give_numbers_all_the_same(buckets: dict[float, float], mean: float):
    moment = second_moment(buckets, mean)
    assert math.isfinite(moment)
    assert moment >= 0
    share = share_above(buckets, 1.0)
    assert share is None or 0 <= share <= 1
