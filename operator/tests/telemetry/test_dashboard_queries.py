"""A real Prometheus takes every query of the dashboards, and the fleet's burn of the error budget is what it says."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from charts.dashboard.__main__ import boards

from .real_prometheus import Series, serving

VARIABLES = {
    "$namespace": "ns",
    "$inference": "llama",
    "$__rate_interval": "1m",
    "$__range_s": "3600",
    "$__range": "1h",
}
NOW = float(int(time.time()))
WHO = {"namespace": "ns", "inference": "llama"}


def constant(name: str, value: float, **labels: str) -> Series:
    """A value each half minute for two hours."""
    return name, {**WHO, **labels}, [(NOW - 30 * k, value) for k in range(240, -1, -1)]


SERIES = [
    constant("dopd_late_share", 0.03),
    constant("dopd_demand_requests_per_second", 20),
    constant("dopd_objective_attainment", 0.99),
    constant("dopd_condition", 1, type="Ready"),
    constant("dopd_gpus", 4, role="prefill"),
    constant("dopd_gpus", 6, role="decode"),
]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("prometheus", tmp_path_factory.mktemp("prometheus"), SERIES) as found:
        yield found


def asked(url: str, query: str) -> list[dict[str, Any]]:
    for variable, value in VARIABLES.items():
        query = query.replace(variable, value)
    answer = httpx.get(f"{url}/api/v1/query", params={"query": query, "time": NOW}, trust_env=False).json()
    assert answer["status"] == "success", (query, answer)
    return answer["data"]["result"]


def queries(board: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]
    for mark in board["annotations"]["list"]:
        yield mark["name"], mark["expr"]


def value(url: str, title: str) -> float:
    found = [expr for text in boards().values() for name, expr in queries(json.loads(text)) if name == title]
    return float(asked(url, found[0])[0]["value"][1])


@pytest.mark.timeout(60)
def test_every_query_is_taken(url: str, tmp_path: Path):
    for text in boards().values():
        for _, expr in queries(json.loads(text)):
            asked(url, expr)


def test_the_figures_of_the_fleet(url: str):
    assert value(url, "Burn of the error budget") == pytest.approx(3.0)
    assert value(url, "All GPUs") == 10
    assert value(url, "Not ready") == 0
    assert value(url, "GPU-hours") == pytest.approx(10)
