"""The page of a run."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from e2e.load.client import Outcome
from e2e.soak import report
from e2e.soak.page import page
from e2e.soak.run import Record
from e2e.soak.tests.conftest import answered

CUT = replace(answered(700.0), outcome=Outcome.TRUNCATED, got_tokens=None, error="no <end> of stream")


def charts(drawn: str) -> dict[str, dict[str, Any]]:
    found = re.findall(r'<h3>(.*?)(?: <small>.*?)?</h3>.*?<script type="application/json">(.*?)</script>', drawn, re.S)
    return {title: json.loads(data) for title, data in found}


def test_every_series_is_drawn_and_faults_mark_all_charts(record: Record) -> None:
    found = charts(page(report.as_json(record)))
    names = {title: [line["name"] for line in chart["lines"]] for title, chart in found.items()}
    workers = ["serving", "there", "decided"]
    assert names == {
        "Load": ["sent", "of the day"],
        "Prefill workers": workers,
        "Decode workers": workers,
        "GPUs": ["held"],
        "Memory of the operator": ["resident"],
    }
    hour = 2400 / 8
    for chart in found.values():
        first, second = chart["marked"]
        assert first == pytest.approx([30 / hour, 60 / hour])
        assert second == pytest.approx([150 / hour, 190 / hour])
        assert chart["xUnit"] == "h"


def test_what_was_decided_and_what_was_there_hold_until_the_end(record: Record) -> None:
    lines = {line["name"]: line for line in charts(page(report.as_json(record)))["Prefill workers"]["lines"]}
    hour = 2400 / 8
    for name, changed_at in (("decided", 500), ("there", 501)):
        assert lines[name]["x"] == pytest.approx([0.0, changed_at / hour, 8.0])
        assert lines[name]["y"] == [1.0, 2.0, 2.0]


def test_a_run_that_passed_shows_nothing_wrong(record: Record) -> None:
    drawn = page(report.as_json(record))
    assert "<p>Passed.</p>" in drawn
    assert "Not as it should be" not in drawn
    assert "Requests that were lost" not in drawn
    assert "soak-decode-b &lt;of two&gt;" in drawn


def test_what_was_lost_and_what_disagreed_is_told_as_text(record: Record) -> None:
    drawn = page(report.as_json(replace(record, results=[*record.results, CUT], held=record.held[:2])))
    assert "<p>Not passed: " in drawn
    for words in (
        "Not as it should be",
        "Requests that were lost",
        "no &lt;end&gt; of stream",
        "Decisions and cluster",
    ):
        assert words in drawn


def test_a_run_that_broke_at_once_has_a_page(record: Record) -> None:
    nothing = Record("soak", 1, 7, 2400.0, 8.0, record.schedule, record.began, [], broken_off="the run: no load flows")
    assert "no load flows" in page(report.as_json(nothing))


def test_the_page_needs_no_other_file(record: Record) -> None:
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", page(report.as_json(record)))
