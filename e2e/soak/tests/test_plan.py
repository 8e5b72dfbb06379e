"""Which faults come when, whatever the seed."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.soak.plan import CALM_SECONDS, FIRST_SECONDS, TRAITS, Kind, plan

SEEDS = st.integers(0, 2**32)
KINDS = st.lists(st.sampled_from(Kind), min_size=1, unique=True)


@given(SEEDS, st.floats(0.1, 120.0), KINDS, st.floats(0.0, 120.0))
def test_faults_come_one_after_the_other_within_the_run(
    seed: int, minutes: float, kinds: list[Kind], settle: float
) -> None:
    found = plan(seed, minutes, kinds=kinds, settle_seconds=settle)
    assert {each.kind for each in found} <= set(kinds)
    for one, two in pairwise(found):
        assert two.at_seconds - one.at_seconds >= TRAITS[one.kind].usual_seconds + settle - 0.1
    for each in found:
        assert FIRST_SECONDS <= each.at_seconds <= 60 * minutes - TRAITS[each.kind].usual_seconds + 0.1


@given(SEEDS, st.floats(30.0, 120.0))
def test_the_second_half_of_a_long_run_belongs_to_one_operator(seed: int, minutes: float) -> None:
    last = max(each.at_seconds for each in plan(seed, minutes) if TRAITS[each.kind].ends_operator)
    assert last <= 30 * minutes + 0.1
    assert 60 * minutes - last >= CALM_SECONDS - 0.1


@given(SEEDS)
def test_a_run_of_the_usual_length_has_every_kind(seed: int) -> None:
    assert {each.kind for each in plan(seed, 40.0)} == set(Kind)


@given(SEEDS)
def test_a_short_try_has_each_kind_that_it_asks_for(seed: int) -> None:
    kinds = [Kind.OPERATOR_KILL, Kind.EVICTION]
    assert {each.kind for each in plan(seed, 3.0, kinds=kinds)} == set(kinds)


def test_the_same_seed_gives_the_same_faults_whatever_was_drawn_before() -> None:
    random.seed(5)
    first = plan(24, 40.0)
    random.seed(6)
    assert plan(24, 40.0) == first
    assert plan(25, 40.0) != first


def test_kinds_come_as_often_as_they_weigh() -> None:
    kinds = [Kind.EVICTION, Kind.NODE_DRAIN]
    drawn = [each.kind for each in plan(3, 3000.0, kinds=kinds)]
    share = drawn.count(Kind.EVICTION) / len(drawn)
    expected = TRAITS[Kind.EVICTION].weight / sum(TRAITS[kind].weight for kind in kinds)
    assert share == pytest.approx(expected, abs=0.05)


def test_there_may_be_no_time_for_a_fault() -> None:
    assert plan(1, 0.5) == []
