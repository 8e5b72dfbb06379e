"""The error budget: earned slowly, spent at once; a debt takes back what it allowed, and more."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.error_budget import MOST_LATE, SURPRISES, allowed_late, earned, trust

LEAD_SECONDS = 75.0
looks = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 60)), max_size=60)


def after(looks, allowed=0.01, lead_seconds=LEAD_SECONDS):
    budget = 0.0
    for late_share, seconds in looks:
        budget = earned(budget, late_share, allowed, seconds, lead_seconds)
    return budget


def test_a_full_budget_pays_for_its_surprises():
    calm = SURPRISES * LEAD_SECONDS / 0.01
    assert after([(0.0, calm)]) == pytest.approx(1.0)
    assert after([(0.0, calm), (1.0, SURPRISES * LEAD_SECONDS)]) == pytest.approx(0.01)


def test_slower_workers_and_stricter_objectives_take_longer_to_earn_it():
    looks = [(0.0, 60.0)] * 60
    assert after(looks) > after(looks, lead_seconds=195.0) > after(looks, allowed=0.001, lead_seconds=195.0) > 0


def test_what_nobody_measured_earns_nothing():
    assert earned(0.3, None, 0.01, 60.0, LEAD_SECONDS) == 0.3


def test_a_debt_is_paid_back_first():
    debt = after([(1.0, 60.0)])
    assert debt < 0
    assert trust(debt) < 0.0
    assert allowed_late(0.01, trust(debt)) == 0.01
    calm = (60.0 * 0.99) / 0.01
    assert after([(1.0, 60.0), (0.0, calm)]) == pytest.approx(0.0, abs=1e-9)


@given(looks=looks)
def test_as_many_late_as_are_allowed_earn_nothing(looks):
    assert after([(0.01, seconds) for _, seconds in looks]) == 0.0


@given(looks=looks, late=st.floats(0, 1), seconds=st.floats(0, 60))
def test_the_later_the_less_is_left(looks, late, seconds):
    assert -1 <= after([*looks, (1.0, seconds)]) <= after([*looks, (late, seconds)]) <= 1


@given(allowed=st.floats(0.0001, 0.5), less=st.floats(-1, 1), more=st.floats(-1, 1))
def test_more_trust_allows_more_late_requests_and_never_fewer_than_the_objective(allowed, less, more):
    less, more = sorted((less, more))
    assert allowed <= allowed_late(allowed, less) <= allowed_late(allowed, more) <= max(allowed, MOST_LATE)
