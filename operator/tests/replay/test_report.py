"""The report of a replay: its figures over time, and the page that shows them."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dopd.api.names import Role
from dopd.planning import Objectives
from dopd.replay.report import Report
from dopd.replay.runner import BINS, load_over_time, run
from dopd.replay.seeds import Chosen
from dopd.replay.trace import Trace
from dopd.replay.workers import Settings

SETTINGS = Settings({role: 60.0 for role in Role})


@pytest.fixture
def burst() -> Trace:
    """200 s at one request a second, and 300 at once after 100 s."""
    arrivals = np.sort(np.concatenate((np.arange(201.0), np.full(300, 100.5))))
    lengths = np.full(len(arrivals), 1000)
    return Trace("burst <1>", arrivals, lengths, lengths // 100, "requests")


@pytest.fixture
def report(model, burst) -> Report:
    results = {
        name: run(burst, model, Objectives(1.5, 0.05, 0.99), pair, SETTINGS)
        for name, pair in (("dopd", (2, 1)), ("static-peak", (9, 1)), ("hpa", (20, 1)), ("oracle", (8, 1)))
    }
    chosen = {name: Chosen("", r, (r,), (("", r),)) for name, r in results.items()}
    facts = {"seconds": 200, "attainment": 0.99}
    return Report("burst <1>", "model", facts, chosen, load_over_time(burst))


def test_load_over_time_is_all_that_arrived_when_it_did(burst):
    load = load_over_time(burst)
    assert load["bin_seconds"] == 1.0
    assert len(load["requests_per_second"]) == len(load["input_tokens_per_second"]) == BINS
    assert load["requests_per_second"][99:102] == [1.0, 301.0, 1.0]
    assert sum(load["input_tokens_per_second"]) * load["bin_seconds"] == 501_000


def test_the_late_are_shown_when_they_arrived_and_add_up_to_what_was_missed(report, burst):
    dopd = report.policies["dopd"]
    assert dopd.late_shares[99] == 0.0
    assert dopd.late_shares[100] > 0.5
    arrived = np.array(load_over_time(burst)["requests_per_second"])
    late = float(arrived @ np.array(dopd.late_shares))
    assert late / len(burst) == pytest.approx(1 - dopd.attainment, abs=1e-4)


def test_a_part_without_requests_has_no_late_share(model):
    trace = Trace("gap", np.array([0.0, 200.0]), np.array([100, 100]), np.array([2, 2]), "requests")
    shares = run(trace, model, Objectives(1.5, 0.05, 0.99), (1, 1), SETTINGS).late_shares
    assert shares == (0.0, *[None] * (BINS - 2), 0.0)


def test_the_cheapest_peer_is_neither_dopd_nor_the_oracle(report):
    assert report.cheapest_peer_gpu_hours == report.policies["static-peak"].gpu_hours
    assert report.hindsight_gpu_hours == report.policies["oracle"].gpu_hours


def charts(page: str) -> dict[str, dict[str, Any]]:
    """What the charts of a page draw, by title."""
    found = re.findall(r'<h3>(.*?)(?: <small>.*?)?</h3>.*?<script type="application/json">(.*?)</script>', page, re.S)
    return {title: json.loads(data) for title, data in found}


def test_the_page_is_one_file_whose_charts_hold_every_policy_and_the_time_of_the_misses(report):
    page = report.as_html()
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", page)
    assert "burst &lt;1&gt; on model" in page
    drawn = charts(page)
    assert set(drawn) == {"Load", "Prompts", "Prefill workers asked for", "Decode workers asked for", "Late"}
    for title in ("Prefill workers asked for", "Decode workers asked for", "Late"):
        assert [line["name"] for line in drawn[title]["lines"]] == list(report.policies)
    line = next(line for line in drawn["Late"]["lines"] if line["name"] == "dopd")
    first_late = next(x for x, y in zip(line["x"], line["y"], strict=True) if y)
    assert first_late == pytest.approx(100.5 / 60), "of the burst, in minutes"
    assert page.count('<i class="bar') == 4


def test_the_licence_of_the_charts_is_in_the_page(report):
    assert "Copyright (c) 2022 Leon Sorokin" in report.as_html()


def test_reversals_are_told_by_the_hour(report):
    flapping = replace(report.policies["hpa"], reversals=3)
    assert report.reversals_per_hour(flapping) == 54.0
    assert "turns/h" in report.as_text()


def test_a_page_holds_no_control_characters(report):
    hostile = replace(report, trace="\x1b[2Jday\u202e<script>")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]|<script>\\\\x1b", hostile.as_html())
    assert "\\x1b[2Jday\\u202e&lt;script&gt;" in hostile.as_html()
