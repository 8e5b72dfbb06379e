"""What users rely on of the loop: when it grows and shrinks, what it holds and what it learns."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.autoscaler import Autoscaler, Cause, Reason, Sample
from dopd.planning import Bound, Demand, PerRole, RoleBounds, Workers, size
from dopd.planning.policy import Fallback

from .worlds import POLICY, alone, bins, demand, look, run, workers


def test_growth_is_immediate(model):
    first, second = run(model, [10, 200])
    assert second.prefill > first.prefill
    assert second.reason is Reason.DEMAND_ROSE


def test_the_load_of_now_is_always_carried(model):
    for decision, rps in zip(run(model, loads := [5, 40, 90, 60, 150, 20], start=(1, 1)), loads, strict=True):
        sized = size(demand(rps), model, POLICY.objectives)
        assert decision.prefill >= sized.prefill
        assert decision.decode >= sized.decode


def test_shrinking_waits_for_the_whole_window(model):
    decisions = run(model, [200] * 3 + [10] * 250)
    peak = max(decision.prefill for decision in decisions[:3])
    assert {decision.prefill for decision in decisions[3:12]} == {peak}
    assert Bound.STABILIZATION in decisions[5].limited_by
    assert decisions[-1].prefill < peak
    assert any(decision.reason is Reason.DEMAND_FELL for decision in decisions)


def first_below(targets, peak):
    """Index of the first target below the peak."""
    return next(index for index, target in enumerate(targets) if target < peak)


def test_without_a_stated_window_each_role_is_held_for_its_own_start_up_and_a_minute_at_least(model):
    """A load that comes for one look, which leaves no voice that expects it again for long."""
    model = replace(model, startup_seconds={"prefill": 5.0, "decode": 300.0})
    policy = replace(POLICY, scale_down_stabilization_seconds=None)
    decisions = run(model, [20] * 240 + [100] + [20] * 40, policy=policy)[240:]
    peak, after = decisions[0], decisions[1:]
    prefill = first_below([d.weighed.prefill.held for d in after], peak.weighed.prefill.needed)
    decode = first_below([d.weighed.decode.held for d in after], peak.weighed.decode.needed)
    assert {decision.prefill for decision in after[:1]} == {peak.prefill}, "a minute"
    assert {decision.decode for decision in after[:9]} == {peak.decode}, "as long as it starts"
    assert prefill < decode


def test_a_restart_takes_the_present_workers_as_target_and_waits_a_window_before_it_shrinks(model):
    autoscaler, fleet = Autoscaler(forecaster=None), workers(7, 5)
    assert look(autoscaler, demand(1), model, now_seconds=1000.0, fleet=fleet).pair == (7, 5)
    assert look(autoscaler, demand(1), model, now_seconds=1270.0, fleet=fleet).pair == (7, 5)
    assert look(autoscaler, demand(1), model, now_seconds=1301.0, fleet=fleet).prefill == 1


def test_failed_telemetry_holds_the_target_and_zero_traffic_does_not(model):
    held = run(model, [200, None, None, None])
    assert {decision.pair for decision in held} == {held[0].pair}
    assert held[-1].reason is Reason.TELEMETRY_FAILED
    assert held[-1].weighed is None
    idle = run(model, [200] * 2 + [0] * 400)
    assert idle[-1].pair == (1, 1)


def test_after_an_outage_shrinking_needs_a_whole_window_of_evidence_again(model):
    decisions = run(model, [200] * 3 + [1] * 500 + [None] * 2 + [1] * 10, start=(9, 9))
    least = decisions[502].pair
    assert least == (1, 1)
    autoscaler = Autoscaler(forecaster=None)
    calm = run(model, [1] * 8, start=(9, 9), autoscaler=autoscaler)
    assert calm[-1].pair == (9, 9)
    run(model, [None], start=(9, 9), autoscaler=autoscaler, first_seconds=240.0)
    again = run(model, [1] * 14, start=(9, 9), autoscaler=autoscaler, first_seconds=270.0)
    assert {decision.pair for decision in again[:10]} == {(9, 9)}, "not what was known before counts"
    assert again[-1].pair == (1, 1)


def test_a_fallback_holds_once_the_load_has_been_unknown_for_long(model):
    policy = replace(POLICY, fallback=Fallback(60.0, 9, 3))
    decisions = run(model, [10, None, None, None], policy=policy)
    assert decisions[2].pair == decisions[0].pair
    assert decisions[3].pair == (9, decisions[0].decode if decisions[0].decode > 3 else 3)
    assert decisions[3].reason is Reason.FALLBACK
    assert "60 s ago" in decisions[3].message


def test_starting_workers_are_supply(model):
    autoscaler = Autoscaler(forecaster=None)
    first = look(autoscaler, demand(200), model)
    again = look(autoscaler, demand(200), model, now_seconds=30.0, fleet=workers(2, starting=first.prefill - 2))
    assert again.prefill == first.prefill


def growing(model, tokens_per_second, seconds_of_work=3.0):
    """Decisions on a queue of two workers that grows, look after look, two seconds apart."""
    per_second = model.chunk_tokens / model.prefill_seconds(model.chunk_tokens)
    autoscaler, decision = Autoscaler(forecaster=None), None
    autoscaler.observe(Sample(0.0, demand(1)), model, POLICY)
    for index in range(3):
        queue = seconds_of_work * per_second + 2.0 * index * tokens_per_second * per_second
        fleet = workers(2, 2, waiting_tokens=queue)
        decision = autoscaler.decide(fleet, 2.0 * index, model, POLICY)
    return decision


def test_a_queue_that_keeps_growing_tells_of_a_load_that_no_rate_shows_yet(model):
    assert growing(model, 0.0).prefill == 2, "it will be gone before another worker could serve"
    decision = growing(model, 3.0)  # three workers' worth of prompts more than two can do
    assert decision.prefill >= 5
    assert decision.reason in (Reason.BACKLOG, Reason.STEADY)
    assert decision.weighed.prefill.cause is Cause.BACKLOG


def test_a_queue_of_requests_whose_lengths_nobody_knows_yet_adds_prefill_workers(model):
    decision = alone(model, Demand.none(), fleet=workers(1, 1, waiting_tokens=4e6))
    assert decision.prefill > 1
    assert decision.reason is Reason.BACKLOG


def test_a_backlog_adds_prefill_workers_and_looks_again_sooner(model):
    calm = alone(model, demand(20), fleet=workers(waiting_tokens=0.0))
    queued = alone(model, demand(20), fleet=workers(waiting_tokens=4e6))
    assert queued.prefill > calm.prefill
    assert queued.reason is Reason.BACKLOG
    assert queued.weighed.prefill.cause is Cause.BACKLOG
    assert queued.next_look_seconds < calm.next_look_seconds


def test_the_workers_of_a_queue_are_held_no_longer_than_others(model):
    """A queue says nothing of the load to come."""
    queued = run(model, [20] * 2)
    autoscaler = Autoscaler(forecaster=None)
    calm = run(model, [20] * 20, autoscaler=autoscaler)[-1]
    peak = look(autoscaler, demand(20), model, now_seconds=600.0, fleet=workers(2, 2, waiting_tokens=4e6))
    later = run(model, [20] * 11, autoscaler=autoscaler, start=peak.pair, first_seconds=630.0)
    assert peak.prefill > calm.prefill
    assert later[8].prefill == peak.prefill
    assert later[-1].prefill <= queued[-1].prefill


def test_requests_that_wait_for_a_slot_add_decode_workers(model):
    fleet = PerRole(Workers(2), Workers(3, waiting_requests=300.0))
    assert alone(model, demand(20), fleet=fleet).decode >= 5


@pytest.mark.parametrize(("waiting", "decode"), [(1.0, 1), (4.0, 1), (9.0, 3)])
def test_what_waits_for_a_slot_is_no_backlog_while_slots_become_free_in_time(model, waiting, decode):
    small = replace(model, max_running_requests=8)  # answers of 1.1 s: 7 slots a second become free
    fleet = PerRole(Workers(1), Workers(1, waiting_requests=waiting))
    assert alone(small, demand(0.5), fleet=fleet).decode == decode


def test_requests_that_wait_while_nobody_knows_their_lengths_get_slots(model):
    small = replace(model, max_running_requests=8)
    fleet = PerRole(Workers(1), Workers(1, waiting_requests=9.0))
    assert alone(small, Demand.none(), fleet=fleet).decode == 3


def test_a_queue_adds_workers_while_the_load_is_unknown(model):
    autoscaler = Autoscaler(forecaster=None)
    known = look(autoscaler, demand(20), model)
    blind = look(autoscaler, None, model, now_seconds=30.0, fleet=workers(*known.pair, waiting_tokens=4e6))
    assert blind.prefill > known.prefill
    assert blind.reason is Reason.BACKLOG


def test_a_mix_shift_offers_flips_only_if_the_policy_allows_them(model):
    policy = replace(POLICY, scale_down_stabilization_seconds=0.0, gpu_budget=8)
    prompts, fleet = Demand(60, 3000, 1.2e7, 20), workers(2, 6)
    assert alone(model, prompts, policy, fleet).flips == 0
    flipping = alone(model, prompts, replace(policy, role_switching=True), fleet)
    assert flipping.flips > 0
    slow = replace(model, flip_seconds=1000.0)
    assert alone(slow, prompts, replace(policy, role_switching=True), fleet).flips == 0
    uneven = replace(policy, role_switching=True, decode=replace(policy.decode, gpus=2), gpu_budget=100)
    assert alone(model, prompts, uneven, fleet).flips == 0
    assert flipping.reason is Reason.MIX_SHIFTED
    back = alone(model, Demand(60, 200, 8e4, 1400), replace(policy, role_switching=True), workers(6, 2))
    assert back.flips < 0


def test_bounds_that_contradict_each_other_hold_a_new_resource_at_nothing(model):
    decision = alone(model, demand(10), replace(POLICY, gpu_budget=1), workers(0, 0))
    assert (decision.pair, decision.reason) == ((0, 0), Reason.NO_ROOM)
    assert decision.expected is None


def test_contradicting_bounds_hold_the_last_good_size(model):
    decision = alone(model, demand(50), replace(POLICY, gpu_budget=1), workers(3, 4))
    assert (decision.pair, decision.reason) == ((3, 4), Reason.NO_ROOM)
    assert "gpuBudget.max is 1" in decision.message


def test_a_budget_that_is_filled_up_and_a_schedule_that_holds_are_explained(model):
    policy = replace(POLICY, gpu_budget=12, gpu_budget_min=12, schedules=("office-hours",))
    decision = alone(model, demand(5), policy)
    assert decision.gpus == 12
    assert Bound.GPU_BUDGET_MIN in decision.limited_by
    assert "filled up to 12 GPUs, spec.scaling.gpuBudget.min is 12" in decision.message
    assert "within the limits of office-hours (spec.scaling.schedules)" in decision.message


def test_in_a_budget_with_equal_ends_only_the_ratio_follows_the_load_and_noise_moves_nothing(model):
    policy = replace(POLICY, gpu_budget=12, gpu_budget_min=12, scale_down_stabilization_seconds=60.0)
    calm = run(model, [40, 44, 38, 41, 45, 37, 40, 43] * 5, policy=policy, start=(6, 6))
    assert {decision.gpus for decision in calm} == {12}
    assert sum(after.pair != before.pair for before, after in pairwise(calm)) <= 1


def test_in_a_full_budget_what_arrives_comes_before_what_is_expected(model):
    """Each day at this time long answers have come; now there are long prompts, which keep four workers busy."""
    prompts, answers = Demand(60, 1500, 2 * 1500.0**2, 100), Demand(60, 200, 2 * 200.0**2, 1400)
    days = [answers if index % 1440 >= 720 else prompts for index in range(5 * 1440 - 725)]
    policy, model = replace(POLICY, gpu_budget=8), replace(model, startup_seconds={"prefill": 600.0, "decode": 600.0})
    decisions = run(model, [prompts] * 12, policy=policy, start=(4, 1), first_seconds=10.0, past=bins(days, 0.0))
    prefill = size(prompts, model, policy.objectives).prefill
    assert {decision.prefill for decision in decisions} == {prefill}
    assert decisions[-1].decode == 8 - prefill, "what is left is for what comes"
    assert decisions[-1].weighed.decode.cause is Cause.BOUND


SPARE = replace(POLICY, prefill=RoleBounds(1, 40, spare=1), decode=RoleBounds(1, 40, spare=2))


def test_spare_workers_stand_beside_those_that_each_load_needs_and_are_told(model):
    loads = [5, 40, 90, 60, 150, 20] * 5
    plain, spared = run(model, loads, start=(1, 1)), run(model, loads, policy=SPARE, start=(2, 3))
    assert [(d.prefill + 1, d.decode + 2) for d in plain] == [d.pair for d in spared]
    assert {d.weighed.decode.cause for d in spared} == {d.weighed.decode.cause for d in plain}
    assert f"{spared[0].weighed.prefill.needed} needed and 1 spare" in spared[0].message


def test_a_budget_without_room_for_the_spare_ones_serves_what_arrives_first(model):
    load = demand(100)
    needed = alone(model, load, POLICY).pair
    policy = replace(SPARE, gpu_budget=sum(needed))
    for _ in range(3):
        tight = alone(model, load, policy)
        assert tight.pair == needed, "no worker of one role goes for a spare one of the other"
        assert Bound.GPU_BUDGET in tight.limited_by


def test_a_maximum_holds_for_the_spare_ones_too(model):
    policy = replace(SPARE, decode=RoleBounds(1, 2, spare=2))
    decision = alone(model, demand(5), policy)
    assert decision.decode == 2
    assert decision.limited_by == (Bound.DECODE_MAX,)


def test_a_changed_bound_is_obeyed_even_without_telemetry(model):
    autoscaler, fleet = Autoscaler(forecaster=None), workers(8, 4)
    look(autoscaler, demand(200), model, fleet=fleet)
    lowered = replace(POLICY, prefill=RoleBounds(1, 3))
    autoscaler.observe(Sample(30.0, None), model, lowered)
    assert autoscaler.preview(fleet, 30.0, model, lowered).prefill == 3
    autoscaler.observe(Sample(30.0, demand(200)), model, lowered)
    assert autoscaler.preview(fleet, 30.0, model, lowered).reason is Reason.BOUNDS_CHANGED


@given(rps=st.floats(0, 400), mean=st.floats(50, 6000), start=st.tuples(st.integers(1, 9), st.integers(1, 9)))
@settings(max_examples=50, deadline=None)
def test_the_same_load_again_on_the_target_changes_nothing(model, rps, mean, start):
    policy, autoscaler = replace(POLICY, max_step=1000), Autoscaler(forecaster=None)
    first = look(autoscaler, demand(rps, mean), model, policy, fleet=workers(*start))
    again = look(autoscaler, demand(rps, mean), model, policy, policy.interval_seconds, workers(*first.pair))
    assert again.pair == first.pair
    assert again.reason is Reason.STEADY


def test_a_preview_is_what_a_decision_would_be_and_remembers_nothing(model):
    quiet, asked = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    for index, rps in enumerate([20, 100, 60, 5] * 5):
        at, fleet = 30.0 * index, workers(3, 3, waiting_tokens=1e5 * (index % 3))
        for autoscaler in (quiet, asked):
            autoscaler.observe(Sample(at, demand(rps)), model, POLICY)
        told = [asked.preview(fleet, at, model, POLICY) for _ in range(3)]
        decision = quiet.decide(fleet, at, model, POLICY)
        assert told == [decision] * 3
        assert asked.decide(fleet, at, model, POLICY) == decision


def test_looks_between_two_readings_teach_nothing_and_hide_nothing(model):
    hurried, calm = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    for index, rps in enumerate([20, 100, 60, 5] * 8):
        for autoscaler, at in ((hurried, 30.0 * index), (calm, 30.0 * index)):
            autoscaler.observe(Sample(at, demand(rps), 0.0), model, POLICY)
        for back in (20.0, 10.0):
            if index:
                hurried.decide(workers(9, 9), 30.0 * index - back, model, POLICY)
        often = hurried.decide(workers(9, 9), 30.0 * index, model, POLICY)
        seldom = calm.decide(workers(9, 9), 30.0 * index, model, POLICY)
    assert often.pair == seldom.pair
    assert hurried.miss == calm.miss


def reversals(targets):
    moves = [after - before for before, after in pairwise(targets) if after != before]
    return sum(1 for before, after in pairwise(moves) if before * after < 0)


@pytest.mark.parametrize("rps", [30, 46, 50, 53, 60])
def test_a_flat_load_with_the_noise_of_its_arrivals_turns_at_most_twice_an_hour(model, rps):
    """Two and three prefill workers meet at 53.6 requests/s, which a window of 45 s shows now and then at 53."""
    hours, chance = 2, random.Random(1)
    policy = replace(POLICY, interval_seconds=15.0, scale_down_stabilization_seconds=None)
    counts = [chance.gauss(15 * rps, (15 * rps) ** 0.5) for _ in range(hours * 240 + 3)]
    loads = [sum(counts[index : index + 3]) / 45 for index in range(hours * 240)]
    decisions = run(model, loads, policy=policy, late_share=0.0)
    assert reversals([decision.prefill for decision in decisions]) <= 2 * hours
    assert reversals([decision.decode for decision in decisions]) <= 2 * hours


@settings(max_examples=40, deadline=None)
@given(
    loads=st.lists(st.none() | st.floats(0, 300), min_size=1, max_size=12),
    budget=st.integers(2, 40),
    step=st.integers(1, 8),
)
def test_targets_stay_within_bounds_and_budget_whatever_the_load(model, loads, budget, step):
    policy = replace(POLICY, gpu_budget=budget, max_step=step)
    for decision in run(model, loads, policy=policy, start=(1, 1)):
        assert decision.gpus <= budget
        assert min(decision.pair) >= 1


@pytest.mark.parametrize("fewest", [0, 1, 2])
def test_a_night_without_requests_never_takes_a_role_its_last_worker(model, fewest):
    policy = replace(POLICY, prefill=RoleBounds(fewest, 20), decode=RoleBounds(fewest, 20))
    assert run(model, [0.0] * 40, policy=policy, start=(4, 3))[-1].pair == (max(1, fewest), max(1, fewest))


def test_late_requests_lower_the_miss_and_hold_more(model):
    """An hour of a load that moves: what clients met decides how much of that is held for."""
    chance = random.Random(4)
    loads = [600 + chance.uniform(-200, 200) for _ in range(120)]
    held = {}
    for late_share in (0.0, 0.2):
        autoscaler = Autoscaler(forecaster=None)
        decisions = run(model, loads, autoscaler=autoscaler, late_share=late_share)
        held[late_share] = autoscaler.miss, sum(decision.gpus for decision in decisions)
    assert held[0.2][0] < held[0.0][0]
    assert held[0.2][1] > held[0.0][1]


def test_what_was_dared_before_a_restart_is_dared_after_it(model):
    fresh, restored = Autoscaler(forecaster=None), Autoscaler(forecaster=None, miss=0.002)
    assert restored.miss == pytest.approx(0.002)
    noisy = [60 + 7 * (k % 5) for k in range(60)]
    fresh_gpus, restored_gpus = (
        sum(decision.gpus for decision in run(model, noisy, autoscaler=autoscaler)) for autoscaler in (fresh, restored)
    )
    assert restored_gpus > fresh_gpus


def test_a_missing_late_share_moves_nothing_and_an_outage_keeps_what_was_learnt(model):
    autoscaler = Autoscaler(forecaster=None)
    run(model, [20] * 4, autoscaler=autoscaler, late_share=1.0)
    learnt = autoscaler.miss
    run(model, [20, None, None, 20], autoscaler=autoscaler, first_seconds=120.0)
    assert autoscaler.miss == learnt


def test_where_prefill_serves_in_order_fewer_workers_do(model):
    in_order = replace(POLICY, on_time_first=True)
    uneven = Demand(1.0, 1500.0, 1500.0**2 * (1 + 1.5**2), 20.0)
    pairs = [
        [alone(model, uneven.at(rps), policy).needed for policy in (POLICY, in_order)] for rps in range(100, 200, 9)
    ]
    assert all(ordered[0] <= as_they_come[0] and ordered[1] <= as_they_come[1] for as_they_come, ordered in pairs)
    assert any(ordered[0] < as_they_come[0] for as_they_come, ordered in pairs)


def test_a_past_is_taken_in_once_whether_or_not_it_comes_again(model):
    past = bins([demand(40 + 20 * (k % 7)) for k in range(300)], end_seconds=0.0)
    once, again = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    told = []
    for autoscaler, later in ((once, []), (again, past)):
        look(autoscaler, demand(40), model, now_seconds=10.0, past=past)
        look(autoscaler, demand(50), model, now_seconds=40.0, past=later)
        told.append((look(autoscaler, demand(40), model, now_seconds=70.0, past=later), autoscaler.outlook))
    assert told[0] == told[1]


def test_a_restart_with_a_past_knows_how_the_load_moves(model):
    """Without it, what is usual of loads is held for; a load that stood still for hours needs less than that."""
    still = bins([demand(60)] * 600, end_seconds=0.0)
    moving = bins([demand(60 + 50 * (k % 4)) for k in range(601)], end_seconds=0.0)
    peaks = []
    for past in (still, [], moving):
        autoscaler = Autoscaler(forecaster=None, miss=0.05)
        look(autoscaler, demand(60), model, now_seconds=10.0, past=past)
        peaks.append(autoscaler.outlook.prefill.peak / autoscaler.outlook.prefill.now)
    assert peaks[0] < peaks[1] < peaks[2]


def test_a_past_of_another_clock_is_moved_to_that_of_the_samples(model):
    loads = [demand(40 + 20 * (k % 7)) for k in range(300)]
    here, epoch = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    here.observe(Sample(10.0, demand(40)), model, POLICY, bins(loads, 0.0))
    epoch.observe(Sample(10.0, demand(40)), model, POLICY, bins(loads, 1e9), past_offset_seconds=-1e9)
    assert epoch.outlook == here.outlook


def test_lengths_of_the_past_are_those_of_a_night_without_requests(model):
    """At night nothing tells a length; a peak that is expected is planned for with those that were known last."""
    autoscaler = Autoscaler(forecaster=None)
    past = bins([demand(20, mean=3000.0)] * 60, end_seconds=0.0)
    night = look(autoscaler, Demand.none(), model, now_seconds=10.0, past=past)
    assert night.planned_for.prefill.input_tokens == pytest.approx(3000.0)
    assert autoscaler.outlook.prefill.per_request > 0
    asleep = Autoscaler(forecaster=None)
    look(asleep, demand(20, mean=3000.0), model)
    later = look(asleep, Demand.none(), model, now_seconds=30.0)
    assert later.planned_for.prefill.input_tokens == pytest.approx(3000.0)


@pytest.mark.parametrize("changed", ["profile", "lead"])
def test_a_changed_profile_or_lead_begins_the_forecast_anew_and_learns_the_past_again(model, changed):
    past = bins([demand(30 + 10 * (k % 5)) for k in range(300)], end_seconds=0.0)
    slower_start = {"prefill": 300.0, "decode": 300.0}
    other = model.corrected(prefill=2.0) if changed == "profile" else replace(model, startup_seconds=slower_start)
    through, fresh = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    through.observe(Sample(10.0, demand(40)), model, POLICY, past)
    before = through.outlook
    through.observe(Sample(20.0, demand(40)), other, POLICY, past)
    fresh.observe(Sample(20.0, demand(40)), other, POLICY, past)
    assert through.outlook == fresh.outlook
    assert through.outlook != before


def test_a_lead_that_drifts_a_little_keeps_the_forecast(model):
    past = bins([demand(30 + 10 * (k % 5)) for k in range(300)], end_seconds=0.0)
    drifting = replace(model, startup_seconds={"prefill": 64.0, "decode": 94.0})
    kept, fresh = Autoscaler(forecaster=None), Autoscaler(forecaster=None)
    for index in range(20):
        kept.observe(Sample(30.0 * index, demand(90 if index % 2 else 40)), model, POLICY, past)
    kept.observe(Sample(600.0, demand(40)), drifting, POLICY)
    fresh.observe(Sample(600.0, demand(40)), drifting, POLICY)
    assert kept.outlook.prefill.peak > fresh.outlook.prefill.peak, "it knows that the load moves"
