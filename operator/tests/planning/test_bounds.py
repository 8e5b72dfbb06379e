from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning import Bound, Policy, Ratio, RoleBounds
from dopd.planning.bounds import NoRoomError, apply_bounds, with_spare


@st.composite
def policies(draw):
    def role():
        low = draw(st.integers(1, 5))
        return RoleBounds(low, draw(st.integers(low, 20)), draw(st.sampled_from([1, 2, 4])))

    prefill, decode = role(), role()
    minimum = prefill.min * prefill.gpus + decode.min * decode.gpus
    budget = draw(st.none() | st.integers(minimum, 80)) if minimum <= 80 else None
    low, high = sorted(Fraction(draw(st.integers(1, 4)), draw(st.integers(1, 4))) for _ in range(2))
    return Policy(
        prefill=prefill,
        decode=decode,
        gpu_budget=budget,
        gpu_budget_min=draw(st.integers(0, budget)) if budget is not None else 0,
        ratio=draw(st.none() | st.just(Ratio(low, high))),
        max_step=draw(st.integers(1, 10)),
    )


pairs = st.tuples(st.integers(0, 40), st.integers(0, 40))


@given(policy=policies(), wanted=pairs, previous=pairs)
def test_every_hard_bound_holds_and_the_result_is_a_fixed_point(policy, wanted, previous):
    try:
        (prefill, decode), _ = apply_bounds(wanted, previous, policy)
    except NoRoomError:
        return
    assert policy.prefill.min <= prefill <= policy.prefill.max
    assert policy.decode.min <= decode <= policy.decode.max
    if policy.gpu_budget is not None:
        assert policy.gpus(prefill, decode) <= policy.gpu_budget
    if policy.ratio is not None:
        assert policy.ratio.min <= Fraction(prefill, decode) <= policy.ratio.max
    assert apply_bounds((prefill, decode), (prefill, decode), policy) == ((prefill, decode), ())


@given(policy=policies(), wanted=pairs, previous=pairs)
def test_a_bound_is_reported_exactly_if_the_result_differs(policy, wanted, previous):
    try:
        pair, bit = apply_bounds(wanted, previous, policy)
    except NoRoomError:
        return
    assert (pair != wanted) <= bool(bit)


@given(policy=policies(), wanted=pairs, previous=pairs)
def test_a_budget_is_filled_as_far_as_the_other_bounds_allow(policy, wanted, previous):
    try:
        (prefill, decode), _ = apply_bounds(wanted, previous, policy)
    except NoRoomError:
        return
    missing = policy.gpu_budget_min - policy.gpus(prefill, decode)
    if missing <= 0:
        return
    for pair in ((prefill + 1, decode), (prefill, decode + 1)):
        outside = pair[0] > policy.prefill.max or pair[1] > policy.decode.max
        over = policy.gpu_budget is not None and policy.gpus(*pair) > policy.gpu_budget
        lopsided = policy.ratio is not None and not policy.ratio.min <= Fraction(*pair) <= policy.ratio.max
        assert outside or over or lopsided


@given(wanted=st.tuples(st.integers(1, 12), st.integers(1, 12)), previous=pairs, low=st.integers(2, 24))
def test_filling_up_takes_nothing_from_what_the_load_needs_and_costs_no_gpu_more_than_it_must(wanted, previous, low):
    policy = Policy(gpu_budget=24, gpu_budget_min=low, max_step=100)
    pair, bit = apply_bounds(wanted, previous, policy)
    assert pair[0] >= wanted[0]
    assert pair[1] >= wanted[1]
    assert policy.gpus(*pair) == max(low, sum(wanted))
    assert bit == ((Bound.GPU_BUDGET_MIN,) if sum(wanted) < low else ())


@pytest.mark.parametrize(
    ("policy", "wanted", "expected", "bit"),
    [
        (Policy(prefill=RoleBounds(2, 4)), (9, 3), (4, 3), (Bound.PREFILL_MAX,)),
        (Policy(prefill=RoleBounds(2, 4)), (1, 3), (2, 3), (Bound.PREFILL_MIN,)),
        (Policy(gpu_budget=12), (10, 5), (8, 4), (Bound.GPU_BUDGET,)),
        (Policy(gpu_budget=10), (10, 5), (6, 4), (Bound.GPU_BUDGET,)),
        (Policy(ratio=Ratio(Fraction(1, 2), Fraction(2))), (1, 6), (3, 6), (Bound.RATIO,)),
        (
            Policy(ratio=Ratio(Fraction(1, 2), Fraction(2)), gpu_budget=6),
            (1, 6),
            (2, 4),
            (Bound.RATIO, Bound.GPU_BUDGET),
        ),
        (Policy(max_step=2), (9, 3), (5, 3), (Bound.STEP,)),
        (Policy(gpu_budget=12, gpu_budget_min=8), (2, 1), (5, 3), (Bound.GPU_BUDGET_MIN,)),
        (Policy(gpu_budget=12, gpu_budget_min=8), (6, 3), (6, 3), ()),
        (
            Policy(prefill=RoleBounds(1, 3), gpu_budget=12, gpu_budget_min=12),
            (2, 1),
            (3, 9),
            (Bound.GPU_BUDGET_MIN,),
        ),
        (
            Policy(prefill=RoleBounds(gpus=4), decode=RoleBounds(gpus=4), gpu_budget=10, gpu_budget_min=10),
            (1, 1),
            (1, 1),
            (),
        ),
    ],
)
def test_bounds_by_example(policy, wanted, expected, bit):
    assert apply_bounds(wanted, (3, 3), policy) == (expected, bit)


@pytest.mark.parametrize("wanted", [(10, 5), (4, 20), (30, 30), (1, 1), (3, 1), (1, 5)])
def test_a_budget_with_equal_ends_moves_only_the_ratio(wanted):
    policy = Policy(gpu_budget=12, gpu_budget_min=12, max_step=100)
    pair, _ = apply_bounds(wanted, (6, 6), policy)
    assert policy.gpus(*pair) == 12


def test_what_fills_a_budget_up_is_not_moved_for_a_little_more_balance():
    policy = Policy(gpu_budget=12, gpu_budget_min=12, max_step=100)
    assert apply_bounds((4, 4), (7, 5), policy)[0] == (7, 5)
    assert apply_bounds((4, 4), (8, 4), policy)[0] == (6, 6), "decode has no room left at all"


@given(
    arriving=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    waiting=st.tuples(st.integers(0, 20), st.integers(0, 20)),
)
def test_what_waits_takes_no_worker_from_what_arrives(arriving, waiting):
    policy = Policy(gpu_budget=12, max_step=100)
    wanted = tuple(map(sum, zip(arriving, waiting, strict=True)))
    pair, _ = apply_bounds(wanted, (1, 1), policy, arriving)
    if sum(arriving) > 12:
        assert pair == apply_bounds(arriving, (1, 1), policy)[0]
    else:
        assert pair[0] >= arriving[0]
        assert pair[1] >= arriving[1]
        assert sum(pair) == min(12, sum(wanted))


def test_a_budget_too_small_is_not_divided_anew_for_little():
    policy = Policy(gpu_budget=15, max_step=100)
    assert apply_bounds((14, 7), (9, 6), policy)[0] == (9, 6), "serves 0.64 of prefill where 10+5 serves 0.71 of both"
    assert apply_bounds((14, 7), (8, 7), policy)[0] == (10, 5), "serves 0.57 of prefill"
    assert apply_bounds((14, 7), (8, 5), policy)[0] == (10, 5), "2 GPUs are free"


def test_a_budget_below_the_minimum_is_refused_with_the_numbers():
    policy = Policy(prefill=RoleBounds(2, 4, gpus=4), gpu_budget=6)
    with pytest.raises(NoRoomError, match=r"gpuBudget.max is 6 GPUs.*needs 9"):
        apply_bounds((2, 1), (2, 1), policy)
    with pytest.raises(NoRoomError, match=r"while night of spec.scaling.schedules holds"):
        apply_bounds((2, 1), (2, 1), replace(policy, schedules=("night",)))


@given(policies(), pairs, st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_spare_workers_have_what_the_budget_leaves_and_take_nothing(policy, wanted, spare):
    prefill, decode = (replace(role, spare=n) for role, n in zip((policy.prefill, policy.decode), spare, strict=True))
    policy = replace(policy, prefill=prefill, decode=decode)
    pair, bit = with_spare(wanted, policy)
    held = tuple(p - w for p, w in zip(pair, wanted, strict=True))
    assert all(0 <= had <= asked for had, asked in zip(held, spare, strict=True))
    assert bit == (() if held == spare else (Bound.GPU_BUDGET,))
    if held == spare or policy.gpu_budget is None:
        assert held == spare
        return
    assert pair == wanted or policy.gpus(*pair) <= policy.gpu_budget
    each = max(held)
    one_more = tuple(min(asked, each + 1) for asked in spare)
    assert policy.gpus(wanted[0] + one_more[0], wanted[1] + one_more[1]) > policy.gpu_budget
