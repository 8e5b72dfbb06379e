from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning import Bound, Policy, Ratio, RoleBounds
from dopd.planning.bounds import NoRoomError, apply_bounds


@st.composite
def policies(draw):
    def role():
        low = draw(st.integers(1, 5))
        return RoleBounds(low, draw(st.integers(low, 20)), draw(st.sampled_from([1, 2, 4])))

    prefill, decode = role(), role()
    minimum = prefill.min * prefill.gpus + decode.min * decode.gpus
    low, high = sorted(Fraction(draw(st.integers(1, 4)), draw(st.integers(1, 4))) for _ in range(2))
    return Policy(
        prefill=prefill,
        decode=decode,
        gpu_budget=draw(st.none() | st.integers(minimum, 80)) if minimum <= 80 else None,
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
    ],
)
def test_bounds_by_example(policy, wanted, expected, bit):
    assert apply_bounds(wanted, (3, 3), policy) == (expected, bit)


def test_a_fixed_budget_moves_only_the_ratio():
    policy = Policy(gpu_budget=12)
    for wanted in ((10, 5), (4, 20), (30, 30)):
        assert policy.gpus(*apply_bounds(wanted, (6, 6), policy)[0]) == 12


def test_a_budget_below_the_minimum_is_refused_with_the_numbers():
    policy = Policy(prefill=RoleBounds(2, 4, gpus=4), gpu_budget=6)
    with pytest.raises(NoRoomError, match=r"gpuBudget.max is 6 GPUs.*needs 9"):
        apply_bounds((2, 1), (2, 1), policy)
