"""Durations go on whatever the wall clock does, and its steps are told of."""

import pytest

from dopd.api.conditions import ConditionReason
from dopd.reconcile.timing import ReadingTimes, SteadyClock
from dopd.telemetry.prometheus import QueryFailed

HOUR = 3600.0


class Clocks:
    """A wall clock that is set now and then, and a monotonic one."""

    def __init__(self) -> None:
        self.wall, self.monotonic = 1_800_000_000.0, 500.0

    def pass_by(self, seconds: float, stepped: float = 0.0) -> None:
        self.wall += seconds + stepped
        self.monotonic += seconds

    def steady(self) -> SteadyClock:
        return SteadyClock(lambda: self.wall, lambda: self.monotonic)


@pytest.mark.parametrize("step", [HOUR, -HOUR, 10.0, -86_400.0])
def test_a_step_moves_no_duration(step: float):
    clocks = Clocks()
    clock = clocks.steady()
    before = clock.now()
    clocks.pass_by(60.0, step)
    assert clock.now() - before == pytest.approx(60.0)
    clocks.pass_by(60.0)
    assert clock.now() - before == pytest.approx(120.0)
    assert [one.by_seconds for one in clock.steps] == pytest.approx([step])


def test_a_clock_that_only_drifts_has_made_no_step():
    clocks = Clocks()
    clock = clocks.steady()
    clocks.pass_by(60.0, 0.4)
    clock.now()
    assert clock.steps == []


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_time_written_before_a_step_is_as_old_as_it_is(step: float, caplog: pytest.LogCaptureFixture):
    clocks = Clocks()
    clock = clocks.steady()
    clocks.pass_by(600.0)
    written = clocks.wall
    clocks.pass_by(100.0)
    clock.now()
    clocks.pass_by(50.0, step)
    assert clock.now() - clock.steady(written) == pytest.approx(150.0)
    assert f"{'forward' if step > 0 else 'back'} by 3600 s" in caplog.text


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_time_written_after_a_step_is_as_old_as_it_is(step: float):
    clocks = Clocks()
    clock = clocks.steady()
    clocks.pass_by(50.0, step)
    clock.now()
    written = clocks.wall
    clocks.pass_by(70.0)
    assert clock.now() - clock.steady(written) == pytest.approx(70.0)


def test_a_time_that_was_shown_twice_ends_nothing_too_soon():
    clocks = Clocks()
    clock = clocks.steady()
    written = clocks.wall
    clocks.pass_by(100.0)
    clock.now()
    clocks.pass_by(10.0, -60.0)
    assert clock.now() - clock.steady(written) == pytest.approx(50.0)


def test_times_from_another_process_are_taken_as_they_are():
    clocks = Clocks()
    assert clocks.steady().now() - clocks.steady().steady(clocks.wall - 300.0) == pytest.approx(300.0)


def test_a_time_that_comes_twice_is_no_new_reading():
    times = ReadingTimes()
    assert times.add(10_000.0, 10_000.0) == ()
    with pytest.raises(QueryFailed, match=r"back by 3600 s.*known again in 3585 s") as failure:
        times.add(10_015.0 - HOUR, 10_015.0)
    assert failure.value.reason is ConditionReason.CLOCK_SKEW
    told = times.add(10_010.0, 10_010.0 + HOUR)
    assert "back by 3600 s" in told[0]
    assert times.add(10_010.0 + 2 * HOUR, 10_010.0 + 3 * HOUR) == ()


def test_a_step_forward_is_told_of_and_the_reading_counts():
    times = ReadingTimes()
    times.add(10_000.0, 10_000.0)
    assert "forward by 3600 s" in times.add(10_015.0 + HOUR, 10_015.0)[0]
