import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dopd.planning import Demand, Load, Objectives, size
from dopd.planning.queueing import SHARED_PASS, PrefillLoad, erlang_c, largest_batch

OBJECTIVES = Objectives(ttft_seconds=1.5, itl_seconds=0.05, attainment=0.99)
demands = st.builds(
    lambda rps, mean, cv, out, share: Demand(rps, mean, mean**2 * (1 + cv**2), out, share),
    st.floats(0, 200),
    st.floats(10, 4000),
    st.floats(0, 1.2),
    st.floats(1, 1000),
    st.floats(0.05, 1),
)


def demand(rps=20.0, mean=1000.0, cv=1.0, out=200.0, share=1.0):
    return Demand(rps, mean, mean**2 * (1 + cv**2), out, share)


@pytest.mark.parametrize(
    ("workers", "busy", "published"), [(1, 0.5, 0.5), (2, 1.0, 1 / 3), (3, 2.0, 4 / 9), (10, 8.0, 0.4092)]
)
def test_erlang_c_gives_the_textbook_values(workers, busy, published):
    assert erlang_c(workers, busy) == pytest.approx(published, abs=1e-4)


def test_hardly_anything_waits_for_one_of_very_many_workers():
    assert erlang_c(1000, 1e-3) == 0
    assert 0 < erlang_c(1000, 999.0) < 1


@settings(max_examples=60)
@given(demand=demands, rate=st.floats(0, 500), in_order=st.booleans())
def test_a_load_at_another_rate_is_the_load_of_the_demand_at_that_rate(model, demand, rate, in_order):
    carried = Load.of(demand, model, OBJECTIVES, in_order).at(rate)
    assert carried == Load.of(demand.at(rate), model, OBJECTIVES, in_order)


def test_one_worker_waits_as_the_pollaczek_khinchine_formula_says(model):
    load = PrefillLoad.of(demand(rps=10), model)
    second_moment = load.mean_seconds**2 * (1 + load.squared_cv)
    textbook = 10 * second_moment / (2 * (1 - load.busy_workers))
    assert load.mean_wait_seconds(1) == pytest.approx(SHARED_PASS * textbook)


def test_decode_follows_littles_law(model):
    answer = size(demand(rps=20), model, OBJECTIVES)
    full = model.itl_seconds(answer.batch_limit, demand().running_context_tokens)
    assert answer.decode_exact == pytest.approx(20 * 199 * full / answer.batch_limit)


@pytest.mark.parametrize(
    ("objectives", "mean", "limit"),
    [
        (OBJECTIVES, 500, "engine"),
        (OBJECTIVES, 6000, "kv"),
        (replace(OBJECTIVES, itl_seconds=0.01), 500, "itl"),
    ],
)
def test_the_batch_names_what_limits_it(model, objectives, mean, limit):
    assert size(demand(mean=mean, cv=0.1), model, objectives).batch_limited_by == limit


def test_variance_of_length_costs_prefill_workers_at_the_same_mean(model):
    even, uneven = (size(demand(rps=165, mean=1500, cv=cv), model, OBJECTIVES) for cv in (0.0, 1.5))
    assert uneven.prefill_exact > even.prefill_exact
    assert uneven.prefill > even.prefill


def test_the_prefix_cache_saves_prefill_and_not_decode(model):
    cold, warm = (size(demand(rps=100, share=share), model, OBJECTIVES) for share in (1.0, 0.3))
    assert warm.prefill < cold.prefill
    assert warm.decode == cold.decode


def test_what_is_computed_pays_attention_to_what_is_cached(model):
    convex = replace(model, prefill_curve=((1.0, 0.01), (2000.0, 0.06), (8000.0, 0.3)))
    alone = PrefillLoad.of(demand(mean=2000.0, cv=0.0), convex)
    behind_as_much = PrefillLoad.of(demand(mean=4000.0, cv=0.0, share=0.5), convex)
    attention_seconds = 2 * convex.attention_seconds * 2000.0 * 2000.0
    assert attention_seconds > 0
    assert behind_as_much.mean_seconds == pytest.approx(alone.mean_seconds + attention_seconds)


@settings(max_examples=60)
@given(demand=demands)
def test_the_answer_meets_the_objectives_in_the_queueing_model(model, demand):
    answer = size(demand, model, OBJECTIVES)
    if not answer.infeasible:
        met = Load.of(demand, model, OBJECTIVES).expect(answer.prefill, answer.decode)
        assert met.attainment >= 0.99 - 1e-9
        assert met.itl_seconds <= OBJECTIVES.itl_seconds


@settings(max_examples=60)
@given(demand=demands)
def test_no_cheaper_neighbour_meets_the_objectives(model, demand):
    answer = size(demand, model, OBJECTIVES)
    for prefill, decode in ((answer.prefill - 1, answer.decode), (answer.prefill, answer.decode - 1)):
        if not answer.infeasible and min(prefill, decode) >= 1:
            assert Load.of(demand, model, OBJECTIVES).expect(prefill, decode).attainment < 0.99


@settings(max_examples=60)
@given(demand=demands, factor=st.floats(1, 3))
def test_more_load_never_costs_fewer_gpus(model, demand, factor):
    less, more = (size(d, model, OBJECTIVES) for d in (demand, demand.scaled(factor)))
    assert more.prefill + more.decode >= less.prefill + less.decode


@settings(max_examples=40)
@given(demand=demands)
def test_an_engine_twice_as_fast_under_twice_the_load_with_half_the_objectives_needs_the_same(model, demand):
    fast = replace(
        model,
        prefill_curve=tuple((t, s / 2) for t, s in model.prefill_curve),
        itl_curves=tuple((c, tuple((b, s / 2) for b, s in curve)) for c, curve in model.itl_curves),
        transfer_base_seconds=model.transfer_base_seconds / 2,
        transfer_tokens_per_second=model.transfer_tokens_per_second * 2,
    )
    here = size(demand, model, OBJECTIVES)
    there = size(demand.scaled(2), fast, Objectives(0.75, 0.025, 0.99))
    assert (there.prefill, there.decode) == (here.prefill, here.decode)


@settings(max_examples=60)
@given(demand=demands)
def test_every_number_is_finite_and_at_least_one_worker_stands(model, demand):
    answer = size(demand, model, OBJECTIVES)
    assert min(answer.prefill, answer.decode) >= 1
    numbers = (answer.prefill_exact, answer.decode_exact, answer.expected.itl_seconds, answer.expected.attainment)
    assert all(math.isfinite(number) for number in numbers)


def test_a_ttft_that_long_prompts_miss_on_an_idle_worker_is_infeasible_and_the_nearest_is_named(model):
    answer = size(demand(rps=5, mean=8000, cv=1.0), model, replace(OBJECTIVES, ttft_seconds=0.3))
    assert "TTFT 0.3 s" in answer.infeasible
    assert "nearest feasible" in answer.infeasible
    assert answer.prefill < 20


def test_an_itl_below_that_of_one_request_is_infeasible_and_does_not_buy_the_whole_fleet(model):
    answer = size(demand(), model, replace(OBJECTIVES, itl_seconds=0.001))
    assert "ITL 0.001 s" in answer.infeasible
    assert answer.expected.attainment == 0
    assert answer.decode < 100


def test_largest_batch_is_the_last_one_within_the_objective(model):
    batch = largest_batch(model.itl_curve(1000), 0.02, 256)
    assert model.itl_seconds(batch, 1000) <= 0.02 < model.itl_seconds(batch + 1, 1000)


def test_a_role_over_the_cap_is_named_and_the_other_is_sized_by_itself(model):
    answer = size(demand(rps=3000, out=2000), model, OBJECTIVES)
    assert answer.decode_exact > 1000 > answer.prefill_exact
    assert answer.decode == 1000
    assert answer.prefill_exact < answer.prefill < 1.2 * answer.prefill_exact
    assert f"decode: the load keeps {answer.decode_exact:.0f} workers busy and needs more than" in answer.infeasible
    assert "prefill" not in answer.infeasible


def test_both_roles_over_the_cap_are_named(model):
    answer = size(demand(rps=100_000), model, OBJECTIVES)
    assert (answer.prefill, answer.decode) == (1000, 1000)
    assert "prefill: the load keeps" in answer.infeasible
    assert "decode: the load keeps" in answer.infeasible


@given(rate=st.floats(0.1, 400), mean=st.floats(50, 20_000), cv=st.floats(0, 3), workers=st.integers(1, 40))
def test_in_order_no_more_are_late_than_as_they_come_and_more_workers_make_no_more_late(model, rate, mean, cv, workers):
    asked = demand(rps=rate, mean=mean, cv=cv)
    as_they_come, in_order = PrefillLoad.of(asked, model), PrefillLoad.of(asked, model, on_time_first=True)
    late = in_order.late_share(workers, 1.5)
    assert 0 <= late <= as_they_come.late_share(workers, 1.5) <= 1 + 1e-9
    assert in_order.late_share(workers + 1, 1.5) <= late + 1e-9


def test_in_order_fewer_workers_do(model):
    asked = demand(rps=200.0, mean=1500.0, cv=1.5)
    as_they_come, in_order = size(asked, model, OBJECTIVES), size(asked, model, OBJECTIVES, on_time_first=True)
    assert as_they_come.prefill_exact < in_order.prefill < as_they_come.prefill
    assert in_order.decode <= as_they_come.decode
