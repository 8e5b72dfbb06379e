from dataclasses import replace

import pytest

from dopd.api.names import Role
from e2e.demo.record import Run, figures
from e2e.demo.tests.conftest import sample
from e2e.demo.what_if import Outcome, WhatIf

OUTCOME = Outcome("any", 0.98, 0.99, 0.985, 1234.4, ((0.0, 1, 1),))
OTHER = WhatIf(OUTCOME, replace(OUTCOME, label="reactive"), OUTCOME, OUTCOME)


def test_what_is_met_is_counted_from_the_end_of_the_lead_in(run: Run) -> None:
    summary = run.summary()
    assert (summary.requests, summary.attainment) == (4, 0.75)
    assert summary.ttft_seconds["p50"] == pytest.approx(0.3 * 5)
    assert run.gpu_seconds == pytest.approx(5 * (2 * 10 + 8 * 10 + 8 * 20), rel=0.01)


def test_attainment_over_time_goes_by_when_requests_were_sent(run: Run) -> None:
    stretches = {a.at_seconds: (a.ttft, a.itl) for a in run.attained(10.0)}
    assert stretches == {0.0: (0.0, 0.0), 10.0: (0.5, 1.0), 30.0: (1.0, 1.0)}


def test_the_workers_of_the_peak_are_awaited_until_it_begins(run: Run) -> None:
    peak = run.peak()
    assert (peak.at_seconds, peak.ready_seconds) == (34.0, 20.0)
    dip = replace(run, samples=[*run.samples[:3], sample(25.0, 1, 1), *run.samples[3:]])
    assert dip.peak().ready_seconds == 30.0
    late = replace(run, samples=[*run.samples[:2], sample(49.0, 4, 4)])
    assert late.peak().ready_seconds is None


def test_leads_are_those_that_were_measured_else_those_of_the_profile(run: Run) -> None:
    expected = run.settings.model.startup_seconds
    assert expected[Role.DECODE] == 4.0
    assert run.lead_seconds == {Role.PREFILL: 3.5, Role.DECODE: 4.0}
    assert replace(run, samples=[]).lead_seconds == {role: expected[role] for role in Role}


def test_the_figures_hold_what_readers_of_the_file_rest_on(run: Run) -> None:
    found = figures(run, OTHER, first_token_seconds=9.87)
    assert {name: found[name] for name in ("requests", "failed", "truncated", "counted_requests", "attainment")} == {
        "requests": 5,
        "failed": 0,
        "truncated": 1,
        "counted_requests": 4,
        "attainment": 0.75,
    }
    assert (found["attainment_ttft"], found["attainment_itl"], found["gpu_seconds"]) == (
        0.75,
        1.0,
        round(run.gpu_seconds),
    )
    assert found["decisions"] == [{"t": 8.0, "p": 4, "d": 4, "reason": "DemandRose", "served_after_s": 2.0}]
    assert found["reactive"]["attainment"] == 0.98
    assert found["reactive"]["gpu_seconds"] == 1234
    assert found["first_error"] == "reset"
