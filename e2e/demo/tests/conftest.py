"""A recorded run that is small enough to count by hand."""

from dataclasses import replace

import pytest

from dopd.api.names import Role
from e2e.demo import fitting
from e2e.demo.record import Run
from e2e.demo.scenario import FIRST_LIGHT, Settings
from e2e.demo.seen import Load, Sample, SeenDecision, Workers
from e2e.load import Outcome, Result, Schedule

LEAD_IN_SECONDS = 10.0


def result(at_seconds: float, ttft_seconds: float, outcome: Outcome = Outcome.OK) -> Result:
    return Result(
        at_seconds, 0.0, 800, 50, outcome, 200, 50, ttft_seconds, 0.008, 1.0, "" if outcome == "ok" else "reset"
    )


def sample(at_seconds: float, prefill: int, decode: int, demand: float | None = 5.0) -> Sample:
    load = Load(demand, None if demand is None else demand + 2, {Role.PREFILL: 3.5, Role.DECODE: 4.0})
    ready = Workers(prefill, prefill, 0, 0), Workers(decode, decode, 0, 0)
    return Sample(at_seconds, *ready, prefill + decode, load)


@pytest.fixture(scope="session")
def run() -> Run:
    """Ten seconds of lead-in and forty of trace, busier in the second half of it."""
    calm = Schedule.steady(requests_per_second=5, seconds=20, input_tokens=800, output_tokens=50)
    busy = Schedule.steady(requests_per_second=25, seconds=20, input_tokens=800, output_tokens=50)
    later = tuple(replace(a, at_seconds=a.at_seconds + 20) for a in busy)
    trace = Schedule(calm.arrivals + later, speedup=5.0)
    settings = Settings.of(FIRST_LIGHT)
    return Run(
        scenario=replace(FIRST_LIGHT, lead_in_seconds=LEAD_IN_SECONDS, trace_seconds=200.0),
        settings=settings,
        schedule=trace.led_in(LEAD_IN_SECONDS),
        needs=fitting.needs(trace, settings.model, settings.policy),
        results=[
            result(5.0, 9.0, Outcome.TRUNCATED),
            result(12.0, 0.3),
            result(13.0, 2.0),
            result(31.0, 0.3),
            result(32.0, 0.3),
        ],
        samples=[
            sample(0.0, 1, 1, None),
            sample(10.0, 1, 1),
            sample(20.0, 4, 4),
            sample(30.0, 4, 4),
            sample(50.0, 3, 2),
        ],
        decisions=[SeenDecision(18.0, "1+1", "4+4", "DemandRose", "more <b> than before")],
    )
