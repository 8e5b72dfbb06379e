import re
from xml.etree import ElementTree

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


def test_every_series_is_drawn(drawn: str) -> None:
    found = set(re.findall(r'<g id="([\w-]+)"', drawn))
    of_roles = {f"{role}-{line}" for role in ("prefill", "decode") for line in ("needed", "wanted", "serving")}
    others = {"dopd-replayed", "reactive-target-45-", "reactive-targets-80-50-", "static-5-5"}
    assert {"arrivals", "demand-as-observed", "forecast", "ratio", "ttft", "itl", "gpus"} | of_roles | others <= found


def test_a_series_has_a_point_for_each_sample(drawn: str, run: Run) -> None:
    serving = re.search(r'<g id="prefill-serving">\s*<path d="([^"]+)"', drawn)
    assert serving
    steps = 2 * len(run.samples) - 1
    assert len(re.findall("[ML]", serving.group(1))) == steps


def test_the_run_stands_beside_the_others(drawn: str) -> None:
    for words in ("75.00%", "99.10%", "2.00 h", "0.50", "day.csv.gz", "1 were lost"):
        assert words in drawn


def test_decisions_are_told_as_text(drawn: str) -> None:
    assert "<b>DemandRose</b> more &lt;b&gt; than before" in drawn
    assert "1+1 to 4+4" in drawn


def test_the_page_needs_no_other_file(drawn: str) -> None:
    assert not re.search(r"<(script|link|img|iframe)\b|src=|@import|url\((?!#)", drawn)
    for figure in re.findall(r"<svg.*?</svg>", drawn, re.S):
        ElementTree.fromstring(figure)
