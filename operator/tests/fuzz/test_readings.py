"""Any numbers in answers of Prometheus that pass its door: a reading is of finite numbers, or a named failure."""

import asyncio
import json
import math
import random
from typing import Any

from hypothesis import event, example, given
from hypothesis import strategies as st

from dopd.reconcile.reading import demand_at
from dopd.telemetry import queries
from dopd.telemetry.answers import Kind, parse_answer
from dopd.telemetry.connection import Answer, NoAnswer
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.loads import LoadHistory, LoadReader, Source
from dopd.telemetry.present import Gateway, LoadNow
from dopd.telemetry.prometheus import QueryFailed, Servers

NOW = 1_700_000_003.0
KEY = {"namespace": "ns", queries.INSTANCE: "m"}
ODD = [
    "0", "-0", "1", "-1", "0.5", "NaN", "+Inf", "-Inf", "5e-324", "1e-300", "1e-9", "1e9", "1e15", "1e16", "1e18",
    "1e100", "1e300", "-1e308", "1.7e308",
]  # fmt: skip
ODD_TIMES = [0.0, -1e9, NOW + 864_000.0, 1e18, 1e300]


class OddPrometheus:
    """Answers every query with a steady load, in which some values, labels and times are odd.

    Args:
        seed: of what is odd.
        odd: share of the values.
    """

    def __init__(self, seed: int, odd: float) -> None:
        self._random, self._odd = random.Random(seed), odd

    def custom_query(self, query: str, params: dict[str, Any]) -> Answer:
        values: list[tuple[dict[str, str], str]]
        if query.startswith("vector(time"):
            values = [({}, self._value(NOW, self._odd / 4))]
        elif "bucket" in query:
            bounds = ["1", "100", "4000", "+Inf"]
            values = [({**KEY, "le": self._bound(le)}, self._value(n + 1.0)) for n, le in enumerate(bounds)]
        elif "timestamp(" in query or "count_over_time(up" in query:
            value = NOW - 3 if "timestamp(" in query else 36.0
            pools = ("router", "prefill", "decode")
            values = [({**KEY, queries.POOL: p, "instance": "10.0.0.1:9"}, self._value(value)) for p in pools]
        elif "instance, pod" in query:
            host = self._random.choice(["10.0.0.1:29000", "[::1]:3", "", ":", "x"])
            values = [({**KEY, "instance": host, "pod": "g"}, self._value(3.0))] if self._odd else []
        elif "tokens" in query and "_sum" in query:
            values = [(KEY, self._value(5000.0))]
        else:
            values = [(KEY, self._value(1.0 if query.startswith("max by") else 5.0))]
        if self._random.random() < self._odd / 4:
            values = values * self._random.choice([0, 2])
        return self._let_in("vector", [{"metric": labels, "value": [NOW, value]} for labels, value in values])

    def custom_query_range(self, query: str, start_time: Any, end_time: Any, step: str) -> Answer:
        at, seconds, points = start_time.timestamp(), float(step.removesuffix("ms")) / 1000, []
        while at <= end_time.timestamp():
            stamp = self._random.choice(ODD_TIMES) if self._random.random() < self._odd / 20 else at
            points.append([stamp, self._value(at - at % 5 if "timestamp(" in query else 5 + math.sin(at / 3000))])
            at += seconds
        if self._random.random() < self._odd / 2:
            self._random.shuffle(points)
        if self._random.random() < self._odd / 4:
            points = points[: self._random.choice([0, 1])] or points + points[:50]
        labels = {**KEY, queries.POOL: "router", "instance": "10.0.0.1:9"}
        return self._let_in("matrix", [{"metric": labels, "values": points}])

    def close(self) -> None:
        pass

    def _value(self, usual: float, odd: float | None = None) -> str:
        return self._random.choice(ODD) if self._random.random() < (self._odd if odd is None else odd) else repr(usual)

    def _bound(self, usual: str) -> str:
        return self._random.choice([*ODD, "1.0", "x", ""]) if self._random.random() < self._odd / 4 else usual

    def _let_in(self, kind: Kind, result: Answer) -> Answer:
        body = json.dumps({"status": "success", "data": {"resultType": kind, "result": result}}).encode()
        try:
            found: Answer = parse_answer(kind, body)["data"]["result"]
            return found
        except BadAnswer as error:
            raise NoAnswer(str(error)) from None


async def read(prometheus: OddPrometheus) -> tuple[LoadHistory, LoadNow] | QueryFailed:
    servers, source = Servers(lambda _: prometheus), Source("http://p", 60.0, 3600.0, 15.0)
    reader, key = LoadReader(servers), ("ns", "m")
    gateways = [Gateway("g", "10.0.0.1", NOW - 1000)]
    try:
        return await asyncio.gather(
            reader.history(source, key, NOW),
            reader.now(source, key, NOW, ttft_seconds=1.0, itl_seconds=0.05, gateways=gateways),
        )
    except QueryFailed as failure:
        return failure
    finally:
        servers.close()


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.02, 0.1, 0.3]))
@example(134217728, 0.3)  # a mean prompt of 2e-301 tokens, whose square is nothing
def test_a_reading_is_finite_or_a_failure_that_is_named(seed: int, odd: float):
    found = asyncio.run(read(OddPrometheus(seed, odd)))
    if isinstance(found, QueryFailed):
        event(found.reason.value)
        assert odd
        assert str(found).isprintable()
        return
    event("read")
    history, now = found
    assert odd or now.requests_per_second == 5.0  # the world itself is read
    for lengths in (now.lengths, history.lengths):
        demand = demand_at(now.requests_per_second, lengths)  # refuses what is no finite number
        assert max(demand.input_tokens, demand.output_tokens) <= 1e9
    ends = [end for end, _ in history.rate]
    assert ends == sorted(set(ends))
    assert all(NOW - 3700 < end <= NOW for end in ends)
    assert all(0 <= rate <= 1e15 for _, rate in history.rate)
    assert now.late_share is None or 0 <= now.late_share <= 1
