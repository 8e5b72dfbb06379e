"""What a run says in the end."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from e2e.load.client import Outcome
from e2e.soak import report
from e2e.soak.agreement import Decision
from e2e.soak.losses import Happened
from e2e.soak.memory import Reading
from e2e.soak.plan import Kind
from e2e.soak.run import Record
from e2e.soak.tests.conftest import SECONDS, answered, held

GATEWAY_SAID = '{"error":{"code":"PD disaggregation request failed"}}'
CUT = replace(answered(700.0), outcome=Outcome.TRUNCATED, got_tokens=None, error="no end of stream")
OWN = replace(answered(152.0), outcome=Outcome.FAILED, status=502, got_tokens=None, error=GATEWAY_SAID)


def test_a_run_in_which_all_went_well_passes(record: Record) -> None:
    found = report.as_json(replace(record, results=[*record.results, OWN]))
    assert report.problems(found) == []
    assert report.verdict(found) == "passed"
    assert json.loads(json.dumps(found))["faults"][1]["own"][0]["error"] == GATEWAY_SAID


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda r: replace(r, broken_off="the run: TimeoutError: not well", ended_at=600.0), "broken off after 600"),
        (lambda r: replace(r, results=[*r.results, CUT]), "1 requests were lost, the first at 700 s: no end"),
        (lambda r: replace(r, gpus=2), "more than 2 GPUs were held at 1 events"),
        (lambda r: replace(r, stuck={"soak-decode-b": {"token_usage": 0.2}}), "after the last answer: soak-decode-b"),
        (lambda r: replace(r, held=r.held[:2]), "at 560 s: said 2+1, there 1+1"),
        (lambda r: replace(r, decisions=[r.decisions[0], Decision(500.0, (3, 1), (2, 1), "")]), "decision is missing"),
        (lambda r: replace(r, readings=grown(r)), "memory of b grew by +"),
        (lambda r: replace(r, readings=[Reading(10.0, "a", 120.0)]), "memory could not be judged"),
        (lambda r: replace(r, faults=[Happened(Kind.EVICTION, 30.0, 60.0)]), "between 30 and 40 s"),
        (lambda r: replace(r, faults=[Happened(Kind.EVICTION, 0.0, SECONDS)]), "no decision stood 60 s"),
    ],
)
def test_whatever_is_wrong_fails_the_run_and_is_told(
    record: Record, spoil: Callable[[Record], Record], words: str
) -> None:
    found = report.as_json(spoil(record))
    assert words in "; ".join(report.problems(found))
    assert report.verdict(found).startswith("not passed: ")


def grown(record: Record) -> list[Reading]:
    return [replace(each, mib=each.mib + each.at_seconds / 60) for each in record.readings]


def test_what_was_held_before_the_load_is_not_of_the_run(record: Record) -> None:
    earlier = held(*((-900.0 + step, f"soak-decode-{step}", step + 1) for step in range(9)))
    gone = held(*((-800.0 + step, f"soak-decode-{step}", 8 - step) for step in range(9)))
    found = report.as_json(replace(record, held=[*earlier, *gone, *record.held]))
    assert report.problems(found) == []
    assert (found["most_gpus"], found["events"]) == (3, 1)


def test_a_short_run_says_what_it_can_not_tell(record: Record) -> None:
    short = replace(record, seconds=180.0, ended_at=180.0, readings=record.readings[:18], results=record.results[:18])
    assert report.verdict(report.as_json(short)) == "passed; too short to judge memory"


def test_the_table_tells_kinds_and_figures(record: Record) -> None:
    lines = report.table(report.as_json(replace(record, results=[*record.results, OWN, CUT]))).splitlines()
    assert "| operator-kill | 1 | 30.0 | 30.0 | none allowed |" in lines
    assert "| engine-kill | 1 | 40.0 | 40.0 | 1 |" in lines
    assert "| requests lost | 1 |" in lines
    assert "| requests that a fault may cost, and did | 1 |" in lines
    assert "| most GPUs held at any event of the audit log | 3 of 7 |" in lines
    assert "| decisions in the log | 2 |" in lines
    assert "| simulated hours | 8, 12 times as fast; 40.0 min were played |" in lines
    assert lines[-1].startswith("not passed: 1 requests were lost")


def test_the_load_is_counted_by_the_time_at_which_it_was_due(record: Record) -> None:
    load = report.as_json(record)["load"]
    assert load["sent"][:3] == [0.1, 0.1, 0.1]
    assert sum(load["sent"]) * report.BIN_SECONDS == pytest.approx(240)
    assert len(load["at_seconds"]) == len(load["day"]) == len(load["sent"])
