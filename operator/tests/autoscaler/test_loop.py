import math
import random
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.planning import Bound, Demand, Forecast, Learnt, Observation, Policy, Reason, RoleBounds, Workers, plan, size

POLICY = Policy(
    prefill=RoleBounds(1, 40),
    decode=RoleBounds(1, 40),
    interval_seconds=30.0,
    scale_down_stabilization_seconds=300.0,
)


def demand(rps, mean=1000.0):
    return Demand(rps, mean, 2 * mean**2, 200.0)


def observe(rps, prefill=2, decode=2, **prefill_queue):
    load = None if rps is None else demand(rps)
    return Observation(load, Workers(prefill, **prefill_queue), Workers(decode))


def run(model, loads, *, policy=POLICY, step_seconds=30.0, start=(2, 2)):
    """Plan a sequence of loads, each target in force at once; returns the decisions."""
    decisions, previous, pair = [], None, start
    for index, rps in enumerate(loads):
        previous = plan(observe(rps, *pair), None, model, policy, previous, index * step_seconds)
        pair = (previous.prefill, previous.decode)
        decisions.append(previous)
    return decisions


def test_bounds_that_contradict_each_other_hold_a_new_resource_at_nothing(model):
    policy = replace(POLICY, gpu_budget=1)
    decision = plan(observe(10, 0, 0), None, model, policy, None, 0.0)
    assert (decision.prefill, decision.decode, decision.reason) == (0, 0, Reason.NO_ROOM)
    assert decision.expected is None


def test_growth_is_immediate(model):
    first, second = run(model, [10, 200])
    assert second.prefill > first.prefill
    assert second.reason is Reason.DEMAND_ROSE


def test_shrinking_waits_for_the_whole_window(model):
    decisions = run(model, [200] * 3 + [10] * 15)
    peak = decisions[2].prefill
    assert [d.prefill for d in decisions[3:12]] == [peak] * 9
    assert Bound.STABILIZATION in decisions[5].limited_by
    assert decisions[12].prefill < peak
    assert decisions[12].reason is Reason.DEMAND_FELL


def test_without_a_window_each_role_is_held_for_its_own_start_up_time_and_a_minute_at_least(model):
    policy = replace(POLICY, scale_down_stabilization_seconds=None)
    model = replace(model, startup_seconds={"prefill": 5.0, "decode": 300.0})
    decisions = run(model, [200] * 3 + [1] * 15, policy=policy, start=(6, 6))
    peak = decisions[2]
    assert [d.prefill == peak.prefill for d in decisions[3:5]] == [True, False]
    assert [d.decode == peak.decode for d in decisions[3:13]] == [True] * 9 + [False]
    assert Bound.STABILIZATION in decisions[11].limited_by


def held_seconds(model, policy, error_budget, **queue):
    """For how long any prefill worker is held that a peak needed, its load or its queue."""
    learnt = Learnt(error_budget=error_budget)
    peak = observe(1, 6, 6, **queue) if queue else observe(200, 6, 6)
    decision = plan(peak, None, model, policy, None, 0.0, learnt)
    for now in range(30, 7200, 30):
        calm = observe(1, decision.prefill, decision.decode)
        decision = plan(calm, None, model, policy, decision, float(now))
        if decision.prefill == 1:
            return now
    raise AssertionError


def test_in_debt_workers_are_held_for_an_hour_but_not_those_of_a_queue(model):
    policy = replace(POLICY, scale_down_stabilization_seconds=None)
    model = replace(model, startup_seconds={"prefill": 60.0, "decode": 60.0})
    assert held_seconds(model, policy, 0.0) == held_seconds(model, policy, 1.0) == 60
    assert held_seconds(model, policy, -0.5) == 960  # a quarter of the hour beyond a minute, at the next look
    assert held_seconds(model, policy, -1.0) == 3600
    assert held_seconds(model, policy, -1.0, waiting_tokens=1e6) == 60
    assert held_seconds(model, POLICY, -1.0) == held_seconds(model, POLICY, 0.0) == 300, "as the policy says"


def test_a_restart_takes_the_present_workers_as_target_and_waits_a_window_before_it_shrinks(model):
    decision = plan(observe(1, prefill=7, decode=5), None, model, POLICY, None, 1000.0)
    assert (decision.prefill, decision.decode) == (7, 5)
    later = plan(observe(1, prefill=7, decode=5), None, model, POLICY, decision, 1301.0)
    assert later.prefill == 1


def test_failed_telemetry_holds_the_target_and_zero_traffic_does_not(model):
    held = run(model, [200, None, None, None])
    assert [d.prefill for d in held] == [held[0].prefill] * 4
    assert held[-1].reason is Reason.TELEMETRY_FAILED
    idle = run(model, [200] + [0] * 12)
    assert (idle[-1].prefill, idle[-1].decode) == (1, 1)


def test_after_an_outage_shrinking_needs_a_whole_window_of_evidence_again(model):
    decisions = run(model, [200] * 12 + [None] * 2 + [1] * 12)
    assert decisions[22].prefill == decisions[0].prefill
    assert decisions[-1].prefill == 1


def test_the_forecast_raises_and_the_present_load_holds(model):
    rising = Forecast(demand(200), demand(100))
    up = plan(observe(20), rising, model, POLICY, None, 0.0)
    alone = plan(observe(20), None, model, POLICY, None, 0.0)
    assert up.prefill > alone.prefill
    assert up.demand_prefill == rising.prefill
    assert up.forecast_used
    assert not plan(observe(100), Forecast(demand(1), demand(1)), model, POLICY, None, 0.0).forecast_used
    falling = plan(observe(200), Forecast(demand(1), demand(1)), model, POLICY, None, 0.0)
    assert falling.prefill == plan(observe(200), None, model, POLICY, None, 0.0).prefill


def test_a_forecast_of_longer_prompts_is_sized_for_their_length(model):
    longer = demand(100, mean=4000.0)
    decision = plan(observe(100), Forecast(longer, longer), model, POLICY, None, 0.0)
    sized = size(longer, model, POLICY.objectives)
    assert decision.needed == (sized.prefill, sized.decode)
    assert decision.needed[0] > plan(observe(100), None, model, POLICY, None, 0.0).needed[0]


def test_starting_workers_are_supply(model):
    first = plan(observe(200, prefill=2), None, model, POLICY, None, 0.0)
    waiting = observe(200, prefill=2, starting=first.prefill - 2)
    assert plan(waiting, None, model, POLICY, first, 30.0).prefill == first.prefill


def test_a_queue_that_keeps_growing_tells_of_a_load_that_no_rate_shows_yet(model):
    seconds_of_work = 3.0
    waiting = seconds_of_work * model.chunk_tokens / model.prefill_seconds(model.chunk_tokens)

    def planned(growth):
        workers = Workers(2, waiting_tokens=waiting, waiting_tokens_growth=growth)
        return plan(Observation(demand(1), workers, Workers(2)), None, model, POLICY, None, 0.0)

    assert planned(0.0).prefill == 2, "it will be gone before another worker could serve"
    growing = planned(waiting)  # three workers' worth of prompts more than two can do
    assert growing.prefill >= 5
    assert growing.reason is Reason.BACKLOG


def test_a_queue_of_requests_whose_lengths_nobody_knows_yet_adds_prefill_workers(model):
    seen = Observation(Demand(0.0, 0.0, 0.0, 0.0), Workers(1, waiting_tokens=4e6), Workers(1))
    decision = plan(seen, None, model, POLICY, None, 0.0)
    assert decision.prefill > 1
    assert decision.reason is Reason.BACKLOG


def test_a_backlog_adds_prefill_workers_and_looks_again_sooner(model):
    calm = plan(observe(20, waiting_tokens=0.0), None, model, POLICY, None, 0.0)
    queued = plan(observe(20, waiting_tokens=4e6), None, model, POLICY, None, 0.0)
    assert queued.prefill > calm.prefill
    assert queued.reason is Reason.BACKLOG
    assert queued.next_look_seconds < calm.next_look_seconds


def test_requests_that_wait_for_a_slot_add_decode_workers(model):
    seen = Observation(demand(20), Workers(2), Workers(3, waiting_requests=300.0))
    decision = plan(seen, None, model, POLICY, None, 0.0)
    assert decision.decode >= 5


@pytest.mark.parametrize(("waiting", "decode"), [(1.0, 1), (4.0, 1), (9.0, 3)])
def test_what_waits_for_a_slot_is_no_backlog_while_slots_become_free_in_time(model, waiting, decode):
    small = replace(model, max_running_requests=8)  # answers of 1.1 s: 7 slots a second become free
    seen = Observation(demand(0.5), Workers(1), Workers(1, waiting_requests=waiting))
    assert plan(seen, None, small, POLICY, None, 0.0).decode == decode


def test_requests_that_wait_while_nobody_knows_their_lengths_get_slots(model):
    small = replace(model, max_running_requests=8)
    seen = Observation(Demand.none(), Workers(1), Workers(1, waiting_requests=9.0))
    assert plan(seen, None, small, POLICY, None, 0.0).decode == 3


def test_a_mix_shift_offers_flips_only_if_the_policy_allows_them(model):
    policy = replace(POLICY, scale_down_stabilization_seconds=0.0, gpu_budget=8)
    seen = Observation(Demand(60, 3000, 1.2e7, 20), Workers(2), Workers(6))
    assert plan(seen, None, model, policy, None, 1.0).flips == 0
    flipping = plan(seen, None, model, replace(policy, role_switching=True), None, 1.0)
    assert flipping.flips > 0
    slow = replace(model, flip_seconds=1000.0)
    assert plan(seen, None, slow, replace(policy, role_switching=True), None, 1.0).flips == 0
    uneven = replace(policy, role_switching=True, decode=replace(policy.decode, gpus=2), gpu_budget=100)
    assert plan(seen, None, model, uneven, None, 1.0).flips == 0
    assert flipping.reason is Reason.MIX_SHIFTED


def test_contradicting_bounds_hold_the_last_good_size(model):
    broken = replace(POLICY, gpu_budget=1)
    decision = plan(observe(50, 3, 4), None, model, broken, None, 0.0)
    assert (decision.prefill, decision.decode, decision.reason) == (3, 4, Reason.NO_ROOM)
    assert "gpuBudget.max is 1" in decision.message


def test_a_budget_that_is_filled_up_and_a_schedule_that_holds_are_explained(model):
    policy = replace(POLICY, gpu_budget=12, gpu_budget_min=12, schedules=("office-hours",))
    decision = run(model, [5], policy=policy)[0]
    assert decision.gpus == 12
    assert Bound.GPU_BUDGET_MIN in decision.limited_by
    assert "filled up to 12 GPUs, spec.scaling.gpuBudget.min is 12" in decision.message
    assert "within the limits of office-hours (spec.scaling.schedules)" in decision.message


def test_in_a_budget_with_equal_ends_only_the_ratio_follows_the_load_and_noise_moves_nothing(model):
    policy = replace(POLICY, gpu_budget=12, gpu_budget_min=12, scale_down_stabilization_seconds=60.0)
    calm = run(model, [40, 44, 38, 41, 45, 37, 40, 43] * 5, policy=policy, start=(6, 6))
    assert {decision.gpus for decision in calm} == {12}
    pairs = [(decision.prefill, decision.decode) for decision in calm]
    assert sum(after != before for before, after in pairwise(pairs)) <= 1


@given(rps=st.floats(0, 400), mean=st.floats(50, 6000), start=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=50, deadline=None)
def test_the_same_load_again_on_the_target_changes_nothing(model, rps, mean, start):
    load = demand(rps, mean)
    policy = replace(POLICY, max_step=1000)
    first = plan(Observation(load, Workers(start[0]), Workers(start[1])), None, model, policy, None, 0.0)
    settled = Observation(load, Workers(first.prefill), Workers(first.decode))
    again = plan(settled, None, model, policy, first, policy.interval_seconds)
    assert (again.prefill, again.decode) == (first.prefill, first.decode)
    assert again.reason is Reason.STEADY


def test_a_changed_bound_is_obeyed_even_without_telemetry(model):
    before = plan(observe(200, 8, 4), None, model, POLICY, None, 0.0)
    lowered = replace(POLICY, prefill=RoleBounds(1, 3))
    assert plan(observe(None, 8, 4), None, model, lowered, before, 30.0).prefill == 3
    assert plan(observe(0, 8, 4), None, model, lowered, before, 30.0).reason is Reason.BOUNDS_CHANGED


def test_flat_load_with_noise_turns_at_most_once_while_its_noise_is_learnt(model):
    noisy = [100 + (7 * k % 11 - 5) for k in range(240)]
    targets = [d.prefill for d in run(model, noisy)]
    changes = [b - a for a, b in pairwise(targets) if a != b]
    assert sum(1 for a, b in pairwise(changes) if a * b < 0) <= 1


@settings(max_examples=40)
@given(
    loads=st.lists(st.none() | st.floats(0, 300), min_size=1, max_size=12),
    budget=st.integers(2, 40),
    step=st.integers(1, 8),
)
def test_targets_stay_within_bounds_and_budget_whatever_the_load(model, loads, budget, step):
    policy = replace(POLICY, gpu_budget=budget, max_step=step)
    for decision in run(model, loads, policy=policy, start=(1, 1)):
        assert decision.gpus <= budget
        assert min(decision.prefill, decision.decode) >= 1


@pytest.mark.parametrize("rps", [0.0, 0.01, 5000.0])
def test_the_message_holds_the_numbers(model, rps):
    message = plan(observe(rps), None, model, POLICY, None, 0.0).message
    assert "requests/s" in message
    assert "nan" not in message


def test_the_message_of_a_backlog_tells_what_waits(model):
    queue = Workers(1, waiting_tokens=2_000_000.0)
    decision = plan(Observation(demand(0), queue, Workers(1)), None, model, POLICY, None, 0.0)
    assert decision.reason is Reason.BACKLOG
    assert "2000000 prompt tokens wait for prefill and 0 requests for decode" in decision.message


def finite(most):
    return st.floats(0, most) | st.none()


def queues():
    return st.builds(
        Workers,
        serving=st.integers(0, 50),
        starting=st.integers(0, 50),
        waiting_tokens=finite(1e12),
        waiting_requests=finite(1e9),
        waiting_tokens_growth=st.floats(0, 1e9),
        kv_use=finite(1),
    )


loads = st.builds(
    lambda rps, tokens, cv, out, share: Demand(rps, tokens, tokens**2 * (1 + cv**2), out, share),
    st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0, 5), st.floats(0, 1e6), st.floats(0, 1),
)  # fmt: skip
observations = st.builds(
    Observation, st.none() | loads, queues(), queues(), late_share=finite(1), ttft_seconds=finite(1e6)
)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [number for item in value for number in numbers(item)]
    return [value] if isinstance(value, int | float) else []


@settings(max_examples=80, deadline=None)
@given(looks=st.lists(observations, min_size=1, max_size=4), forecast=st.none() | st.builds(Forecast, loads, loads))
def test_whatever_can_be_measured_gives_numbers_that_can_be_used(model, looks, forecast):
    decision = None
    for index, look in enumerate(looks):
        decision = plan(look, forecast, model, POLICY, decision, index * 30.0)
        told = asdict(decision)
        told.pop("flips")  # negative in one direction
        assert -1 <= told["learnt"].pop("error_budget") <= 1
        if told["expected"]:
            assert told["expected"].pop("ttft_seconds") >= 0, "infinite where the queue does not end, never NaN"
        assert all(math.isfinite(number) and number >= 0 for number in numbers(told))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("name", ["waiting_tokens", "waiting_tokens_growth", "waiting_requests", "kv_use"])
def test_what_no_engine_can_report_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"workers: {name} is {value}; expected a finite number"):
        Workers(2, **{name: value})


@pytest.mark.parametrize("value", [math.nan, math.inf, -0.1])
@pytest.mark.parametrize("name", ["late_share", "ttft_seconds"])
def test_what_no_telemetry_can_report_is_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"observation: {name} is {value}; expected a finite number"):
        Observation(demand(1), Workers(1), Workers(1), **{name: value})


def told(model, load):
    return plan(Observation(load, Workers(2), Workers(2)), None, model, POLICY, None, 0.0).message


def test_the_message_tells_what_lies_beyond_the_profile(model):
    assert "extrapolated" not in told(model, demand(20))
    prompts = told(model, demand(2, mean=7000.0))
    assert "% of the prompts are longer than the last of spec.prefill.points (8000 tokens)" in prompts
    assert "measure the profile further" in prompts
    contexts = told(model, Demand(2.0, 1000.0, 2e6, 9000.0))
    assert "10000 tokens of context lies beyond the last of spec.decode.points (batch 256, 8000 tokens)" in contexts
    batches = told(replace(model, max_running_requests=300), demand(20))
    assert "decode at batch 300 and 1200 tokens of context lies beyond" in batches
    assert "extrapolated" not in told(replace(model, max_running_requests=300), demand(0)), "nobody needs that batch"


def test_what_is_expected_is_of_the_demand_that_each_role_was_planned_for(model):
    policy = replace(POLICY, decode=RoleBounds(1, 3))
    later = Forecast(demand(1), demand(600))
    decision = plan(observe(1), later, model, policy, None, 0.0)
    assert decision.needed[1] > 3 == decision.decode
    assert decision.expected.attainment == 0


def with_budget(model, budget, rps):
    history = run(model, [rps] * 130)[-1]
    look = replace(observe(rps, history.prefill, history.decode), late_share=0.0)
    return plan(
        look, None, model, POLICY, replace(history, learnt=replace(history.learnt, error_budget=budget)), 130 * 30.0
    )


@pytest.mark.parametrize("rps", [3, 11, 29, 47, 60])
def test_a_full_error_budget_stands_in_for_the_margin_and_a_debt_asks_for_more(model, rps):
    none, debt, full = (with_budget(model, budget, rps) for budget in (0.0, -1.0, 1.0))
    assert none.needed[0] <= debt.needed[0]
    assert none.needed[1] <= debt.needed[1]
    assert full.needed[0] <= none.needed[0]
    assert full.needed[1] <= none.needed[1]
    assert "an error budget of 100% lets 5.0% be late" in full.message
    assert "error budget" not in none.message


def test_an_error_budget_is_worth_workers_at_some_load(model):
    assert any(with_budget(model, 1.0, rps).needed < with_budget(model, 0.0, rps).needed for rps in range(20, 60, 4))


def test_the_error_budget_outlasts_an_outage_of_telemetry(model):
    known = run(model, [20] * 3)[-1]
    saved = replace(known, learnt=replace(known.learnt, error_budget=0.5))
    blind = plan(Observation(None, Workers(2), Workers(2)), None, model, POLICY, saved, 90.0)
    assert blind.learnt.error_budget == 0.5
    assert plan(observe(20), None, model, POLICY, blind, 6000.0).learnt.error_budget == 0.5


def noisy_hour(model, rps, looks=240):
    """Decisions on samples of 45 s of a load that stands still; each request costs the same."""
    chance, decisions, previous = random.Random(3), [], None
    policy = replace(POLICY, interval_seconds=15.0)
    for k in range(looks):
        requests = chance.gauss(45 * rps, (45 * rps) ** 0.5)
        look = replace(observe(requests / 45), window_seconds=45.0, late_share=0.0)
        previous = plan(look, None, model, policy, previous, 15.0 * k)
        decisions.append(previous)
    return decisions


def test_a_wave_of_the_noise_starts_no_worker_on_a_load_that_stands_still(model):
    """53 requests/s need two prefill workers, 54.6 three, which one look of fifteen measures."""
    steady = noisy_hour(model, 53)[100:]
    measured = [decision.learnt.history[-1].requests_per_second for decision in steady]
    assert len({size(demand(rps), model, POLICY.objectives).prefill for rps in measured}) > 1
    assert len({decision.needed for decision in steady}) == 1


def test_a_load_that_has_surprised_is_not_taken_to_stand_still(model):
    calm = noisy_hour(model, 53)[-1]
    wave = replace(observe(54.7), window_seconds=45.0, late_share=0.0)
    in_debt = replace(calm, learnt=replace(calm.learnt, error_budget=-0.2))
    needed = [plan(wave, None, model, POLICY, before, 15.0 * 240).needed[0] for before in (calm, in_debt)]
    assert needed == [2, 3]
