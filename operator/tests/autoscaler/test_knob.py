from hypothesis import given
from hypothesis import strategies as st

from dopd.autoscaler import Knob, Tuning

ALLOWED, LEAD_SECONDS = 0.01, 75.0
shares = st.floats(0, 1)


def knob() -> Knob:
    return Knob(Tuning(), ALLOWED, LEAD_SECONDS)


def test_a_lead_in_which_all_are_late_divides_it_by_e():
    one = knob()
    for _ in range(5):
        one.observe(1.0, 15.0)
    assert 0.36 < one.miss / Tuning().first_miss < 0.38


def test_it_comes_up_again_in_a_hundred_calm_leads():
    one = knob()
    for _ in range(5):
        one.observe(1.0, 15.0)
    fallen = one.miss
    for _ in range(500):
        one.observe(0.0, 15.0)
    assert 2.7 < one.miss / fallen < 2.72


@given(st.lists(shares, max_size=200))
def test_it_stays_within_its_bounds(late):
    one = knob()
    for share in late:
        one.observe(share, 15.0)
        assert Tuning().least_miss * 0.999 <= one.miss <= Tuning().most_miss * 1.001


@given(late=shares, more=shares)
def test_more_late_requests_never_raise_it(late, more):
    fewer, others = knob(), knob()
    fewer.observe(min(late, more), 15.0)
    others.observe(max(late, more), 15.0)
    assert others.miss <= fewer.miss


def test_nothing_moves_it_where_lateness_is_unknown_or_what_is_allowed():
    one = knob()
    before = one.miss
    one.observe(None, 15.0)
    one.observe(ALLOWED, 15.0)
    assert one.miss == before


def test_of_a_long_gap_nobody_knows_what_was_late():
    one, other = knob(), knob()
    one.observe(1.0, 30.0)
    other.observe(1.0, 3600.0)
    assert one.miss == other.miss
