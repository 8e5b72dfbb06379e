"""Scrape interval and lag are measured from samples, and windows follow them."""

from typing import Any

import pytest

from dopd.telemetry import queries
from dopd.telemetry.windows import LOOK_BACK_SECONDS, LOOK_STEP_SECONDS, Timing, Windows, intervals, timing_of, windows

NOW = 1_800_000_000.0
KEY = ("ns", "m")


def labels(pool: str, pod: str = "a") -> dict[str, str]:
    return {"namespace": "ns", queries.INSTANCE: "m", queries.POOL: pool, "instance": pod}


Pod = tuple[Any, Any, Any]


def seen(pool: str, interval: float, *, late: float = 0.0, since: float = LOOK_BACK_SECONDS, failing: int = 0) -> Pod:
    """What Prometheus shows of one pod: its newest sample step by step, and their number."""
    stamps = [NOW - late - i * interval for i in range(int(since / interval)) if not failing or i % failing]
    steps = [
        NOW - LOOK_BACK_SECONDS + i * LOOK_STEP_SECONDS for i in range(int(LOOK_BACK_SECONDS / LOOK_STEP_SECONDS) + 1)
    ]
    values = [(step, max(t for t in stamps if t <= step)) for step in steps if any(t <= step for t in stamps)]
    return (
        {"metric": labels(pool), "values": values},
        {"metric": labels(pool), "value": (NOW, float(len([t for t in stamps if t > NOW - LOOK_BACK_SECONDS])))},
        {"metric": labels(pool), "value": (NOW, max(stamps))},
    )


def timing(*pods: Pod) -> Timing:
    times, counts, newest = zip(*pods, strict=True)
    return timing_of(KEY, intervals(times, counts, NOW), newest, NOW)


@pytest.mark.parametrize("interval", [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0])
def test_the_interval_is_that_between_samples(interval: float):
    assert timing(seen("router", interval)).interval_seconds == pytest.approx(interval, rel=0.1)


@pytest.mark.parametrize("since", [40.0, 70.0, 180.0])
def test_a_pod_that_just_started_tells_the_same(since: float):
    assert timing(seen("router", 15.0, since=since)).interval_seconds == 15.0


def test_scrapes_that_fail_now_and_then_change_nothing():
    assert timing(seen("router", 15.0, failing=4)).interval_seconds == 15.0


def test_the_pool_that_is_scraped_least_decides():
    assert timing(seen("router", 5.0), seen("prefill", 30.0), seen("decode", 15.0)).interval_seconds == 30.0


@pytest.mark.parametrize(
    ("late", "lag"), [(0.0, 0.0), (14.0, 0.0), (16.0, 0.0), (19.0, 5.0), (33.0, 20.0), (70.0, 55.0)]
)
def test_the_lag_is_what_an_interval_does_not_explain(late: float, lag: float):
    assert timing(seen("router", 15.0, late=late)).lag_seconds == lag


def test_samples_of_hours_ago_are_lost_and_not_late():
    times, counts, _ = seen("router", 15.0)
    old = {"metric": labels("router"), "value": (NOW, NOW - 7200.0)}
    assert timing_of(KEY, intervals([times], [counts], NOW), [old], NOW).lag_seconds == 0.0


def test_nobody_knows_the_timing_of_what_is_not_scraped():
    assert timing_of(KEY, {}, [], NOW) == Timing()
    assert windows(Timing(), 15.0, 60.0) == Windows(45.0, 22.5, 60.0)


@pytest.mark.parametrize(
    ("interval", "expected"), [(5.0, (45.0, 22.5, 60.0)), (15.0, (45.0, 37.5, 60.0)), (30.0, (90.0, 75.0, 75.0))]
)
def test_windows_hold_two_samples_wherever_they_begin(interval: float, expected: tuple[float, float, float]):
    found = windows(Timing(interval, 10.0), 15.0, 60.0)
    assert (found.present_seconds, found.late_seconds, found.bin_seconds) == expected
    assert found.lag_seconds == 10.0
    assert min(expected) >= 2 * interval
