import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.autoscaler import Knob, Tuning
from dopd.planning import Objectives, Policy

ALLOWED, LEAD_SECONDS = 0.01, 75.0
IN_ORDER = Policy(objectives=Objectives(attainment=1 - ALLOWED), on_time_first=True)
AS_THEY_COME = replace(IN_ORDER, on_time_first=False)
shares = st.floats(0, 1)


def knob(miss: float | None = None, policy: Policy = IN_ORDER) -> Knob:
    one = Knob(Tuning(), miss)
    one.observe(policy, None, 0.0, LEAD_SECONDS)
    return one


def tell(
    one: Knob, late_share: float | None, seconds: float = 15.0, times: int = 1, policy: Policy = IN_ORDER
) -> float:
    for _ in range(times):
        one.observe(policy, late_share, seconds, LEAD_SECONDS)
    assert one.miss
    return one.miss


def test_before_the_first_look_nothing_is_known_but_what_was_stored():
    assert Knob(Tuning()).miss is None
    assert Knob(Tuning(), 0.1).miss == 0.1


def test_it_begins_where_as_many_are_late_as_may_be():
    """In order a shortage makes a fortieth late, and as they come half: so much more seldom may it be."""
    assert knob().miss == pytest.approx(ALLOWED / Tuning().late_when_missed)
    assert knob(policy=AS_THEY_COME).miss == pytest.approx(ALLOWED / Tuning().late_when_missed_fcfs)
    assert knob(policy=AS_THEY_COME).miss < knob().miss < 1
    stricter = replace(IN_ORDER, objectives=Objectives(attainment=0.999))
    assert knob(policy=stricter).miss == pytest.approx(knob().miss / 10)


def test_another_order_or_objective_moves_it_as_far_as_its_beginning():
    one = knob()
    fallen = tell(one, 1.0, times=5)
    share = fallen / knob().miss
    assert tell(one, None, policy=AS_THEY_COME) == pytest.approx(share * knob(policy=AS_THEY_COME).miss)
    assert tell(one, None) == pytest.approx(fallen)


def test_a_lead_in_which_all_are_late_divides_it_by_e():
    assert tell(knob(), 1.0, times=5) / knob().miss == pytest.approx(1 / math.e, rel=0.02)


def test_it_comes_up_again_in_a_hundred_calm_leads():
    one = knob()
    fallen = tell(one, 1.0, times=5)
    assert tell(one, 0.0, times=500) / fallen == pytest.approx(math.e, rel=0.01)


def test_in_the_long_run_as_many_are_late_as_may_be():
    """Whoever holds less is late more often: here, as often as is dared."""
    one, late = knob(), []
    for _ in range(50_000):
        late.append(one.miss)
        tell(one, one.miss)
    assert sum(late[-20_000:]) / 20_000 == pytest.approx(ALLOWED, rel=0.05)


@given(st.lists(shares, max_size=200))
def test_it_stays_within_its_bounds(late):
    one = knob()
    for share in late:
        tell(one, share, 30.0)
        assert Tuning().least_miss * 0.999 <= one.miss <= Tuning().most_miss * 1.001


def test_so_many_calm_days_dare_no_more_than_most_and_so_many_bad_ones_no_less_than_least():
    """Once at its end it comes back at once, however long that has lasted."""
    calm, bad = knob(), knob()
    assert tell(calm, 0.0, 30.0, 20_000) == pytest.approx(Tuning().most_miss)
    assert tell(calm, 1.0, 30.0) < Tuning().most_miss
    assert tell(bad, 1.0, 30.0, 2000) == pytest.approx(Tuning().least_miss)
    assert tell(bad, 0.0, 30.0) > Tuning().least_miss


@given(late=shares, more=shares)
def test_more_late_requests_never_raise_it(late, more):
    assert tell(knob(), max(late, more)) <= tell(knob(), min(late, more))


def test_nothing_moves_it_where_lateness_is_unknown_or_what_is_allowed():
    one = knob()
    before = one.miss
    assert tell(one, None) == before
    assert tell(one, ALLOWED) == before


def test_of_a_long_gap_nobody_knows_what_was_late():
    """Looks are up to half a minute apart: of that what was late counts in full, and of a longer gap no more."""
    assert tell(knob(), 0.5, 30.0) == pytest.approx(tell(knob(), 0.5, 15.0, times=2))
    assert tell(knob(), 0.5, 3600.0) == tell(knob(), 0.5, 60.0) == tell(knob(), 0.5, 30.0)


@pytest.mark.parametrize(("stored", "taken"), [(0.01, 0.01), (1.0, Tuning().most_miss), (1e-9, Tuning().least_miss)])
def test_it_goes_on_from_where_it_stood_within_its_bounds(stored, taken):
    assert knob(stored).miss == pytest.approx(taken)
    assert knob(0.0).miss == knob(None).miss
