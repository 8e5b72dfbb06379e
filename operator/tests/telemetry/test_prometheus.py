"""Reading loads: values, healthy zeros and failures stay three different things."""

import math
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from requests import ConnectionError as NoConnection

from dopd.telemetry.prometheus import LoadReader, QueryFailed, second_moment

LABELS = {"namespace": "ns", "dopd_dev_instance": "m"}
URL = "http://prometheus"


class Answers:
    """A Prometheus that answers from a table of metric names."""

    def __init__(self, rate: list[float], instant: dict[str, float], buckets: dict[str, float] | None = None) -> None:
        self.rate, self.instant, self.buckets = rate, instant, buckets or {}
        self.asked: list[str] = []

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        self.asked.append(query)
        if "_bucket" in query:
            return [{"metric": {**LABELS, "le": le}, "value": [0, str(v)]} for le, v in self.buckets.items()]
        return [{"metric": LABELS, "value": [0, str(v)]} for name, v in self.instant.items() if name in query]

    def custom_query_range(self, query: str, start: datetime, end: datetime, step: str) -> list[dict[str, Any]]:
        self.asked.append(query)
        values = [[start.timestamp() + 60 * i, str(v)] for i, v in enumerate(self.rate)]
        return [{"metric": LABELS, "values": values}] if values else []


LENGTHS = {
    "sglang:prompt_tokens_histogram_count": 2.0,
    "sglang:prompt_tokens_histogram_sum": 2000.0,
    "uncached_prompt_tokens_histogram_sum": 1500.0,
    "generation_tokens_histogram_count": 2.0,
    "generation_tokens_histogram_sum": 400.0,
}


async def read(reader: LoadReader, now: float = 6000.0, key: tuple[str, str] = ("ns", "m")) -> Any:
    return await reader.read(URL, key, bin_seconds=60.0, history_seconds=600.0, now_seconds=now)


async def test_rate_and_lengths():
    history = await read(LoadReader(lambda _: Answers([1.0, 2.0], LENGTHS, {"1000": 1.0, "+Inf": 2.0})))
    assert [rate for _, rate in history.rate] == [1.0, 2.0]
    assert history.lengths.input_tokens == 1000.0
    assert history.lengths.output_tokens == 200.0
    assert history.lengths.uncached_share == 0.75
    assert history.lengths.input_tokens_second_moment >= 1000.0**2


async def test_no_traffic_is_a_value_and_has_no_lengths():
    history = await read(LoadReader(lambda _: Answers([0.0, 0.0], {})))
    assert [rate for _, rate in history.rate] == [0.0, 0.0]
    assert history.lengths is None


async def test_what_is_no_number_is_not_known():
    history = await read(LoadReader(lambda _: Answers([1.0, math.nan, math.inf], {})))
    assert [rate for _, rate in history.rate] == [1.0]


async def test_a_gateway_that_nobody_scrapes_is_a_failure_that_names_the_query():
    with pytest.raises(QueryFailed, match="no gateway of ns/m") as failure:
        await read(LoadReader(lambda _: Answers([], {})))
    assert "up{" in failure.value.query


async def test_a_prometheus_that_does_not_answer_fails_and_is_asked_again():
    class Down(Answers):
        def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
            raise NoConnection("refused")

    prometheus: Answers = Down([1.0], LENGTHS)
    reader = LoadReader(lambda _: prometheus)
    with pytest.raises(QueryFailed, match="did not answer"):
        await read(reader)
    reader._clients[URL] = Answers([3.0], LENGTHS)
    assert (await read(reader)).rate[-1][1] == 3.0


async def test_one_answer_serves_all_resources_of_a_bin():
    prometheus = Answers([1.0], LENGTHS)
    reader = LoadReader(lambda _: prometheus)
    await read(reader, now=6000.0)
    asked = len(prometheus.asked)
    await read(reader, now=6059.0)
    assert len(prometheus.asked) == asked
    await read(reader, now=6060.0)
    assert len(prometheus.asked) == 2 * asked


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=200))
def test_second_moment_from_buckets_is_near_that_of_the_values(values: list[float]):
    bounds = [2.0**i for i in range(15)]
    buckets = {bound: float(sum(v <= bound for v in values)) for bound in (*bounds, math.inf)}
    mean = sum(values) / len(values)
    exact = sum(v * v for v in values) / len(values)
    estimate = second_moment(buckets, mean)
    assert mean * mean <= estimate <= 2 * exact


def test_second_moment_without_buckets_is_that_of_equal_values():
    assert second_moment({}, 10.0) == 100.0
