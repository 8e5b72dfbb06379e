from dataclasses import replace

import pytest

from e2e.endurance import report
from e2e.endurance.run import Record
from e2e.load.client import Outcome, Result

ANSWERED = Result(0.0, 0.001, 100, 20, Outcome.OK, 200, 20, 0.1, 0.02, 0.5, "")
SHORT = replace(ANSWERED, got_tokens=19)
CUT = replace(ANSWERED, outcome=Outcome.TRUNCATED, got_tokens=None, error="no end")


def record(*results: Result) -> Record:
    steps = [{"kind": "scale-down", "from": "3+3", "to": "1+3", "at_seconds": 9.0, "seconds": s} for s in (10.0, 20.0)]
    return Record(24, 6, 7.0, steps=steps, results=list(results), most_gpus=6, events=12)


def test_a_run_without_loss_passes() -> None:
    assert report.passed(report.as_json(record(ANSWERED, ANSWERED)))


@pytest.mark.parametrize(
    "spoilt",
    [
        record(ANSWERED, CUT),
        record(ANSWERED, SHORT),
        replace(record(ANSWERED), over=["10:00:00 m-prefill-a: 7"]),
        replace(record(ANSWERED), stuck={"m-decode-b": {"token_usage": 0.2}}),
        replace(record(ANSWERED), broken_off="not settled within 180 s"),
    ],
    ids=["truncated", "another number of tokens", "over the budget", "engines hold something", "broken off"],
)
def test_whatever_was_lost_fails_the_run(spoilt: Record) -> None:
    assert not report.passed(report.as_json(spoilt))


def test_two_runs_stand_in_one_table() -> None:
    runs = [report.as_json(record(ANSWERED, CUT)), report.as_json(replace(record(ANSWERED, SHORT), seed=25))]
    lines = report.table(runs).splitlines()
    assert "| scale-down | 4 | 10.0 | 20.0 | 20.0 |" in lines
    assert "| rollout | 0 | | | |" in lines
    assert "| requests | 4 |" in lines
    assert "| truncated | 1 |" in lines
    assert "| with another number of tokens than asked for | 1 |" in lines
    assert "| most GPUs held at any event of the audit log, of the budget | 6 of 6 |" in lines
    assert "| seeds | 24, 25 |" in lines


def test_flips_are_counted_by_workers() -> None:
    flip = {"kind": "flip", "from": "4+2", "to": "2+4", "at_seconds": 9.0, "seconds": 14.0, "flips": 2, "replaced": 0}
    run = replace(record(ANSWERED), steps=[flip, {**flip, "flips": 1, "replaced": 1}])
    lines = report.table([report.as_json(run)]).splitlines()
    assert "| flip | 2 | 14.0 | 14.0 | 14.0 |" in lines
    assert "| workers that changed their role; replaced instead | 3; 1 |" in lines
