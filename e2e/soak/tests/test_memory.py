"""Whether memory is flat."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.soak.memory import JUDGED_SECONDS, WARM_UP_SECONDS, Reading, restarts, slope, trends

LONG_SECONDS = WARM_UP_SECONDS + 2 * JUDGED_SECONDS


def readings(
    mib_per_hour: float, *, process: str = "a", begin: float = 0.0, seconds: float = LONG_SECONDS, mean: float = 100.0
) -> list[Reading]:
    """Every ten seconds, with half a MiB of noise."""
    chance = random.Random(process)
    times = [begin + 10.0 * step for step in range(int(seconds / 10) + 1)]
    return [Reading(at, process, mean + mib_per_hour * at / 3600 + chance.uniform(-0.5, 0.5)) for at in times]


@given(st.floats(-50, 50), st.floats(-1e3, 1e3))
def test_the_slope_of_a_straight_line_is_its_own(gradient: float, start: float) -> None:
    points = [(float(x), start + gradient * x) for x in range(20)]
    assert slope(points) == pytest.approx(gradient, abs=1e-6)


def test_a_few_jumps_do_not_move_the_slope() -> None:
    points = [(float(x), 100.0 + (80.0 if x in (3, 17) else 0.0)) for x in range(20)]
    assert slope(points) == 0.0


@pytest.mark.parametrize(("mib_per_hour", "flat"), [(0.0, True), (5.0, True), (-40.0, True), (15.0, False)])
def test_memory_is_flat_below_a_tenth_an_hour(mib_per_hour: float, flat: bool) -> None:
    (trend,) = trends(readings(mib_per_hour))
    assert trend.mib_per_hour == pytest.approx(mib_per_hour, abs=1.5)
    assert trend.share_per_hour == pytest.approx(trend.mib_per_hour / trend.mean_mib)
    assert trend.flat is flat


def test_the_warm_up_does_not_count() -> None:
    warm = [Reading(each.at_seconds, "a", min(each.mib, each.at_seconds)) for each in readings(0.0)]
    (trend,) = trends(warm)
    assert trend.flat
    assert trend.seconds == pytest.approx(LONG_SECONDS - WARM_UP_SECONDS, abs=10)
    assert trend.mean_mib == pytest.approx(100.0, abs=0.5)


def test_each_process_is_judged_by_itself_and_short_ones_are_not() -> None:
    one = readings(0.0, process="a", mean=150.0)
    two = readings(0.0, process="b", begin=LONG_SECONDS + 10, seconds=JUDGED_SECONDS)
    three = readings(20.0, process="c", begin=2 * LONG_SECONDS)
    found = trends([*one, *two, *three])
    assert [(trend.process, trend.flat) for trend in found] == [("a", True), ("c", False)]
    assert restarts([*one, *two, *three]) == [
        (one[-1].at_seconds, two[0].at_seconds),
        (two[-1].at_seconds, three[0].at_seconds),
    ]
    assert trends([]) == []
