"""A spare worker of one role as supply of the other: how both are divided, and by what a role gets what it lacks."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.planning import PerRole, Policy, RoleBounds, Workers
from dopd.planning.switching import NO_SWITCHING, Means, Remedy, divide, flips_of, remedies, seconds_into

BOTH, POLICY = PerRole(11.0, 11.0), Policy(prefill=RoleBounds(1, 40), decode=RoleBounds(1, 40), role_switching=True)

pairs = st.tuples(st.integers(1, 30), st.integers(1, 30))
ways = st.builds(PerRole, st.sampled_from([None, 11.0]), st.sampled_from([None, 11.0]))


@st.composite
def fleets(draw):
    def role():
        draining, starting = draw(st.integers(0, 4)), draw(st.integers(0, 6))
        return Workers(
            serving=draw(st.integers(0, 20)),
            starting=starting,
            draining=draining,
            returning=draw(st.integers(0, draining)),
            unschedulable=draw(st.integers(0, starting)),
        )

    return PerRole(role(), role())


def serving(prefill: int, decode: int) -> PerRole[Workers]:
    return PerRole(Workers(prefill), Workers(decode))


@given(total=st.integers(0, 60), wanted=pairs, before=pairs, even=pairs, fleet=fleets(), into=ways)
def test_all_that_is_held_is_divided_and_nobody_moves_who_does_not_have_to(total, wanted, before, even, fleet, into):
    pair = divide(total, wanted, before, even, fleet, into, POLICY)
    assert sum(pair) == max(sum(wanted), min(total, 80))
    for i in range(2):
        if pair[i] > before[i] and pair[1 - i] < before[1 - i]:
            assert pair[i] <= wanted[i], "a worker changes its role only for one that is needed"
    for i, role in enumerate(Role):
        if pair[i] < wanted[i]:  # only as the other role can give no more by now
            giver = fleet[role.other]
            assert before[1 - i] - pair[1 - i] >= max(0, giver.serving + giver.unschedulable - max(1, wanted[1 - i]))


@pytest.mark.parametrize(
    ("total", "wanted", "before", "expected"),
    [
        (6, (2, 2), (4, 2), (4, 2)),  # held as it stands: no role is given up for nothing
        (6, (2, 3), (4, 2), (3, 3)),  # growth takes what the other role holds beyond its need
        (6, (2, 2), (1, 5), (2, 4)),  # as many flips as the need asks for, and no more
        (8, (2, 2), (2, 2), (4, 4)),  # what is new goes where there is the least room
        (8, (2, 6), (4, 2), (2, 6)),
        (4, (3, 4), (4, 2), (3, 4)),  # a role's own need counts, whatever both were planned for together
        (3, (1, 1), (4, 2), (2, 1)),  # given up is what leaves the most even room
    ],
)
def test_growth_takes_what_the_other_role_holds_and_the_rest_stays_where_it_is(total, wanted, before, expected):
    assert divide(total, wanted, before, (1, 1), serving(*before), BOTH, POLICY) == expected


def test_a_role_gives_no_worker_that_only_starts_and_the_next_look_takes_it():
    starts = PerRole(Workers(2), Workers(2, starting=2))
    assert divide(6, (4, 2), (2, 4), (1, 1), starts, BOTH, POLICY) == (2, 4)
    assert divide(6, (4, 2), (2, 4), (1, 1), serving(2, 4), BOTH, POLICY) == (4, 2)
    nowhere = PerRole(Workers(2), Workers(2, starting=2, unschedulable=2))
    assert divide(6, (4, 2), (2, 4), (1, 1), nowhere, BOTH, POLICY) == (4, 2), "what found no node is nowhere yet"


@given(target=pairs, needed=pairs, fleet=fleets(), into=ways)
def test_what_is_lacking_is_met_by_what_serves_soonest_and_no_role_is_left_without(model, target, needed, fleet, into):
    found = remedies(target, needed, fleet, model, into)
    for i, role in enumerate(Role):
        mine = {remedy.means: remedy for remedy in found if remedy.role is role}
        lack = max(0, target[i] - fleet[role].supply)
        assert sum(remedy.workers for remedy in mine.values()) == lack
        count = {means: mine[means].workers if means in mine else 0 for means in Means}
        assert count[Means.RETURN] == min(lack, fleet[role].returning)
        giver = fleet[role.other]
        if count[Means.FLIP]:
            assert into[role] is not None
            assert giver.serving - max(0, count[Means.FLIP] - giver.draining) >= min(giver.serving, 1)
        if count[Means.START] and into[role] is not None and not count[Means.FLIP]:
            assert flips_of(found) or not giver.draining
    assert [remedy.seconds for remedy in found if remedy.role is Role.DECODE] == sorted(
        remedy.seconds for remedy in found if remedy.role is Role.DECODE
    )
    assert len({remedy.role for remedy in found if remedy.means is Means.FLIP}) <= 1, "never both ways at once"


def test_a_drain_is_cancelled_before_a_worker_flips_and_one_flips_before_one_starts(model):
    fleet = PerRole(Workers(2, draining=2, returning=1), Workers(4))
    assert remedies((6, 2), (6, 2), fleet, model, BOTH) == (
        Remedy(Means.RETURN, Role.PREFILL, 1, 0.0),
        Remedy(Means.FLIP, Role.PREFILL, 2, 11.0),
        Remedy(Means.START, Role.PREFILL, 1, 60.0),
    )


def test_a_worker_that_drains_anyway_flips_first(model):
    fleet = PerRole(Workers(2), Workers(3, draining=1))
    found = remedies((3, 3), (3, 3), fleet, model, BOTH)
    assert flips_of(found) == 1
    assert flips_of(remedies((2, 4), (2, 4), PerRole(Workers(3), Workers(3)), model, BOTH)) == -1


def test_a_worker_may_come_from_the_other_role_where_its_drain_and_switch_are_sooner_than_a_start(model):
    """A start takes 60 and 90 s, a switch 5 s."""
    drains = PerRole(1.0, 60.0)
    assert seconds_into(model, POLICY, drains) == PerRole(None, 6.0)
    assert seconds_into(replace(model, drain_seconds={"decode": 20.0}), POLICY, drains) == PerRole(25.0, 6.0)
    assert seconds_into(replace(model, flip_seconds=100.0), POLICY, drains) == NO_SWITCHING
    assert seconds_into(model, replace(POLICY, role_switching=False), drains) == NO_SWITCHING
    assert seconds_into(model, replace(POLICY, decode=RoleBounds(1, 40, 2)), drains) == NO_SWITCHING


@given(wanted=pairs, before=pairs, most=st.integers(1, 30))
def test_bounds_of_a_role_are_kept_where_the_other_can_give(wanted, before, most):
    policy = replace(POLICY, prefill=RoleBounds(1, most))
    assume(before[0] <= most)
    prefill, _ = divide(40, wanted, before, (1, 1), serving(20, 20), BOTH, policy)
    assert prefill <= most
