import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.surprise import (
    FIRST_CAUTION,
    LEAST_CAUTION,
    MOST_CAUTION,
    MOST_RISE,
    LoadSample,
    adapted,
    move_from,
    remember,
    rise,
    sampling_noise,
    typical_move,
)


def test_a_flat_past_shrinks_the_margin_below_the_first_guess():
    times = [15.0 * k for k in range(100)]
    assert typical_move(times, [5.0] * 100, 60) < typical_move([], [], 60)


def test_before_there_is_a_past_the_load_is_taken_to_wander_at_random():
    wander = typical_move([], [], 75)
    assert typical_move([], [], 300) == pytest.approx(2 * wander)
    assert typical_move([], [], 10) == pytest.approx(wander)


def test_a_load_that_is_flat_but_for_its_samples_does_not_move():
    chance, noise = random.Random(1), sampling_noise(requests=400, squared_cv=3.0)
    times = [45.0 * k for k in range(400)]
    measured = [8.0 * chance.gauss(1.0, noise) for _ in times]
    move = typical_move(times, measured, 180)
    assert move == pytest.approx(2**0.5 * noise, rel=0.1)
    assert move_from(move, noise, noise) == pytest.approx(noise, rel=0.15)


@given(requests=st.floats(1e-3, 1e6), squared_cv=st.floats(0, 100))
def test_the_work_of_fewer_or_more_varied_requests_is_known_less_well(requests, squared_cv):
    noise = sampling_noise(requests, squared_cv)
    assert noise >= sampling_noise(2 * requests, squared_cv)
    assert noise <= sampling_noise(requests, squared_cv + 1)
    assert noise**2 * requests == pytest.approx(1 + squared_cv)


def test_nothing_is_said_of_the_noise_where_nothing_came():
    assert sampling_noise(0.0, 1.0) == 0


@given(move=st.floats(0, 10), noise=st.floats(0, 10))
def test_noise_takes_from_a_move_and_adds_nothing_that_was_not_seen(move, noise):
    """Requests that come at even distances show less of it than the Poisson process would."""
    assert move_from(move, 0.0, 0.0) == pytest.approx(move)
    assert 0 <= move_from(move, noise, noise) <= move
    assert move_from(move, noise, noise) >= min(move, noise)


def test_a_move_far_greater_than_the_noise_is_a_move_of_the_load():
    assert move_from(0.5, 0.1, 0.1) == pytest.approx(0.5, rel=0.05)


def test_swings_between_looks_count_as_moves():
    times = [15.0 * k for k in range(200)]
    swinging = [4.0 if (k // 4) % 2 else 6.0 for k in range(200)]
    assert typical_move(times, swinging, 60) > 0.3


def test_one_ramp_does_not_inflate_the_margin_for_an_hour():
    times = [15.0 * k for k in range(240)]
    loads = [1.0 + k for k in range(6)] + [6.0] * 234
    assert typical_move(times, loads, 60) < 0.01


def test_late_requests_raise_caution_at_once_and_clean_looks_lower_it_slowly():
    assert adapted(2.0, 0.8, 0.01, 0.0) > 2.2
    assert 2.0 - 0.01 < adapted(2.0, 0.0, 0.01, 0.0) < 2.0
    assert adapted(2.0, None, 0.01, 0.0) == 2.0


@given(late=st.lists(st.floats(0, 1), max_size=50))
def test_caution_stays_within_its_limits(late):
    caution = FIRST_CAUTION
    for share in late:
        caution = adapted(caution, share, 0.01, 0.0)
        assert LEAST_CAUTION <= caution <= MOST_CAUTION


def test_caution_sinks_below_the_least_one_where_the_error_budget_stands_in_for_it():
    caution = LEAST_CAUTION
    for _ in range(1000):
        caution = adapted(caution, 0.0, 0.01, 0.5)
    assert caution == pytest.approx(LEAST_CAUTION / 2)
    assert adapted(caution, 0.0, 0.01, 0.0) == LEAST_CAUTION


def test_in_debt_late_requests_raise_caution_faster_and_clean_looks_lower_it_no_faster():
    assert adapted(1.5, 0.4, 0.01, -1.0) - 1.5 == pytest.approx(2 * (adapted(1.5, 0.4, 0.01, 0.0) - 1.5))
    assert adapted(2.5, 0.0, 0.01, -0.5) == adapted(2.5, 0.0, 0.01, 0.0)
    assert adapted(1.5, 0.4, 0.01, 0.9) == adapted(1.5, 0.4, 0.01, 0.0), "a saved budget makes nobody slower"


def test_memory_is_an_hour_of_looks_that_do_not_crowd():
    history: tuple[LoadSample, ...] = ()
    for k in range(3000):
        history = remember(history, LoadSample(5.0 * k, 1.0, 1.0, 1.0))
    assert len(history) == pytest.approx(240, abs=1)


TIMES = [15.0 * k for k in range(60)]


def test_a_rise_is_taken_to_go_on_for_the_lead_time_but_a_step_not_for_ever():
    ramp = [4.0] * 48 + [4.0 + 0.2 * k for k in range(12)]
    assert rise(TIMES, ramp, 90) == pytest.approx(ramp[-1] / ramp[-7] - 1)
    assert rise(TIMES, ramp, 180) == pytest.approx(2 * (ramp[-1] / ramp[-7] - 1))
    assert rise(TIMES, [4.0] * 59 + [40.0], 180) == MOST_RISE


def test_noise_a_fall_and_a_load_too_small_to_measure_are_no_rise():
    noisy = [4.0 + (k * 7 % 5) * 0.1 for k in range(60)]
    assert rise(TIMES, noisy, 180) == 0
    assert rise(TIMES, noisy[::-1], 180) == 0
    assert rise(TIMES, [4.0 - 0.05 * k for k in range(60)], 180) == 0
    assert rise(TIMES, [0.0] * 59 + [0.04], 180) == 0
    assert rise(TIMES[:3], [1.0, 2.0, 4.0], 180) == 0


@given(loads=st.lists(st.floats(0, 1e6), min_size=1, max_size=60), lead=st.floats(1, 1000))
def test_a_rise_is_neither_negative_nor_beyond_its_limit(loads, lead):
    assert 0 <= rise(TIMES[: len(loads)], loads, lead) <= MOST_RISE
