"""The past load: what a fresh operator knows with its first reading, from whom, and what it costs afterwards."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from dopd.autoscaler.past import PastLoad
from dopd.telemetry import backfill, queries
from dopd.telemetry.connection import NoAnswer
from dopd.telemetry.loads import LoadHistory, LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed, Servers
from dopd.telemetry.windows import Timing

from .real_prometheus import Series, recording, serving

DAY = 86_400.0
NOW = time.time() // 3600 * 3600 + 1800.0
KEY = ("ns", "m")
LABELS = {"namespace": "ns", queries.INSTANCE: "m"}
SOURCE = Source("http://near", 60.0, 28 * DAY, 15.0)
FAR = Source("http://near", 60.0, 28 * DAY, 15.0, far_url="http://far")


def office(at: float) -> bool:
    """From 9 to 17."""
    return 9 * 3600 <= at % DAY < 17 * 3600


class Prometheus:
    """One that knows the load as it was since a time, and says what it was asked."""

    def __init__(self, since: float = 0.0, *, recorded: bool = False) -> None:
        self.since, self.recorded = since, recorded
        self.asked: list[tuple[str, float, float]] = []
        self.fails: Callable[[str, float], bool] = lambda query, end: False
        self.delay = 0.0

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"metric": {}, "value": (0.0, 1.0)}] if self.recorded and query.startswith("count(last") else []

    def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> list[dict[str, Any]]:
        first, last, width = start.timestamp(), end.timestamp(), float(step.removesuffix("ms")) / 1000
        if "timestamp(" in query:
            return []
        self.asked.append((query, first, last))
        time.sleep(self.delay)
        if self.fails(query, last):
            raise NoAnswer("too busy")
        if ("dopd:" in query) is not self.recorded:
            return []
        ends = [first + width * i for i in range(round((last - first) / width) + 1)]
        known = [at for at in ends if at > self.since]
        middle = width / 2

        def series(value: Callable[[float], float], **labels: str) -> dict[str, Any]:
            return {"metric": {**LABELS, **labels}, "values": [(at, value(at - middle)) for at in known]}

        if not known:
            return []
        if "_bucket" in query or "_lengths:" in query:
            bounds = {"100": 0.0, "300": 1.0, "+Inf": 1.0}
            return [
                series(lambda _, share=share: share, part=part, le=le)  # type: ignore[misc]
                for part in ("input", "output")
                for le, share in bounds.items()
            ]
        if "label_replace" in query:
            told: Mapping[str, Callable[[float], float]] = {
                "input": lambda at: 1000.0 if office(at) else 4000.0,
                "uncached": lambda at: 0.5,
                "output": lambda at: 200.0 if office(at) else float("nan"),
            }
            return [series(value, part=part) for part, value in told.items()]
        return [series(lambda at: 10.0 if office(at) else 1.0)]

    def close(self) -> None:
        pass


def reader(**servers: Prometheus) -> LoadReader:
    return LoadReader(Servers(lambda url: servers[url.removeprefix("http://")]))


async def read(loads: LoadReader, source: Source = SOURCE, later: float = 0.0) -> LoadHistory:
    return await loads.history(source, KEY, NOW + later)


def at(history: LoadHistory, when: float) -> PastLoad:
    (found,) = [one for one in history.past if one.end_seconds - one.seconds <= when < one.end_seconds]
    return found


def noon(days_ago: int) -> float:
    return NOW // DAY * DAY - days_ago * DAY + 12 * 3600 + 30


async def test_a_fresh_operator_has_four_weeks_with_its_first_reading():
    history = await read(reader(near=Prometheus()))
    assert history.gaps == ()
    assert history.past[0].end_seconds <= NOW - 28 * DAY + 600
    for days_ago in (1, 7, 27):
        busy, quiet = at(history, noon(days_ago)), at(history, noon(days_ago) + 12 * 3600)
        assert (busy.demand.requests_per_second, quiet.demand.requests_per_second) == (10.0, 1.0)
        assert busy.demand.input_tokens == 1000.0
        assert busy.demand.input_tokens_second_moment == pytest.approx(1000.0**2 * (200**2 + 200**2 / 12) / 200**2)
    assert {one.seconds for one in history.past} == {60.0, 600.0}
    bins = sum(one.seconds for one in history.past) / 60
    assert bins == pytest.approx(28 * 1440, abs=10)


async def test_bins_that_tell_no_lengths_have_those_of_the_nearest_that_does():
    history = await read(reader(near=Prometheus()))
    evening = at(history, noon(1) + 6 * 3600)
    assert evening.demand.requests_per_second == 1.0
    assert evening.demand.input_tokens == 1000.0, "at night no answer ends, so that hour tells nothing"
    assert evening.demand.output_tokens == 200.0


async def test_each_minute_asks_for_the_newest_bins_alone():
    near = Prometheus()
    loads = reader(near=near)
    await read(loads)
    first = len(near.asked)
    await read(loads, later=15.0)
    assert len(near.asked) == first
    await read(loads, later=60.0)
    newest = near.asked[first:]
    assert len(newest) == 2
    assert all(last - begin < 70 * 60 for _, begin, last in newest)


async def test_a_scrape_interval_that_wavers_does_not_ask_for_all_anew(monkeypatch: pytest.MonkeyPatch):
    near = Prometheus()
    loads, measured = reader(near=near), [60.0, 29.0, 31.0, 30.0]

    async def timing(*_: Any) -> Timing:
        return Timing(measured.pop())

    monkeypatch.setattr(loads, "_timing", timing)
    asked = []
    while measured:
        before = len(near.asked)
        await read(loads)
        asked.append(len(near.asked) - before)
    assert asked[1:3] == [2, 2]
    assert asked[3] > 60, "a window of 75 s has one sample at most"


async def test_resources_share_what_is_read():
    near = Prometheus()
    loads = reader(near=near)
    await read(loads)
    first = len(near.asked)
    with pytest.raises(QueryFailed, match="ns/other"):
        await loads.history(SOURCE, ("ns", "other"), NOW + 1)
    assert len(near.asked) == first


async def test_a_part_that_fails_is_a_gap_and_is_read_later(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfill, "RETRY_SECONDS", 0.0)
    near = Prometheus()
    # Pieces of the far past end each second day, so that one of them ends within two days, whatever day it is.
    near.fails = lambda query, end: "label_replace" not in query and NOW - 12 * DAY < end <= NOW - 10 * DAY
    loads = reader(near=near)
    history = await read(loads)
    assert len(history.gaps) == 1
    assert "too busy" in history.gaps[0]
    assert at(history, noon(14)).demand.requests_per_second == 10.0
    assert at(history, noon(1)).demand.requests_per_second == 10.0
    near.fails = lambda query, end: False
    await asyncio.sleep(0)
    assert (await read(loads, later=15.0)).gaps == ()


async def test_a_past_that_is_loaded_later_is_read_then(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfill, "RETRY_SECONDS", 0.0)
    near = Prometheus(NOW - DAY)  # the blocks of a backfill, or of a store that was away, are yet to come
    loads = reader(near=near)
    assert (await read(loads)).past[0].end_seconds > NOW - 2 * DAY
    near.since = 0.0
    await asyncio.sleep(0)
    assert at(await read(loads, later=15.0), noon(20)).demand.requests_per_second == 10.0


async def test_a_server_that_fails_each_time_is_not_asked_for_all_of_the_past():
    near = Prometheus()
    near.fails = lambda query, end: end < NOW - DAY
    history = await read(reader(near=near))
    assert at(history, NOW - 3600).demand.requests_per_second > 0
    assert len(history.gaps) <= 3
    assert sum(end < NOW - DAY for _, _, end in near.asked) <= 2 * backfill.FAILURES_IN_A_ROW


async def test_what_takes_long_comes_later(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfill, "FAR_PATIENCE_SECONDS", 0.05)
    near = Prometheus()
    near.delay = 0.002
    loads = reader(near=near)
    history = await read(loads)
    assert "still being read" in history.gaps[0]
    assert history.past[-1].end_seconds > NOW - 120
    for _ in range(100):
        await asyncio.sleep(0.05)
        history = await read(loads, later=15.0)
        if not history.gaps:
            break
    assert at(history, noon(27)).demand.requests_per_second == 10.0


async def test_a_far_prometheus_that_hangs_delays_the_first_reading_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backfill, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(backfill, "LATER_PATIENCE_SECONDS", 0.0)
    far = Prometheus()
    far.fails = lambda query, end: True
    loads = reader(near=Prometheus(), far=far)
    await read(loads, FAR)
    far.delay = 30.0  # longer than this test may take
    assert at(await read(loads, FAR, later=15.0), noon(1)).demand.requests_per_second == 10.0


async def test_recorded_series_tell_of_what_the_pods_series_do_not_any_more():
    class Both(Prometheus):
        def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> list[dict[str, Any]]:
            self.recorded = "dopd:" in query
            self.since = 0.0 if self.recorded else NOW - DAY
            found = super().custom_query_range(query, start, end, step)
            self.recorded = True
            return found

    near = Both(recorded=True)
    history = await read(reader(near=near))
    for days_ago in (2, 20):
        assert at(history, noon(days_ago)).demand.requests_per_second == 10.0
        assert at(history, noon(days_ago)).demand.input_tokens == 1000.0
    far = [query for query, _, end in near.asked if end < NOW - 4 * DAY]
    assert far
    assert all("dopd:" in query for query in far), "the series of pods need not be read where there are recorded ones"


async def test_another_prometheus_tells_of_what_is_long_ago():
    near, far = Prometheus(NOW - DAY), Prometheus()
    history = await read(reader(near=near, far=far), FAR)
    assert at(history, noon(20)).demand.requests_per_second == 10.0
    assert at(history, noon(2)).demand.requests_per_second == 10.0
    assert not [query for query, _, end in far.asked if end > NOW - 1200], "what may still change is the near one's"
    assert (await read(reader(near=near, far=far))).past[0].end_seconds > NOW - DAY - 600


async def test_the_operators_own_far_prometheus_is_for_its_own_near_one():
    servers = {"near": Prometheus(NOW - DAY), "far": Prometheus(), "tenant": Prometheus(NOW - DAY)}
    loads = LoadReader(Servers(lambda url: servers[url.removeprefix("http://")]), {"http://near": "http://far"})
    assert at(await read(loads), noon(20)).demand.requests_per_second == 10.0
    tenant = Source("http://tenant", 60.0, 28 * DAY, 15.0)
    assert (await read(loads, tenant)).past[0].end_seconds > NOW - DAY - 600


async def test_a_far_prometheus_that_is_away_leaves_the_near_past():
    far = Prometheus()
    far.fails = lambda query, end: True
    history = await read(reader(near=Prometheus(NOW - 5 * DAY), far=far), FAR)
    assert "too busy" in history.gaps[0]
    assert at(history, noon(1)).demand.requests_per_second == 10.0


# On a real one.

SCRAPE = 120.0


def samples(days: float) -> Iterator[Series]:
    """Office hours of ten requests a second, else one; prompts of 1,000 tokens by day and of 4,000 by night."""
    times = [NOW - days * DAY + SCRAPE * i for i in range(int(days * DAY / SCRAPE) + 1)]
    counts = {name: [0.0] for name in ("requests", "prompt", "answer")}
    for when in times[1:]:
        number = SCRAPE * (10.0 if office(when) else 1.0)
        for name, each in (("requests", 1.0), ("prompt", 1000.0 if office(when) else 4000.0), ("answer", 200.0)):
            counts[name].append(counts[name][-1] + number * each)
    total, none = counts["requests"], [0.0] * len(times)
    short = [
        prompts - (tokens - 1000.0 * prompts) / 3000 for prompts, tokens in zip(total, counts["prompt"], strict=True)
    ]
    metrics: dict[tuple[str, str, str], list[float]] = {
        ("router", "smg_router_requests_total", ""): total,
        ("prefill", "sglang:prompt_tokens_histogram_count", ""): total,
        ("prefill", "sglang:prompt_tokens_histogram_sum", ""): counts["prompt"],
        ("prefill", "sglang:uncached_prompt_tokens_histogram_sum", ""): [value / 2 for value in counts["prompt"]],
        ("prefill", "sglang:prompt_tokens_histogram_bucket", "900"): none,
        ("prefill", "sglang:prompt_tokens_histogram_bucket", "1100"): short,
        ("prefill", "sglang:prompt_tokens_histogram_bucket", "5000"): total,
        ("prefill", "sglang:prompt_tokens_histogram_bucket", "+Inf"): total,
        ("decode", "sglang:generation_tokens_histogram_count", ""): total,
        ("decode", "sglang:generation_tokens_histogram_sum", ""): counts["answer"],
        ("decode", "sglang:generation_tokens_histogram_bucket", "400"): total,
        ("decode", "sglang:generation_tokens_histogram_bucket", "+Inf"): total,
    }
    for pool in ("router", "prefill", "decode"):
        labels = {**LABELS, queries.POOL: pool, "pod": f"m-{pool}", "instance": f"10.0.0.{len(pool)}:1"}
        yield "up", labels, [(when, 1.0) for when in times]
        for (of, name, bound), values in metrics.items():
            if of == pool:
                yield name, labels | ({"le": bound} if bound else {}), list(zip(times, values, strict=True))


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving("prometheus", tmp_path_factory.mktemp("weeks"), samples(15)) as address:
        yield address


@pytest.fixture
def victoria_metrics(tmp_path: Path) -> Iterator[str]:
    with serving("victoria-metrics", tmp_path, samples(15)) as address:
        yield address


@pytest.mark.parametrize("server", ["url", "victoria_metrics"])
async def test_a_real_server_tells_the_mix_of_each_hour(request: pytest.FixtureRequest, server: str):
    url = request.getfixturevalue(server)
    history = await LoadReader().history(Source(url, 60.0, 28 * DAY, 15.0), KEY, NOW)
    assert history.gaps == ()
    assert history.past[0].end_seconds == pytest.approx(NOW - 15 * DAY, abs=1800)
    for days_ago in (1, 8, 13):
        busy, quiet = at(history, noon(days_ago)).demand, at(history, noon(days_ago) - 9 * 3600).demand
        assert busy.requests_per_second == pytest.approx(10.0, rel=0.01)
        assert quiet.requests_per_second == pytest.approx(1.0, rel=0.01)
        assert (busy.input_tokens, quiet.input_tokens) == pytest.approx((1000.0, 4000.0), rel=0.01)
        assert busy.uncached_share == pytest.approx(0.5)
        assert busy.output_tokens == pytest.approx(200.0)
        assert busy.input_tokens_second_moment == pytest.approx(1000.0**2, rel=0.01)
        assert busy.output_tokens_second_moment == pytest.approx(200.0**2 * 4 / 3, rel=0.01)
        assert quiet.input_tokens_second_moment > 1.1 * 4000.0**2, "a bucket up to 5000 tokens"


RULES = Path(__file__).parents[3] / "charts" / "dopd" / "rules" / "recording.yaml"


async def test_what_the_charts_rules_record_tells_the_same_past(url: str, tmp_path: Path):
    scraped_often = tmp_path / "rules.yaml"  # made up samples are two minutes apart, which a minute's rate does not see
    scraped_often.write_text(RULES.read_text().replace("60000", "300000"))
    start, end = noon(4) - 4 * 3600, noon(4) - 2 * 3600
    with recording(url, scraped_often, tmp_path, start, end) as recorded:
        told = await LoadReader().history(Source(recorded, 60.0, 28 * DAY, 15.0), KEY, NOW)
        raw = await LoadReader().history(Source(url, 60.0, 28 * DAY, 15.0), KEY, NOW)
    assert told.gaps == ()
    assert told.past[0].end_seconds == pytest.approx(start, abs=1800)
    for when in (end - 1800, start + 1800):
        mine, other = at(told, when).demand, at(raw, when).demand
        assert mine.requests_per_second == pytest.approx(other.requests_per_second, rel=0.01)
        assert mine.input_tokens == pytest.approx(other.input_tokens, rel=0.01)
        assert mine.uncached_share == pytest.approx(other.uncached_share, rel=0.01)
        assert mine.output_tokens_second_moment == pytest.approx(other.output_tokens_second_moment, rel=0.02)
    mine, other = (at(one, end - 1800).demand.input_tokens_second_moment for one in (told, raw))
    assert mine == pytest.approx(other, rel=0.02)
