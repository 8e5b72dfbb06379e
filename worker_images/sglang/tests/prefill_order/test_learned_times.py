import pytest

from dopd_scheduling import ServiceTimes
from dopd_sglang.prefill_order.learned_times import LearnedTimes

GIVEN = ServiceTimes(pass_points=((100, 0.02), (5000, 0.5)), attention_seconds=1e-9)


def test_times_are_those_given_until_a_pass_was_measured():
    assert LearnedTimes(GIVEN).times == GIVEN


def test_all_times_follow_what_is_measured():
    learned = LearnedTimes(GIVEN)
    for _ in range(5):
        learned.observe([(4000, 0)], 1.5 * learned.expected_seconds([(4000, 0)]))
    assert learned.times.token_seconds == pytest.approx(0.00015)
    assert learned.times.attention_seconds == pytest.approx(1.5e-9)
    assert learned.times.pass_seconds(1) == pytest.approx(0.03)


def test_a_single_stall_moves_nothing():
    learned = LearnedTimes(GIVEN)
    for seconds in (0.5, 0.5, 30.0, 0.5):
        learned.observe([(4000, 0)], seconds * learned.expected_seconds([(4000, 0)]))
    assert learned.times.token_seconds == pytest.approx(0.00005)


def test_long_passes_count_for_more_than_short_ones():
    learned = LearnedTimes(GIVEN)
    for _ in range(10):
        learned.observe([(1, 0)], 3 * learned.expected_seconds([(1, 0)]))
    for _ in range(2):
        learned.observe([(4000, 4000)], learned.expected_seconds([(4000, 4000)]))
    assert learned.times.token_seconds == pytest.approx(0.0001)


def test_given_times_are_moved_by_a_factor_of_four_at_most():
    learned = LearnedTimes(GIVEN)
    learned.observe([(4000, 0)], 1000.0)
    assert learned.times.token_seconds == pytest.approx(0.0004)


def test_unknown_times_are_learned_from_a_slow_engine():
    learned = LearnedTimes(None)
    learned.observe([(4000, 0)], 50 * learned.expected_seconds([(4000, 0)]))
    assert learned.times.token_seconds == pytest.approx(50 * 0.42 / 8192)


def test_a_pass_that_was_not_measured_teaches_nothing():
    learned = LearnedTimes(GIVEN)
    learned.observe([(4000, 0)], 0.0)
    assert learned.times == GIVEN
