"""What people's Prometheus does, on a real one: series that are missing, late, doubled or new."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import LoadWatcher, Reading
from dopd.telemetry import clock, queries
from dopd.telemetry.connection import Connector, NoAnswer
from dopd.telemetry.loads import LoadReader, Source
from dopd.telemetry.present import Gateway, LoadNow
from dopd.telemetry.prometheus import QueryFailed, Servers
from dopd.telemetry.selfcheck import Wanted, check_prometheus

from .real_prometheus import serving
from .world import ANSWER_TOKENS, PROMPT_TOKENS, RATE, Resource, WithBatch, series, steady

NOW = time.time()
DAYS = 8 * 86_400.0


def burst(at_seconds: float, requests: float, before: float = -1.0) -> Any:
    """A counter that appears with all its requests at once; before that it shows another value, or is not there."""
    return lambda at: requests if at >= at_seconds else before


def falls(at: float) -> float:
    """A counter that lacks some of many thousand requests for a moment, as when two sources write one series."""
    return steady(RATE)(at) - (100.0 if -20 <= at < -10 else 0.0)


RESOURCES = [
    Resource("full"),
    Resource("no-workers", without=("sglang:",)),
    Resource("no-prefill", without=("sglang:prompt", "sglang:uncached")),
    Resource("no-decode", without=("sglang:generation",)),
    Resource("no-gateway", without=("smg_",)),
    Resource("no-buckets", without=("sglang:prompt_tokens_histogram_bucket",)),
    Resource("no-sum", without=("sglang:generation_tokens_histogram_sum",)),
    Resource("no-lateness", without=("sglang:time_to", "sglang:request_time")),
    Resource("idle", rate=0.0, without=("sglang:", "smg_")),
    Resource("idle-with-series", rate=0.0),
    Resource("fifteen", interval=15.0),
    Resource("thirty", interval=30.0),
    Resource("written-late", interval=15.0, newest=18.0),
    Resource("lost", interval=15.0, newest=240.0),
    Resource("new", counters={"smg_router_requests_total": burst(-20.0, 600.0)}),
    Resource("never-scraped", length=15.0, counters={"smg_router_requests_total": burst(-1e9, 600.0)}),
    Resource("false-reset", counters={"smg_router_requests_total": falls}),
    Resource("in-two", labels={"cluster": "a"}),
    Resource("in-two", rate=3 * RATE, labels={"cluster": "b", "instance": "10.1.0.1:1"}),
    Resource("plain", streamed="false"),
    Resource("streamed", streamed="true"),
    WithBatch("with-batch"),
]


@pytest.fixture(autouse=True)
def tests_that_take_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples end when the module was loaded, which may be long ago, and Prometheus' clock goes on."""
    monkeypatch.setattr(clock, "LARGEST_DIFFERENCE_SECONDS", DAYS)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("prometheus", tmp_path_factory.mktemp("prometheus"), series(RESOURCES, NOW)) as at:
        yield at


def reader() -> LoadReader:
    return LoadReader(Servers(Connector()))


async def present(url: str, name: str, before: float = 0.0, gateways: Any = (), **labels: str) -> LoadNow:
    source = Source(url, 60.0, 600.0, 15.0, queries.matchers(labels))
    return await reader().now(source, ("ns", name), NOW - before, ttft_seconds=1.0, itl_seconds=0.05, gateways=gateways)


SPEC = {
    "model": "m",
    "engine": {"image": "sglang"},
    "prefill": {"gpus": 1},
    "decode": {"gpus": 1},
    "router": {"image": "smg"},
    "scaling": {
        "prefill": {"min": 1, "max": 8},
        "decode": {"min": 1, "max": 8},
        "profileRef": {"name": "p"},
        "forecast": {"bin": "60s", "history": "10m"},
    },
}


async def reading(url: str, name: str, **telemetry: Any) -> Reading:
    spec = DisaggregatedInferenceSpec.model_validate({**SPEC, "telemetry": telemetry})
    return await LoadWatcher(Key("ns", name), reader()).read(spec, url, NOW)


async def test_of_a_batch_nothing_is_in_the_load(url: str):
    found = await present(url, "with-batch")
    assert found.requests_per_second == pytest.approx(RATE, rel=0.01)
    assert found.late_share == pytest.approx(0.1, abs=0.01)
    assert found.lengths
    assert found.lengths.input_tokens == pytest.approx(PROMPT_TOKENS)
    assert found.lengths.output_tokens == pytest.approx(ANSWER_TOKENS)
    assert found.lengths.uncached_share == pytest.approx(0.5)
    past = (await reading(url, "with-batch")).past
    assert past
    assert all(one.demand.requests_per_second == pytest.approx(RATE, rel=0.05) for one in past)
    assert all(one.demand.input_tokens == pytest.approx(PROMPT_TOKENS) for one in past)


async def test_a_batch_that_waits_or_is_served_is_seen(url: str):
    source = Source(url, 60.0, 600.0, 15.0)
    assert await reader().batch_waits(source, ("ns", "with-batch"), NOW)
    assert not await reader().batch_waits(source, ("ns", "full"), NOW)


async def test_all_is_read(url: str):
    found = await present(url, "full")
    assert found.requests_per_second == pytest.approx(RATE, rel=0.01)
    assert found.late_share == pytest.approx(0.1, abs=0.01)
    assert found.lengths
    assert found.lengths.input_tokens == pytest.approx(PROMPT_TOKENS)
    assert found.lengths.output_tokens == pytest.approx(ANSWER_TOKENS)
    assert found.lengths.uncached_share == pytest.approx(0.5)
    assert found.remarks == ()


@pytest.mark.parametrize(
    ("name", "query"),
    [
        ("no-workers", "prompt_tokens_histogram_count"),
        ("no-prefill", "prompt_tokens_histogram_count"),
        ("no-decode", "generation_tokens_histogram_count"),
        ("no-gateway", "smg_router_requests_total"),
        ("no-buckets", "prompt_tokens_histogram_bucket"),
        ("no-sum", "generation_tokens_histogram_sum"),
    ],
)
async def test_a_load_that_only_one_side_tells_of_is_held_and_the_query_named(url: str, name: str, query: str):
    found = await reading(url, name)
    assert found.demand is None
    assert found.failure
    assert found.failure.reason is ConditionReason.NO_SERIES
    assert query in str(found.failure)


@pytest.mark.parametrize("name", ["idle", "idle-with-series"])
async def test_no_traffic_is_a_healthy_zero(url: str, name: str):
    found = await reading(url, name)
    assert found.failure is None
    assert found.demand
    assert found.demand.requests_per_second == 0.0


async def test_lateness_without_series_is_unknown_and_the_load_is_known(url: str):
    found = await present(url, "no-lateness")
    assert found.requests_per_second == pytest.approx(RATE, rel=0.01)
    assert found.late_share is None


@pytest.mark.parametrize("name", ["fifteen", "thirty"])
@pytest.mark.parametrize("before", [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0])
async def test_windows_follow_the_scrape_interval_in_every_phase(url: str, name: str, before: float):
    found = await present(url, name, before)
    assert found.requests_per_second == pytest.approx(RATE, rel=0.02)
    assert found.late_share == pytest.approx(0.1, abs=0.01)
    assert found.timing.interval_seconds == {"fifteen": 15.0, "thirty": 30.0}[name]
    assert found.window_seconds == {"fifteen": 45.0, "thirty": 90.0}[name]


@pytest.mark.parametrize("before", [0.0, 3.0, 6.0, 9.0])
async def test_windows_end_where_late_samples_do(url: str, before: float):
    found = await present(url, "written-late", before)
    assert found.requests_per_second == pytest.approx(RATE, rel=0.02)
    assert found.late_share == pytest.approx(0.1, abs=0.01)


async def test_samples_that_are_minutes_late_are_lost(url: str):
    with pytest.raises(QueryFailed) as failure:
        await present(url, "lost")
    assert failure.value.reason is ConditionReason.NOT_SCRAPED


async def test_a_new_counter_counts_from_its_start(url: str):
    found = await present(url, "new")  # scraped before, with no series
    assert found.requests_per_second * found.window_seconds == pytest.approx(600.0, rel=0.02)


async def test_a_gateway_that_was_never_scraped_counts_since_its_start(url: str):
    started = Gateway("never-scraped-router-abc", "10.0.0.6", NOW - 300.0)
    found = await present(url, "never-scraped", gateways=[started])
    assert found.requests_per_second == pytest.approx(600.0 / 300.0)
    unknown = await present(url, "never-scraped")
    assert unknown.requests_per_second == 0.0
    assert "600 requests before the first scrape" in unknown.remarks[0]


async def test_a_gateway_of_several_that_nobody_scrapes_is_a_part_of_the_load_that_is_not_known(url: str):
    both = [Gateway(name, name, NOW - 3600.0) for name in ("full-router-abc", "full-router-def")]
    with pytest.raises(QueryFailed, match="reads 1 of 2 gateways") as failure:
        await present(url, "full", gateways=both)
    assert failure.value.reason is ConditionReason.NOT_SCRAPED
    just_started = [both[0], Gateway("full-router-def", "10.9.9.9", NOW - 30.0)]
    assert (await present(url, "full", gateways=just_started)).requests_per_second == pytest.approx(RATE, rel=0.01)


async def test_a_counter_that_falls_without_beginning_anew_is_no_load(url: str):
    with pytest.raises(QueryFailed, match="fall without beginning anew"):
        await present(url, "false-reset")


async def test_a_matcher_tells_two_clusters_apart(url: str):
    assert (await present(url, "in-two")).requests_per_second == pytest.approx(4 * RATE, rel=0.01)
    assert (await present(url, "in-two", cluster="a")).requests_per_second == pytest.approx(RATE, rel=0.01)
    of_resource = await reading(url, "in-two", labels={"cluster": "b"})
    assert of_resource.demand
    assert of_resource.demand.requests_per_second == pytest.approx(3 * RATE, rel=0.01)


def test_doctor_warns_of_two_clusters_and_says_interval_lag_and_windows(url: str):
    class Then:
        def __init__(self) -> None:
            self.client = Connector()(url)

        def custom_query(self, query: str, params: dict[str, Any]) -> Any:
            return self.client.custom_query(query, {"time": str(NOW)} | params)

        def custom_query_range(self, *arguments: Any) -> Any:
            return self.client.custom_query_range(*arguments)

    wanted = [Wanted(("ns", name), 60.0, 600.0) for name in ("in-two", "written-late", "plain")]
    wanted.append(Wanted(("ns", "in-two"), 60.0, 600.0, labels={"cluster": "a"}))
    checks = list(check_prometheus(Then(), url, wanted, NOW))  # type: ignore[arg-type]
    clusters = [one for one in checks if one.name == "one cluster" and one.subject == "ns/in-two"]
    assert [one.failed for one in clusters] == [True, False]
    assert "cluster is a, b, expected one value" in str(clusters[0])
    late = {one.name: one.found for one in checks if one.subject == "ns/written-late"}
    assert "scrape interval 15 s, lag 5 s" in late["scrape interval"]
    assert late["windows"] == ("the load of now over 45 s, lateness over 37.5 s, a bin over 60 s, up to 5 s ago")
    plain = {one.name: one.found for one in checks if one.subject == "ns/plain"}
    assert plain["time to first token"] == "nothing is streamed, so lateness is not known"


async def test_lateness_is_that_of_streamed_answers(url: str):
    assert (await present(url, "streamed")).late_share == pytest.approx(0.1, abs=0.01)
    assert (await present(url, "plain")).late_share is None


class OneFails:
    """A Prometheus that refuses one of its pieces of history."""

    def __init__(self, url: str) -> None:
        self.client, self.asked = Connector()(url), 0

    def custom_query(self, query: str, params: dict[str, Any]) -> Any:
        return self.client.custom_query(query, params)

    def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> Any:
        if "smg_router" in query:
            self.asked += 1
            if self.asked == 2:
                raise NoAnswer("status 503: too busy")
        return self.client.custom_query_range(query, start, end, step)

    def close(self) -> None:
        self.client.close()


async def test_eight_days_of_minutes_are_not_too_much_for_prometheus(url: str):
    query = queries.ARRIVALS.promql("60000ms")
    start, end = (datetime.fromtimestamp(at, UTC) for at in (NOW - DAYS, NOW))
    with pytest.raises(NoAnswer, match="11,000 points"):
        Connector()(url).custom_query_range(query, start, end, "60s")
    source = Source(url, 60.0, DAYS, 15.0)
    history = await reader().history(source, ("ns", "full"), NOW)
    assert history.gaps == ()
    assert [rate for _, rate in history.rate[2:]] == pytest.approx([RATE] * (len(history.rate) - 2), rel=0.01)


async def test_a_piece_of_the_history_that_fails_is_a_gap(url: str):
    client = OneFails(url)
    history = await LoadReader(Servers(lambda _: client)).history(  # type: ignore[arg-type, return-value]
        Source(url, 60.0, DAYS, 15.0), ("ns", "full"), NOW
    )
    assert len(history.gaps) == 1
    assert "too busy" in history.gaps[0]
    assert history.rate[-1][1] == pytest.approx(RATE, rel=0.01)
