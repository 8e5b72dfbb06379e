"""Durations: how long the stages of a pass take, and a clock that no step of the wall clock moves.

The wall clock is set now and then: by hand, by NTP after hours without it, by a virtual machine that was paused. What
happens at a time of day (schedules, queries, times in the status) follows it. What lasts (a stabilisation, a deadline,
an age) must not: it is measured on the monotonic clock, which is of no use to another process. So a time that was
written down is taken for what the wall clock showed then, less the steps that this process has seen since.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import Counter, Histogram

from dopd.api.conditions import ConditionReason
from dopd.telemetry.clock import LARGEST_DIFFERENCE_SECONDS
from dopd.telemetry.prometheus import QueryFailed

_LOG = logging.getLogger(__name__)

LEAST_STEP_SECONDS = 2.0
"""A smaller difference between the clocks comes from looking at one after the other on a busy machine."""
STEP_TOLD_SECONDS = 3600.0
"""For so long the status tells of a step."""

STAGE_SECONDS = Histogram(
    "dopd_stage_seconds",
    "Duration of one stage of the loop: observe, telemetry, forecast, plan, act, report.",
    ["stage"],
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
CLOCK_STEPS = Counter(
    "dopd_clock_step_seconds",
    "Seconds by which the wall clock was set, by direction; durations go on without them.",
    ["direction"],
)


@dataclass(frozen=True)
class Step:
    """The wall clock was set.

    Attributes:
        at_seconds: when, on the steady clock.
        wall_before_seconds: what the wall clock would have shown without it, seconds since the epoch.
        by_seconds: by how much; negative: back.
    """

    at_seconds: float
    wall_before_seconds: float
    by_seconds: float


def step_message(by_seconds: float) -> str:
    """What to tell a person about a step of the wall clock."""
    way = "forward" if by_seconds > 0 else "back"
    return f"the wall clock was set {way} by {abs(by_seconds):.0f} s; durations go on as if it had not been"


class SteadyClock:
    """Seconds since the epoch as the wall clock showed them at the start, counted on without its steps.

    Args:
        wall: seconds since the epoch.
        monotonic: seconds since whenever.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._ahead_at_start = self._ahead = wall() - monotonic()
        self.steps: list[Step] = []

    def now(self) -> float:
        """The time now; never less than before."""
        monotonic = self._monotonic()
        by = self._wall() - monotonic - self._ahead
        if abs(by) >= LEAST_STEP_SECONDS:
            step = Step(monotonic + self._ahead_at_start, monotonic + self._ahead, by)
            _LOG.warning("%s", step_message(by))
            CLOCK_STEPS.labels("forward" if by > 0 else "back").inc(abs(by))
            self._ahead += by
            self.steps.append(step)
        return monotonic + self._ahead_at_start

    def steady(self, wall_seconds: float) -> float:
        """When it was, on this clock, that the wall clock showed a time in the past.

        What it has shown twice, since it was set back, is taken for the second time: so nothing ends too soon.
        """
        now = self.now()
        wall_now = now - self._ahead_at_start + self._ahead
        since = 0.0
        for step in reversed(self.steps):
            shown_before = wall_seconds <= step.wall_before_seconds if step.by_seconds > 0 else wall_seconds > wall_now
            if not shown_before:
                break
            since += step.by_seconds
            wall_now = step.wall_before_seconds
        return wall_seconds - (self._ahead - self._ahead_at_start) + since


class ReadingTimes:
    """When the load of one resource was read, on both clocks: a time that comes twice is no new one."""

    def __init__(self) -> None:
        self._newest_seconds = float("-inf")
        self._ahead_seconds: float | None = None
        self._step_seconds, self._stepped_at_seconds = 0.0, float("-inf")

    def add(self, wall_seconds: float, steady_seconds: float) -> tuple[str, ...]:
        """Note a reading; returns what is to be said of a step of the wall clock not long ago.

        Raises:
            QueryFailed: it was set back, so that the load of before would be taken for that of now.
        """
        ahead = wall_seconds - steady_seconds
        if self._ahead_seconds is not None and abs(ahead - self._ahead_seconds) >= LEAST_STEP_SECONDS:
            self._step_seconds, self._stepped_at_seconds = ahead - self._ahead_seconds, steady_seconds
        self._ahead_seconds = ahead
        back = self._newest_seconds - wall_seconds
        if back > LARGEST_DIFFERENCE_SECONDS:
            raise QueryFailed(
                ConditionReason.CLOCK_SKEW,
                f"{step_message(self._step_seconds)}. Prometheus' samples of this time are those of before, so the load"
                f" is known again in {back:.0f} s. Keep clocks by NTP, without steps",
            )
        self._newest_seconds = max(self._newest_seconds, wall_seconds)
        if steady_seconds - self._stepped_at_seconds > STEP_TOLD_SECONDS:
            return ()
        return (step_message(self._step_seconds),)
