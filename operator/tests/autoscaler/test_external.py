"""What a scaler of the user's own asks for is done within the bounds, at once and whole."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dopd.autoscaler import Reason
from dopd.autoscaler.external import as_asked
from dopd.planning import Bound, Policy

from .worlds import POLICY

WORKERS = st.integers(0, 60)
PAIRS = st.tuples(WORKERS, WORKERS)


def policy(prefill_max: int = 20, decode_max: int = 20, budget: int | None = None, step: int = 1) -> Policy:
    prefill = replace(POLICY.prefill, min=1, max=prefill_max, gpus=1)
    decode = replace(POLICY.decode, min=1, max=decode_max, gpus=1)
    return replace(
        POLICY, prefill=prefill, decode=decode, gpu_budget=budget, gpu_budget_min=0, ratio=None, max_step=step
    )


@given(PAIRS, PAIRS, st.integers(1, 30), st.integers(1, 30), st.none() | st.integers(2, 40))
def test_bounds_hold_whatever_is_asked_for(
    asked: tuple[int, int], before: tuple[int, int], prefill_max: int, decode_max: int, budget: int | None
):
    decision = as_asked(asked, before, policy(prefill_max, decode_max, budget))
    assert 1 <= decision.prefill <= prefill_max
    assert 1 <= decision.decode <= decode_max
    assert budget is None or decision.gpus <= budget
    inside = 1 <= asked[0] <= prefill_max and 1 <= asked[1] <= decode_max and (budget is None or sum(asked) <= budget)
    assert (decision.pair == asked) is inside
    assert bool(decision.limited_by) is not inside


def test_what_is_asked_for_is_done_at_once_and_told():
    decision = as_asked((9, 4), (1, 1), policy())
    assert (decision.pair, decision.reason) == ((9, 4), Reason.EXTERNAL)
    assert decision.message == "a scaler asks for 9 prefill and 4 decode workers"
    assert as_asked((9, 4), (9, 4), policy()).reason is Reason.STEADY


def test_a_bound_that_bites_is_named():
    decision = as_asked((3, 40), (3, 3), policy())
    assert decision.pair == (3, 20)
    assert decision.limited_by == (Bound.DECODE_MAX,)
    assert decision.message.endswith("limited by DecodeMax")


def test_bounds_that_contradict_each_other_move_nothing():
    decision = as_asked((3, 3), (2, 2), policy(budget=1))
    assert (decision.pair, decision.reason) == ((2, 2), Reason.NO_ROOM)
