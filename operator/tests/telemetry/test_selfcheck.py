"""The self-check finds what a real Prometheus lacks, names it and says what to do."""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from dopd.telemetry import queries
from dopd.telemetry.connection import Connector, NoAnswer
from dopd.telemetry.selfcheck import Check, Verdict, Wanted, check_prometheus

from .real_prometheus import NEEDED, Series, serving

BIN_SECONDS = 60.0
HISTORY_SECONDS = 600.0
NOW = time.time()

METRICS = {
    "router": ["smg_router_requests_total"],
    "prefill": [
        "sglang:prompt_tokens_histogram_count",
        "sglang:prompt_tokens_histogram_sum",
        "sglang:prompt_tokens_histogram_bucket",
        "sglang:uncached_prompt_tokens_histogram_sum",
    ],
    "decode": [
        "sglang:generation_tokens_histogram_count",
        "sglang:generation_tokens_histogram_sum",
        "sglang:generation_tokens_histogram_bucket",
        "sglang:time_to_first_token_seconds_bucket",
        "sglang:inter_token_latency_seconds_bucket",
    ],
}


def pods(
    name: str,
    *,
    interval: float = 15.0,
    per_scrape: float = 3.0,
    without: str = "",
    pools: tuple[str, ...] = tuple(METRICS),
    **labels: str,
) -> Iterator[Series]:
    """What one pod of each pool of a resource in namespace ns tells; a label that is "" is left out."""
    times = [NOW - 900 + interval * i for i in range(int(900 / interval) + 1)]
    for pool in pools:
        carried = {
            "namespace": "ns",
            "pod": f"{name}-{pool}-abc",
            "instance": f"{name}-{pool}:1",
            queries.INSTANCE: name,
            queries.POOL: pool,
        } | labels
        carried = {label: value for label, value in carried.items() if value}
        yield "up", carried, [(at, 1.0) for at in times]
        for metric in METRICS[pool]:
            if per_scrape and metric != without:
                for bound in [{"le": "100"}, {"le": "+Inf"}] if metric.endswith("_bucket") else [{}]:
                    yield metric, carried | bound, [(at, per_scrape * i) for i, at in enumerate(times)]


SERIES = [
    *pods("good"),
    *pods("quiet", per_scrape=0),
    *pods("seldom", interval=30.0),
    *pods("mute", without="sglang:uncached_prompt_tokens_histogram_sum"),
    *pods("infinite", per_scrape=float("inf")),
    *(pods("twice", **{"mirror": "a"})),
    *(pods("twice", **{"mirror": "b"})),
    *(pods("merged", **{"job": "a"})),
    *(pods("merged", **{"job": "b"})),
    *pods("unlabelled", **{queries.INSTANCE: "", queries.POOL: ""}),
    *pods("moved", namespace="monitoring"),
    *pods("workerless", pools=("router",)),
    *pods("asleep", pools=("router",), per_scrape=0),
]


@pytest.fixture(scope="module", params=NEEDED)
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server: str = request.param
    with serving(server, tmp_path_factory.mktemp(server), SERIES) as at:
        yield at


class Then:
    """A Prometheus whose clock stands where the samples end."""

    def __init__(self, url: str) -> None:
        self.client, self.asked = Connector()(url), 0

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked += 1
        return self.client.custom_query(query, {"time": str(NOW)} | params)

    def custom_query_range(self, *arguments: Any) -> list[dict[str, Any]]:
        self.asked += 1
        return self.client.custom_query_range(*arguments)


def check(url: str, *names: str) -> list[Check]:
    wanted = [Wanted(("ns", name), BIN_SECONDS, HISTORY_SECONDS) for name in names]
    return list(check_prometheus(Then(url), url, wanted, NOW))


def failures(checks: list[Check]) -> dict[str, str]:
    return {one.name: str(one) for one in checks if one.failed}


def test_all_is_well(url: str):
    checks = check(url, "good")
    assert failures(checks) == {}
    found = {one.name: one.found for one in checks}
    assert found["scraped"] == "1 router, 1 prefill, 1 decode"
    assert found["arrivals"] == "0.2"
    assert found["time per output token"] == "read as time between tokens"
    assert {s.name for s in queries.SIGNALS} <= set(found)


def test_one_query_serves_all_resources(url: str):
    counts = []
    for names in (["good"], ["good", "quiet", "merged"]):
        client = Then(url)
        wanted = [Wanted(("ns", name), BIN_SECONDS, HISTORY_SECONDS) for name in names]
        assert len(list(check_prometheus(client, url, wanted, NOW))) > 10
        counts.append(client.asked)
    assert counts[0] == counts[1]


def test_who_is_asleep_lacks_no_workers(url: str):
    wanted = Wanted(("ns", "asleep"), BIN_SECONDS, HISTORY_SECONDS, asleep=True)
    checks = list(check_prometheus(Then(url), url, [wanted], NOW))
    assert failures(checks) == {}
    assert "0 prefill, 0 decode; asleep" in next(one.found for one in checks if one.name == "scraped")
    assert set(failures(check(url, "asleep"))) == {"scraped"}, "and who is not asleep does"


def test_no_traffic_is_no_failure(url: str):
    checks = check(url, "quiet")
    assert failures(checks) == {}
    assert [one.name for one in checks if one.verdict is Verdict.SKIPPED] == [
        s.name for s in queries.SIGNALS if s.needs_traffic
    ]


@pytest.mark.parametrize(
    ("name", "failing", "words"),
    [
        ("seldom", "scrape interval", "expected 4 or more. Scrape every 15 s"),
        ("mute", "uncached tokens", "no series while requests arrive, expected one or more. Are the prefill pods"),
        ("twice", "no duplicates", "router pods 2 times, prefill pods 2 times, decode pods 2 times"),
        ("unlabelled", "scraped", "without their labels: add podTargetLabels"),
        ("moved", "scraped", "Its series carry the namespace monitoring"),
        ("workerless", "scraped", "no prefill and no decode pod in up{dopd_dev_instance="),
        ("unheard-of", "scraped", "It scrapes other pods: let its PodMonitors select"),
    ],
)
def test_one_thing_is_missing(url: str, name: str, failing: str, words: str):
    found = failures(check(url, name))
    assert words in found[failing]
    if name != "workerless":  # whose signals have no series either
        assert set(found) == {failing}


def test_pods_that_serve_and_are_not_scraped_are_counted(url: str):
    wanted = [Wanted(("ns", "good"), BIN_SECONDS, HISTORY_SECONDS, ready={"router": 2, "prefill": 1})]
    found = failures(list(check_prometheus(Then(url), url, wanted, NOW)))
    assert "1 router, 1 prefill, 1 decode, expected 2 router that are ready" in found["scraped"]


def test_what_two_jobs_scrape_is_merged(url: str):
    checks = check(url, "merged")
    assert failures(checks) == {}
    assert {one.name: one.found for one in checks}["arrivals"] == "0.2"


def test_what_is_no_number_is_named(url: str, request: pytest.FixtureRequest):
    if request.node.callspec.params["url"] == "victoria-metrics":
        pytest.skip("VictoriaMetrics stores no infinity")
    found = failures(check(url, "infinite"))
    assert "in 1 of 1 series, expected numbers" in found["arrivals"]


def test_a_server_that_scrapes_nothing():
    found = failures(list(check_prometheus(Fixed(), "http://p", [Wanted(("ns", "m"), 60.0, 600.0)], NOW)))
    assert found.keys() == {"scraped"}
    assert "is it the right server, and the right tenant?" in found["scraped"]


class Fixed:
    """A Prometheus that knows the time and nothing else, or fails at some queries."""

    def __init__(self, ahead_seconds: float = 0.0, failing: str = "no query") -> None:
        self.ahead_seconds, self.failing = ahead_seconds, failing

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        if self.failing in query:
            raise NoAnswer("status 422: too many samples")
        if "time()" in query:
            assert "time" not in params
            return [{"metric": {}, "value": [0, str(NOW + self.ahead_seconds)]}]
        return []

    def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> list[dict[str, Any]]:
        return []


@pytest.mark.parametrize(
    ("client", "name", "words"),
    [
        (Fixed(failing="time()"), "connection", "too many samples, expected an answer"),
        (Fixed(ahead_seconds=-600), "clock", "600 s behind the operator's, expected at most 30 s. Set the clocks"),
        (Fixed(ahead_seconds=600), "clock", "600 s ahead of the operator's"),
        (Fixed(failing="count_over_time"), "query", "too many samples"),
    ],
)
def test_a_server_in_trouble(client: Fixed, name: str, words: str):
    found = failures(list(check_prometheus(client, "http://p", [Wanted(("ns", "m"), 60.0, 600.0)], NOW)))
    assert words in found[name]
