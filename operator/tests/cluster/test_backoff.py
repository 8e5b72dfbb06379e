"""Pauses after failures: one for each key, growing, bounded, forgotten in time."""

from dopd.cluster.backoff import Backoff


class Clock:
    seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def test_pauses_double_up_to_the_longest_and_end_with_a_success():
    clock = Clock()
    backoff = Backoff(1.0, 10.0, clock)
    assert [backoff.failed("a") for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert backoff.failed("b") == 1.0, "of a key alone"
    clock.seconds += 4.0
    assert (backoff.seconds_left("a"), backoff.seconds_left("b"), backoff.seconds_left("c")) == (6.0, 0.0, 0.0)
    backoff.succeeded("a")
    assert not backoff.failing("a")
    assert backoff.failed("a") == 1.0


def test_what_the_other_side_asks_for_counts_within_bounds():
    backoff = Backoff(1.0, 10.0, Clock())
    assert backoff.failed("a", 7.0) == 7.0
    assert backoff.failed("b", 1e9) == 20.0
    assert backoff.failed("a", 0.0) == 2.0
    assert backoff.seconds_left("a") == 7.0, "it is not shortened by a failure that asks for less"


def test_the_first_failures_may_be_free():
    backoff = Backoff(1.0, 10.0, Clock(), free_failures=1)
    assert [backoff.failed("a") for _ in range(3)] == [0.0, 1.0, 2.0]
    assert backoff.failing("a")


def test_who_is_not_heard_of_any_more_is_forgotten():
    clock = Clock()
    backoff = Backoff(1.0, 10.0, clock)
    for number in range(100):
        backoff.failed(number)
    clock.seconds += 100.0
    backoff.failed("a")
    assert not any(backoff.failing(number) for number in range(100))


def test_failures_without_end_do_not_overflow():
    backoff = Backoff(0.5, 30.0, Clock())
    assert max(backoff.failed("a") for _ in range(5000)) == 30.0
