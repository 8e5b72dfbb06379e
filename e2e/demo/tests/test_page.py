import json
import re
from typing import Any

import pytest

from e2e.demo.page import page
from e2e.demo.record import Run
from e2e.demo.what_if import Outcome, WhatIf

DOPD = Outcome("dopd, replayed", 0.995, 0.996, 0.999, 3600.0, ((0.0, 1, 1), (20.0, 4, 3)))
REACTIVE = Outcome("reactive, target 45%", 0.991, 0.993, 0.998, 7200.0, ((0.0, 1, 1), (25.0, 6, 4)))
BY_ROLE = Outcome("reactive, targets 80%, 50%", 0.99, 0.99, 1.0, 5400.0, ((0.0, 1, 1),))
STATIC = Outcome("static, 5+5", 0.999, 0.999, 1.0, 9000.0, ((0.0, 5, 5),))


@pytest.fixture(scope="module")
def drawn(run: Run) -> str:
    return page(run, WhatIf(STATIC, REACTIVE, BY_ROLE, DOPD), "day.csv.gz")


def lines(drawn: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Lines by the title of their chart and their name."""
    found = re.findall(r'<h3>(.*?)(?: <small>.*?)?</h3>.*?<script type="application/json">(.*?)</script>', drawn, re.S)
    return {(title, line["name"]): line for title, data in found for line in json.loads(data)["lines"]}


def test_every_series_is_drawn(drawn: str) -> None:
    names = ("needed, with hindsight", "wanted", "serving")
    of_roles = {(f"{role} workers", name) for role in ("Prefill", "Decode") for name in names}
    others = {("GPUs", outcome.label) for outcome in (DOPD, REACTIVE, BY_ROLE, STATIC)} | {("GPUs", "this run")}
    load = {("Load", "arrivals"), ("Load", "demand, as observed")}
    shares = {("In time", "first token"), ("In time", "between tokens"), ("Ratio", "P:D that serve")}
    assert of_roles | others | load | shares <= set(lines(drawn))


def test_a_series_has_a_point_for_each_sample(drawn: str, run: Run) -> None:
    serving = lines(drawn)["Prefill workers", "serving"]
    assert serving["y"] == [sample.prefill.ready for sample in run.samples]
    assert serving["x"] == sorted(serving["x"])


def test_the_run_stands_beside_the_others(drawn: str) -> None:
    for words in ("75.00%", "99.10%", "2.00 h", "0.50", "day.csv.gz", "1 were lost"):
        assert words in drawn


def test_decisions_are_told_as_text(drawn: str) -> None:
    assert "more &lt;b&gt; than before" in drawn
    assert "1+1 to 4+4" in drawn


def test_the_page_needs_no_other_file(drawn: str) -> None:
    assert not re.search(r"<(link|img|iframe)\b|\bsrc=|@import|url\(", drawn)
