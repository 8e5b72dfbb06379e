"""Role switching: what is held is held as GPUs, and without the switch nothing is decided otherwise."""

import math
from dataclasses import replace
from fractions import Fraction
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.autoscaler import Autoscaler, Cause
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.until_start import UntilStart
from dopd.planning import Bound, Demand, PerRole, RoleBounds, Workers
from dopd.planning.bounds import apply_bounds
from dopd.planning.policy import Ratio
from dopd.planning.switching import Means

from .worlds import POLICY, look, run, workers

PROMPTS, ANSWERS = Demand(60, 1500, 2 * 1500.0**2, 100), Demand(160, 300, 2 * 300.0**2, 300)
"""As many tokens a second."""

loads = st.lists(
    st.none() | st.tuples(st.floats(1, 300), st.sampled_from([PROMPTS, ANSWERS, Demand(10, 4000, 3.2e7, 20)])),
    min_size=1,
    max_size=25,
).map(lambda told: [load and replace(load[1], requests_per_second=load[0]) for load in told])
policies = st.builds(
    lambda window, budget, ratio, step: replace(
        POLICY, scale_down_stabilization_seconds=window, gpu_budget=budget, ratio=ratio, max_step=step
    ),
    st.sampled_from([None, 0.0, 90.0]),
    st.sampled_from([None, 6, 20]),
    st.sampled_from([None, Ratio(Fraction(1, 2), Fraction(2))]),
    st.sampled_from([1, 8]),
)
switching = replace(POLICY, role_switching=True)


@settings(max_examples=25, deadline=None)
@given(told=loads, policy=policies)
def test_without_the_switch_each_role_is_planned_for_by_itself(model, told, policy):
    """The rule as it was before workers could change their role, told anew."""
    model = replace(model, startup_seconds={"prefill": 60.0, "decode": 120.0})
    before, kept, since = (2, 2), [], None
    for index, decision in enumerate(run(model, told, policy=policy)):
        assert (decision.remedies, decision.together, decision.flips) == ((), None, 0)
        now = index * policy.interval_seconds
        if decision.weighed is None:
            kept, since, before = [], None, decision.pair
            continue
        both = tuple(decision.weighed)
        for i, seconds in enumerate((60.0, 120.0)):
            if policy.scale_down_stabilization_seconds is not None:
                seconds = policy.scale_down_stabilization_seconds
            lately = [one[i] for at, one in kept if at > now - seconds]
            full = (now if since is None else since) <= now - seconds
            assert both[i].held == (min(before[i], max([both[i].kept, *lately])) if full else before[i])
        wanted = tuple(max(role.needed, role.held) for role in both)
        assert decision.pair == apply_bounds(wanted, before, policy, tuple(role.now for role in both))[0]
        assert Cause.TOGETHER not in {role.cause for role in both}
        since = now if since is None else since
        kept.append((now, tuple(role.kept for role in both)))
        before = decision.pair


@settings(max_examples=20, deadline=None)
@given(told=loads, policy=policies)
def test_a_switch_that_nothing_comes_of_decides_nothing_otherwise(model, told, policy):
    uneven = replace(policy, decode=RoleBounds(1, 40, 2))
    assert run(model, told, policy=replace(uneven, role_switching=True)) == run(model, told, policy=uneven)
    slow = replace(model, flip_seconds=1000.0)
    for without, with_switch in zip(
        run(slow, told, policy=policy), run(slow, told, policy=replace(policy, role_switching=True)), strict=True
    ):
        assert replace(with_switch, remedies=(), message="") == replace(without, message="")
        assert {remedy.means for remedy in with_switch.remedies} <= {Means.START}


@settings(max_examples=25, deadline=None)
@given(told=loads, policy=policies)
def test_both_roles_together_hold_what_both_need_and_no_role_gives_what_it_needs(model, told, policy):
    before = (2, 2)
    for decision in run(model, told, policy=replace(policy, role_switching=True)):
        target, bounded = decision.pair, {Bound.STEP, Bound.RATIO, Bound.GPU_BUDGET} & set(decision.limited_by)
        if decision.weighed is not None and decision.together is not None and not bounded:
            assert sum(target) >= max(decision.together.needed, decision.together.held)
            for i, role in enumerate(Role):
                assert target[i] >= min(before[i], decision.weighed[role].needed)
        if decision.flips:
            giver = 1 if decision.flips > 0 else 0
            assert abs(decision.flips) <= before[giver] - target[giver]
        before = target


def settled(model, policy=switching, load=PROMPTS):
    """A loop that has seen a load for an hour."""
    autoscaler = Autoscaler(forecaster=None)
    decisions = run(model, [load] * 120, policy=policy, autoscaler=autoscaler)
    return autoscaler, decisions[-1]


def test_only_both_roles_together_are_planned_until_a_start_serves(model):
    """Prompts are done soon, so that a prefill worker becomes decode in seconds; a start takes ten minutes."""
    slow = replace(model, startup_seconds={"prefill": 600.0, "decode": 600.0}, drain_seconds={"decode": 40.0})
    autoscaler, _ = settled(slow)
    leads = PerRole.of(lambda role: autoscaler.outlook[role].lead_seconds)
    assert leads.prefill == 40.0 + 5.0 + 30.0, "the drain of decode, the switch, a look"
    assert 35.0 < leads.decode < 40.0
    assert "within 630 s" in autoscaler.last.message


def test_what_stabilisation_holds_is_held_as_gpus_and_growth_takes_it_first(model):
    """The load of prompts ends as that of answers begins: no GPU more, and no window to wait out."""
    model = replace(model, startup_seconds={"prefill": 180.0, "decode": 180.0}, drain_seconds={"decode": 20.0})
    many = replace(ANSWERS, requests_per_second=110.0)
    autoscaler, before = settled(model, load=replace(PROMPTS, requests_per_second=150.0))
    both = before.prefill + before.decode
    fleet = workers(*before.pair)
    after = look(autoscaler, many, model, switching, 120 * 30.0, fleet)
    assert after.flips < 0
    assert sum(after.pair) == both
    assert [(remedy.means, remedy.role) for remedy in after.remedies] == [(Means.FLIP, Role.DECODE)]
    assert f"{-after.flips} of prefill change to decode within" in after.message
    without, _ = settled(model, POLICY, replace(PROMPTS, requests_per_second=150.0))
    alone = look(without, many, model, POLICY, 120 * 30.0, fleet)
    assert sum(alone.pair) > both, "each role by itself: one waits out its window while the other one starts"


def test_a_cancelled_drain_comes_before_a_flip_and_a_flip_before_a_start_and_the_decision_says_so(model):
    model = replace(model, drain_seconds={"decode": 20.0})
    autoscaler, before = settled(model, load=replace(ANSWERS, requests_per_second=200.0))
    fleet = PerRole(Workers(before.prefill, draining=1, returning=1), Workers(before.decode))
    many = replace(PROMPTS, requests_per_second=400.0)
    decision = look(autoscaler, many, model, switching, 120 * 30.0, fleet)
    assert [remedy.means for remedy in decision.remedies] == [Means.RETURN, Means.FLIP, Means.START]
    assert sum(remedy.workers for remedy in decision.remedies) == decision.prefill - before.prefill
    assert "1 of prefill that drain serve again" in decision.message
    assert f"{decision.flips} of decode change to prefill within 25 s" in decision.message
    assert "of prefill start within 60 s" in decision.message


@pytest.mark.parametrize("given", [None, 30.0])
def test_how_long_a_drain_takes_is_measured_or_follows_from_the_answers(model, given):
    """A full worker of answers of 300 tokens is idle after some twenty seconds; the longer they are, the later."""
    drains = {} if given is None else {"decode": given}
    autoscaler, _ = settled(replace(model, startup_seconds={"prefill": 999.0, "decode": 999.0}, drain_seconds=drains))
    short = autoscaler.outlook.prefill.lead_seconds
    longer = replace(PROMPTS, output_tokens=300.0)
    autoscaler, _ = settled(
        replace(model, startup_seconds={"prefill": 999.0, "decode": 999.0}, drain_seconds=drains), load=longer
    )
    assert (autoscaler.outlook.prefill.lead_seconds > short) is (given is None)


loads_of_roles = st.tuples(st.floats(0, 30), st.floats(0, 30)).flatmap(
    lambda pair: st.tuples(st.just(pair), st.floats(max(pair), sum(pair) + 5))
)


@given(told=loads_of_roles, share=st.floats(0, 1))
def test_both_together_need_enough_for_each_division_of_their_peak_and_no_more_than_each_by_itself(told, share):
    """A worker carries a load of 0.8; what both carry at once is less than both peaks."""

    def size_at(load: float):
        return SimpleNamespace(prefill=max(1, math.ceil(load / 0.8)), decode=max(1, math.ceil(load / 0.8)))

    (prefill, decode), both = told
    each = PerRole(Outlook(90.0, 0.0, prefill, 1.0), Outlook(90.0, 0.0, decode, 1.0))
    needed = UntilStart(each, Outlook(90.0, 0.0, both, 1.0)).workers(size_at)
    assert needed <= sum(UntilStart(each, Outlook(90.0, 0.0, both, 1.0)).apart(size_at))
    load = min(prefill, share * both)
    rest = min(decode, both - load)
    assert needed >= (load + rest) / 0.8 - 1e-6
    assert needed + 1 >= size_at(load).prefill + size_at(rest).decode, "one is rounded up for both"
