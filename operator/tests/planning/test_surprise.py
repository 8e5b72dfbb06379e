import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.surprise import (
    FIRST_CAUTION,
    LEAST_CAUTION,
    MOST_CAUTION,
    LoadSample,
    adapted,
    remember,
    typical_move,
)


def test_a_flat_past_shrinks_the_margin_below_the_first_guess():
    times = [15.0 * k for k in range(100)]
    assert typical_move(times, [5.0] * 100, 60) < typical_move([], [], 60)


def test_swings_between_looks_count_as_moves():
    times = [15.0 * k for k in range(200)]
    swinging = [4.0 if (k // 4) % 2 else 6.0 for k in range(200)]
    assert typical_move(times, swinging, 60) > 0.3


def test_one_ramp_does_not_inflate_the_margin_for_an_hour():
    times = [15.0 * k for k in range(240)]
    loads = [1.0 + k for k in range(6)] + [6.0] * 234
    assert typical_move(times, loads, 60) < 0.01


def test_late_requests_raise_caution_at_once_and_clean_looks_lower_it_slowly():
    assert adapted(2.0, 0.8, 0.01) > 2.2
    assert 2.0 - 0.01 < adapted(2.0, 0.0, 0.01) < 2.0
    assert adapted(2.0, None, 0.01) == 2.0


@given(late=st.lists(st.floats(0, 1), max_size=50))
def test_caution_stays_within_its_limits(late):
    caution = FIRST_CAUTION
    for share in late:
        caution = adapted(caution, share, 0.01)
        assert LEAST_CAUTION <= caution <= MOST_CAUTION


def test_memory_is_an_hour_of_looks_that_do_not_crowd():
    history: tuple[LoadSample, ...] = ()
    for k in range(3000):
        history = remember(history, LoadSample(5.0 * k, 1.0, 1.0))
    assert len(history) == pytest.approx(240, abs=1)
