import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning import Demand


@given(mean=st.floats(1, 50_000), cv=st.floats(0, 3), share=st.floats(0.01, 1))
def test_prompt_lengths_are_a_distribution_with_the_mean_of_the_uncached_tokens(mean, cv, share):
    lengths = Demand(1, mean, mean**2 * (1 + cv**2), 100, share).prompt_lengths()
    assert sum(p for p, _ in lengths) == pytest.approx(1)
    assert sum(p * tokens for p, tokens in lengths) == pytest.approx(mean * share)
    assert [tokens for _, tokens in lengths] == sorted(tokens for _, tokens in lengths)


def test_prompt_lengths_keep_most_of_the_variance():
    lengths = Demand(1, 1000, 2_000_000, 100).prompt_lengths()
    assert 1.75e6 < sum(p * tokens**2 for p, tokens in lengths) <= 2e6


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_a_demand_of_no_number_is_refused_by_name(value):
    with pytest.raises(ValueError, match="input_tokens"):
        Demand(1.0, value, 1.0, 1.0)


def test_running_requests_hold_their_prompt_and_what_they_generated_when_met():
    constant = Demand(1, 1000, 1e6, 200, output_tokens_second_moment=200**2)
    exponential = Demand(1, 1000, 1e6, 200)
    assert constant.running_context_tokens == 1100
    assert exponential.running_context_tokens == 1200


def test_no_traffic_is_a_demand():
    assert Demand.none().requests_per_second == 0
    assert Demand.none().prompt_lengths() == ((1.0, 0.0),)
