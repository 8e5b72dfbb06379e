import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.planning.surprise import (
    FIRST_CAUTION,
    LEAST_CAUTION,
    MOST_CAUTION,
    LoadSample,
    adapted,
    calmed,
    counting_noise,
    remember,
    typical_move,
    without_noise,
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
        history = remember(history, LoadSample(5.0 * k, 1.0, 1.0, 1.0, 1.0))
    assert len(history) == pytest.approx(240, abs=1)


def looks(loads, spacing=15.0):
    return [spacing * k for k in range(len(loads))], list(loads)


def test_a_flat_load_is_averaged_so_that_chance_is_not_followed():
    times, loads = looks([2.0, 2.1, 1.9, 2.0] * 12)
    assert calmed(times, [*loads[:-1], 2.15], 45.0, counting_noise(500, 1.0)) == pytest.approx(2.0, abs=0.02)


def test_a_load_that_moved_is_taken_as_it_is_now():
    times, loads = looks([2.0] * 40 + [2.33, 2.67, 3.0])
    assert calmed(times, loads, 45.0, counting_noise(500, 1.0)) == 3.0


def test_of_few_requests_more_is_chance():
    times, loads = looks([2.0] * 40 + [2.33, 2.67, 3.0])
    assert calmed(times, loads, 45.0, counting_noise(20, 1.0)) < 2.5


@given(st.lists(st.floats(0, 50), min_size=1, max_size=60), st.floats(0, 1))
def test_the_calm_load_lies_within_what_was_seen(loads, noise):
    times, loads = looks(loads)
    calm = calmed(times, loads, 45.0, noise)
    assert min(loads) * (1 - 1e-9) <= calm <= max(loads) * (1 + 1e-9)
    assert calmed(times, loads, 45.0, 0.0) == loads[-1]


def test_moves_that_chance_explains_are_none():
    generator = np.random.default_rng(5)
    requests = generator.poisson(100, 400)
    times, loads = looks([generator.exponential(1.0, count).sum() for count in requests], 60.0)
    move = typical_move(times[-60:], loads[-60:], 120.0)
    assert move > 0.15
    assert without_noise(move, counting_noise(100, 1.0)) < 0.6 * move
    assert without_noise(0.1, 0.01) == 0.0
