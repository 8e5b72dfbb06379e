"""Reading loads: values, healthy zeros and failures stay three different things."""

import asyncio
import math
import re
import time
from datetime import datetime
from typing import Any

import pytest
from requests import ConnectionError as NoConnection

from dopd.api.conditions import ConditionReason
from dopd.telemetry import queries
from dopd.telemetry.clock import CLOCK_QUERY
from dopd.telemetry.loads import LoadHistory, LoadNow, LoadReader, Source
from dopd.telemetry.prometheus import QueryFailed, Servers

LABELS = {"namespace": "ns", "dopd_dev_instance": "m"}
KEY = ("ns", "m")
SOURCE = Source("http://prometheus", 60.0, 600.0, 15.0)
RATE = "smg_router_requests_total"


BUCKETS = {
    "sglang:prompt_tokens_histogram": {"1000": 1.0, "2000": 2.0, "+Inf": 2.0},
    "generation_tokens_histogram": {"1": 0.0, "400": 2.0, "+Inf": 2.0},
}


class Answers:
    """A Prometheus that answers from a table of metric names."""

    def __init__(
        self,
        rate: list[float],
        instant: dict[str, float] | None = None,
        buckets: dict[str, dict[str, float]] | None = None,
    ) -> None:
        self.rate, self.instant = rate, instant or {}
        self.buckets = (BUCKETS if instant else {}) | (buckets or {})
        self.asked: list[str] = []
        self.clock = 6000.0

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked.append(query)
        if query == CLOCK_QUERY:
            return [{"metric": {}, "value": [0, str(self.clock)]}]
        for name, buckets in self.buckets.items():
            if f"{name}_bucket" in query:
                return [{"metric": {**LABELS, "le": le}, "value": [0, str(v)]} for le, v in buckets.items()]
        if ", pod)" in query:  # first counts
            return []
        if RATE in query:
            return [{"metric": LABELS, "value": [0, str(v)]} for v in self.rate[-1:]]
        named = list(re.finditer(r"(?:sglang[:_]|smg_)(\w+)", query))
        others = [found.start() for found in named if found[1] != named[0][1]]  # that the first is set off against
        asked = query[: others[0]] if others else query
        return [{"metric": LABELS, "value": [0, str(v)]} for name, v in self.instant.items() if name in asked]

    def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> list[dict[str, Any]]:
        self.asked.append(query)
        if RATE not in query:
            return []
        values = [[start.timestamp() + 60 * i, str(v)] for i, v in enumerate(self.rate)]
        return [{"metric": LABELS, "values": values}] if values else []


LENGTHS = {
    ":prompt_tokens_histogram_count": 2.0,
    ":prompt_tokens_histogram_sum": 2000.0,
    "uncached_prompt_tokens_histogram_sum": 1500.0,
    "generation_tokens_histogram_count": 2.0,
    "generation_tokens_histogram_sum": 400.0,
}


def reader(prometheus: Answers) -> LoadReader:
    return LoadReader(Servers(lambda _: prometheus))


async def history(loads: LoadReader, now: float = 6000.0) -> LoadHistory:
    return await loads.history(SOURCE, KEY, now)


async def present(loads: LoadReader, now: float = 6000.0) -> LoadNow:
    return await loads.now(SOURCE, KEY, now, ttft_seconds=1.5, itl_seconds=0.05)


async def test_rate_and_lengths():
    found = await history(
        reader(Answers([1.0, 2.0], LENGTHS, {"sglang:prompt_tokens_histogram": {"1000": 1.0, "+Inf": 2.0}}))
    )
    assert [rate for _, rate in found.rate] == [1.0, 2.0]
    assert found.lengths
    assert found.lengths.input_tokens == 1000.0
    assert found.lengths.output_tokens == 200.0
    assert found.lengths.uncached_share == 0.75
    assert found.lengths.input_tokens_second_moment >= 1000.0**2


async def test_no_traffic_is_a_value_and_has_no_lengths():
    loads = reader(Answers([0.0, 0.0]))
    found = await history(loads)
    assert [rate for _, rate in found.rate] == [0.0, 0.0]
    assert found.lengths is None
    now = await present(loads)
    assert now.requests_per_second == 0.0
    assert now.lengths is None
    assert now.late_share is None


async def test_a_bin_that_is_no_number_is_not_known():
    found = await history(reader(Answers([1.0, math.nan, math.inf])))
    assert [rate for _, rate in found.rate] == [1.0]


async def test_a_past_of_no_number_at_all_is_a_failure_of_its_own():
    with pytest.raises(QueryFailed, match="in no bin of the history of ns/m") as failure:
        await history(reader(Answers([math.nan, math.inf])))
    assert failure.value.reason is ConditionReason.NOT_A_NUMBER


@pytest.mark.parametrize("value", [math.nan, math.inf])
async def test_a_present_that_is_no_number_is_a_failure(value: float):
    with pytest.raises(QueryFailed, match="expected a rate") as failure:
        await present(reader(Answers([1.0, value])))
    assert failure.value.reason is ConditionReason.NOT_A_NUMBER


@pytest.mark.parametrize("read", [history, present])
async def test_a_gateway_that_nobody_scrapes_is_a_failure_that_names_the_query(read: Any):
    with pytest.raises(QueryFailed, match=r"no gateway of ns/m.*up\{") as failure:
        await read(reader(Answers([])))
    assert failure.value.reason is ConditionReason.NOT_SCRAPED


async def test_a_load_that_would_be_counted_twice_is_a_failure():
    with pytest.raises(QueryFailed, match="2 series of each gateway") as failure:
        await present(reader(Answers([4.0], {"count by (namespace, dopd_dev_instance, instance)": 2.0})))
    assert failure.value.reason is ConditionReason.DUPLICATE_SERIES


async def test_a_clock_that_is_off_is_a_failure():
    prometheus = Answers([4.0])
    prometheus.clock += 600
    with pytest.raises(QueryFailed, match="600 s ahead") as failure:
        await present(reader(prometheus))
    assert failure.value.reason is ConditionReason.CLOCK_SKEW


async def test_few_requests_tell_no_lengths_of_the_present():
    slow = {name: value / 10 for name, value in LENGTHS.items()}  # 9 requests in a window of 45 s
    assert (await present(reader(Answers([0.2], slow)))).lengths is None
    assert (await history(reader(Answers([0.2], slow)))).lengths is not None
    assert (await present(reader(Answers([2.0], LENGTHS)))).lengths is not None


async def test_what_decode_makes_tells_of_answers_that_have_not_finished():
    exponential = {"generation_tokens_histogram": {"0": 0.0, "200": 1.5, "800": 2.0, "+Inf": 2.0}}
    more = {**LENGTHS, "realtime_tokens_total": 600.0}  # three hundred for each of two that finish
    alone, both = [(await present(reader(Answers([2.0], known, exponential)))).lengths for known in (LENGTHS, more)]
    assert alone
    assert both
    assert alone.output_tokens == 200.0
    assert 220.0 < both.output_tokens < 300.0
    spread = [found.output_tokens_second_moment / found.output_tokens**2 for found in (alone, both)]
    assert spread[0] == pytest.approx(spread[1])


@pytest.mark.parametrize(
    ("answers", "tokens", "decoded"),
    [(10.0, 400.0, 400.0), (10.0, 80.0, 80.0), (10.0, 10.0, 0.0)],  # as SGLang 0.5.23 counted them
)
async def test_decode_counts_one_token_more_for_each_answer_of_several(answers: float, tokens: float, decoded: float):
    of_one = answers if tokens == answers else 0.0
    known = {
        **LENGTHS,
        "generation_tokens_histogram_count": answers,
        "generation_tokens_histogram_sum": tokens,
        "realtime_tokens_total": decoded,
    }
    spread = {"generation_tokens_histogram": {"1": of_one, "1000": answers, "+Inf": answers}}
    found = (await present(reader(Answers([10.0], known, spread)))).lengths
    assert found
    assert found.output_tokens == pytest.approx(tokens / answers, rel=0.003)


ON_TIME = {
    "time_to_first_token_seconds": {"1.5": 10.0, "+Inf": 10.0},
    "request_time_per_output_token_seconds": {"0.05": 10.0, "+Inf": 10.0},
}


@pytest.mark.parametrize(
    ("buckets", "late"),
    [
        ({"time_to_first_token_seconds": {"1": 8.0, "2": 8.0, "+Inf": 10.0}}, 0.2),
        ({"time_to_first_token_seconds": {"1": 6.0, "2": 10.0, "+Inf": 10.0}}, 0.2),
        ({"request_time_per_output_token_seconds": {"0.04": 5.0, "0.06": 9.0, "+Inf": 10.0}}, 0.3),
        (
            {"request_time_per_output_token_seconds": {}, "inter_token_latency_seconds": {"0.05": 9.0, "+Inf": 10.0}},
            0.1,
        ),
        (
            {
                "time_to_first_token_seconds": {"1.5": 9.0, "+Inf": 10.0},
                "request_time_per_output_token_seconds": {"0.05": 9.0, "+Inf": 10.0},
                "inter_token_latency_seconds": {"0.05": 0.0, "+Inf": 10.0},
            },
            0.2,
        ),
        ({"time_to_first_token_seconds": {"1.5": 0.0, "+Inf": 0.0}}, 0.0),  # none came in this window
    ],
)
async def test_lateness_is_what_misses_either_objective(buckets: dict[str, dict[str, float]], late: float):
    found = await present(reader(Answers([2.0], LENGTHS, ON_TIME | buckets)))
    assert found.late_share == pytest.approx(late)
    assert found.remarks == ()


@pytest.mark.parametrize("missing", list(ON_TIME))
async def test_lateness_that_half_of_the_signals_tell_is_not_known(missing: str):
    found = await present(reader(Answers([2.0], LENGTHS, {**ON_TIME, missing: {}})))
    assert found.late_share is None
    assert missing in found.remarks[0]


async def test_where_nothing_streams_lateness_is_not_known_and_that_is_said():
    known = {**LENGTHS, 'is_streaming="false"': 2.0}
    found = await present(reader(Answers([2.0], known)))
    assert found.late_share is None
    assert found.not_streamed_per_second == 2.0
    assert "no answer is streamed" in found.remarks[0]


async def test_what_is_not_streamed_is_left_out_and_counted():
    known = {**LENGTHS, 'is_streaming="false"': 2.0}
    found = await present(reader(Answers([2.0], known, ON_TIME)))
    assert found.late_share == 0.0
    assert found.not_streamed_per_second == 2.0


async def test_a_prometheus_that_does_not_answer_fails_and_is_asked_again():
    class Flaky(Answers):
        down = True

        def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
            if self.down:
                raise NoConnection("refused")
            return super().custom_query(query, params)

    prometheus = Flaky([3.0], LENGTHS)
    loads = reader(prometheus)
    with pytest.raises(QueryFailed, match="did not answer"):
        await history(loads)
    prometheus.down = False
    with pytest.raises(QueryFailed, match="did not answer"):
        await history(loads, now=6001.0)  # another resource: the failure is not asked for again at once
    assert (await history(loads, now=6006.0)).rate[-1][1] == 3.0


async def test_one_answer_serves_all_resources_of_a_bin():
    prometheus = Answers([1.0], LENGTHS)
    loads = reader(prometheus)

    def asked() -> int:
        return sum("timestamp(" not in query for query in prometheus.asked)

    await history(loads, now=6000.0)
    first = asked()
    await history(loads, now=6059.0)
    assert asked() == first
    await history(loads, now=6060.0)
    assert asked() - first == 2 + len(queries.LENGTHS)  # the newest bins, and not how often there are samples


async def test_a_prometheus_that_hangs_is_given_up_and_keeps_no_thread_from_the_next_try():
    class Hanging(Answers):
        hangs = True

        def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
            if self.hangs:
                time.sleep(0.3)
            return super().custom_query(query, params)

    prometheus = Hanging([3.0], LENGTHS)
    loads = reader(prometheus)
    hasty = Source("http://prometheus", 60.0, 600.0, 0.1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dopd.telemetry.loads.LEAST_PATIENCE_SECONDS", 0.1)
        with pytest.raises(QueryFailed, match="did not answer within"):
            await loads.history(hasty, KEY, 6000.0)
    prometheus.hangs = False
    assert (await loads.history(hasty, KEY, 6001.0)).rate[-1][1] == 3.0
    await asyncio.sleep(0)
    assert len(prometheus.asked) < 20, "what waited for a thread was dropped"
