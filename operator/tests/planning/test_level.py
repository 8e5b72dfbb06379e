import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dopd.api.names import Role
from dopd.planning.level import FEWEST_SAMPLES, FLAT_NOISE, FLAT_SECONDS, level
from dopd.planning.surprise import LoadSample

NOISE, WINDOW_SECONDS, LOOKS = 0.05, 45.0, 120


def history(load_at, *, seed=1, looks=LOOKS, looks_apart=15.0):
    """Samples of a load of both roles, each with a noise of its own; the last is of time 0."""
    chance, times = random.Random(seed), [looks_apart * (k - looks + 1) for k in range(looks)]
    samples = ((at, load_at(at) * chance.gauss(1, NOISE), load_at(at) * chance.gauss(1, NOISE)) for at in times)
    return tuple(LoadSample(at, prefill, decode, 10 * prefill) for at, prefill, decode in samples)


def known(samples, role=Role.PREFILL, noise=NOISE):
    return level(samples, samples[-1], role, noise, WINDOW_SECONDS)


@given(seed=st.integers(0, 10_000))
def test_what_is_known_of_a_load_that_stands_still_is_nearer_to_it_than_its_noise(seed):
    samples = history(lambda _: 2.0, seed=seed)
    found = known(samples)
    if found.flat:
        assert found.share * samples[-1].prefill == pytest.approx(2.0, rel=4 * NOISE / 40**0.5)
        assert found.noise < NOISE / 3
        assert abs(1 / found.share - 1) <= FLAT_NOISE * NOISE


def test_nearly_every_load_that_stands_still_is_seen_to():
    still = [known(history(lambda _: 2.0, seed=seed), role).flat for seed in range(200) for role in Role]
    assert sum(still) > 0.97 * len(still)


def test_the_work_of_a_request_is_the_mean_one_too():
    """Prompts of a window that happen to be long make a load of many requests that are no more than usual."""
    usual = [LoadSample(15.0 * k, 2.0 + 0.02 * (k % 2), 1.0, 20.0 + 0.2 * (k % 2)) for k in range(LOOKS)]
    long_prompts = LoadSample(15.0 * LOOKS, 2.2, 1.0, 20.0)
    found = level((*usual, long_prompts), long_prompts, Role.PREFILL, NOISE, WINDOW_SECONDS)
    assert found.flat
    assert found.work_share == pytest.approx(2.0 / 2.2, rel=0.01)


@pytest.mark.parametrize("seed", range(20))
def test_a_step_is_seen_at_once(seed):
    samples = history(lambda at: 2.0 if at < 0 else 2.0 * (1 + 7 * NOISE), seed=seed)
    assert not known(samples).flat
    assert known(samples).share == 1


@pytest.mark.parametrize("seed", range(20))
def test_a_ramp_of_a_tenth_in_a_minute_hides_no_more_than_two_minutes(seed):
    risen = [minutes for minutes in range(10) if not known(history(lambda at, m=minutes: ramp(at, m), seed=seed)).flat]
    assert risen
    assert risen[0] <= 3
    assert set(range(4, 10)) <= set(risen), "and once it is seen it stays so"


def ramp(at, minutes):
    """A load that has risen by a tenth a minute for so many of them."""
    return 2.0 * (1 + 0.1 * max(0.0, minutes + at / 60))


def test_each_role_stands_still_by_itself():
    calm = history(lambda _: 2.0)
    samples = tuple(LoadSample(s.at_seconds, s.prefill, 1.0 + k / LOOKS, 10.0) for k, s in enumerate(calm))
    assert known(samples, Role.PREFILL).flat
    assert not known(samples, Role.DECODE).flat


@pytest.mark.parametrize(
    "samples",
    [
        pytest.param(history(lambda _: 2.0, looks=int(FLAT_SECONDS / 15)), id="known too short"),
        pytest.param(history(lambda _: 2.0, looks_apart=FLAT_SECONDS / FEWEST_SAMPLES + 10), id="looks far apart"),
        pytest.param(history(lambda _: 0.01), id="hardly any load"),
        pytest.param(history(lambda _: 0.0), id="none"),
        pytest.param(history(lambda at: 2.0 if at < -900 else 0.0), id="none any more"),
        pytest.param((*history(lambda _: 2.0)[:30], *history(lambda _: 2.0)[-3:]), id="an outage in between"),
    ],
)
def test_where_little_is_known_the_newest_sample_counts(samples):
    found = known(samples)
    assert (found.share, found.work_share, found.noise, found.flat) == (1.0, 1.0, NOISE, False)


def test_a_load_of_no_noise_that_moves_is_as_measured():
    samples = tuple(LoadSample(15.0 * k, 2 + k / 1e4, 1.0, 10.0) for k in range(LOOKS))
    assert not known(samples, noise=0.0).flat
