"""Reading the load from Prometheus: history of the arrival rate, and the lengths of recent requests.

One query per signal serves all resources that share a Prometheus and a bin width. A fetch has three outcomes: a
value, a healthy zero (a gateway is scraped and nothing arrives), and no answer (`QueryFailed`, or no series
where a gateway should be). Nothing that is not a finite number gets past this module.
"""

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

from prometheus_api_client import PrometheusApiClientException, PrometheusConnect
from requests import RequestException
from urllib3.util.retry import Retry

from dopd.telemetry import queries

QUERY_TIMEOUT_SECONDS = 10
LENGTH_BINS = 10
"""Lengths are averaged over this many bins: they vary more from request to request than the rate does."""

InstanceKey = tuple[str, str]
"""(namespace, name) of a resource."""

Source = tuple[str, float, float]
"""URL, bin width and length of history, in seconds: what one answer is shared by."""


class QueryFailed(Exception):
    """Prometheus did not answer a query.

    Attributes:
        query: the PromQL.
    """

    def __init__(self, query: str, message: str) -> None:
        super().__init__(message)
        self.query = query


@dataclass(frozen=True)
class Lengths:
    """Lengths of recent requests, tokens; second moments in tokens squared."""

    input_tokens: float
    input_tokens_second_moment: float
    output_tokens: float
    uncached_share: float


@dataclass(frozen=True)
class LoadHistory:
    """Load of one resource.

    Attributes:
        end_seconds: end of the newest bin, seconds since the epoch.
        rate: (end of bin in seconds since the epoch, requests per second); a bin that is not known is absent.
        lengths: of recent requests; None while none has finished.
    """

    end_seconds: float
    rate: tuple[tuple[float, float], ...]
    lengths: Lengths | None


class Prometheus(Protocol):
    """The seam to prometheus-api-client."""

    def custom_query(self, query: str, params: dict[str, Any]) -> list[dict[str, Any]]:
        """Instant query."""

    def custom_query_range(
        self, query: str, start_time: datetime, end_time: datetime, step: str
    ) -> list[dict[str, Any]]:
        """Range query."""


def connect(url: str) -> Prometheus:
    """A client of one Prometheus (or what speaks its API). It does not retry: the next pass does."""
    client: Prometheus = PrometheusConnect(url=url.rstrip("/"), retry=Retry(total=0), timeout=QUERY_TIMEOUT_SECONDS)
    return client


@dataclass
class LoadReader:
    """Reads loads; answers of one bin are shared by all resources that ask for it."""

    connect: Callable[[str], Prometheus] = connect
    _clients: dict[str, Prometheus] = field(default_factory=dict)
    _answers: dict[Source, asyncio.Task[dict[InstanceKey, LoadHistory]]] = field(default_factory=dict)
    _ends: dict[Source, float] = field(default_factory=dict)

    async def read(
        self, url: str, key: InstanceKey, *, bin_seconds: float, history_seconds: float, now_seconds: float
    ) -> LoadHistory:
        """Load of one resource up to the last full bin.

        Raises:
            QueryFailed: Prometheus did not answer, or reads no gateway of the resource.
        """
        end = math.floor(now_seconds / bin_seconds) * bin_seconds
        source = (url, bin_seconds, history_seconds)
        if self._ends.get(source) != end or _failed(self._answers[source]):
            self._ends[source] = end
            self._answers[source] = asyncio.create_task(self._read_all(source, end))
        answer = await asyncio.shield(self._answers[source])
        if key not in answer:
            query = queries.scraped("router")
            raise QueryFailed(
                query,
                f"{url} has no gateway of {'/'.join(key)} in {query}. Scrape the pods of this namespace"
                " and carry the pod labels dopd.dev/instance and dopd.dev/pool over (docs/telemetry.md)",
            )
        return answer[key]

    async def _read_all(self, source: Source, end: float) -> dict[InstanceKey, LoadHistory]:
        url, bin_seconds, history_seconds = source
        window, long_window = _promql(bin_seconds), _promql(bin_seconds * LENGTH_BINS)
        now = {
            name: self._instant(url, query(long_window), end)
            for name, query in {
                "prompts": queries.prompts,
                "prompt_tokens": queries.prompt_tokens,
                "uncached": queries.uncached_prompt_tokens,
                "buckets": queries.prompt_length_buckets,
                "generations": queries.generations,
                "generated": queries.generated_tokens,
            }.items()
        }
        rate, *answers = await asyncio.gather(
            self._range(url, queries.arrival_rate(window), end - history_seconds, end, bin_seconds), *now.values()
        )
        signals = dict(zip(now, answers, strict=True))
        histories = {}
        for item in rate:
            key = _key(item["metric"])
            points = tuple((float(t), float(v)) for t, v in item["values"] if math.isfinite(float(v)))
            histories[key] = LoadHistory(end, points, _lengths(key, signals))
        return histories

    async def _instant(self, url: str, query: str, at: float) -> list[dict[str, Any]]:
        return await self._ask(url, query, lambda client: client.custom_query(query, params={"time": str(at)}))

    async def _range(self, url: str, query: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        first, last = datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC)
        return await self._ask(url, query, lambda client: client.custom_query_range(query, first, last, _promql(step)))

    async def _ask(
        self, url: str, query: str, call: Callable[[Prometheus], list[dict[str, Any]]]
    ) -> list[dict[str, Any]]:
        client = self._clients.setdefault(url, self.connect(url))
        try:
            return await asyncio.to_thread(call, client)
        except (RequestException, PrometheusApiClientException, ValueError, KeyError) as error:
            raise QueryFailed(query, f"{url} did not answer {query}: {error}") from error


def _failed(task: "asyncio.Task[dict[InstanceKey, LoadHistory]]") -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _promql(seconds: float) -> str:
    return f"{round(seconds * 1000)}ms"


def _key(labels: Mapping[str, str]) -> InstanceKey:
    return labels.get("namespace", ""), labels.get(queries.INSTANCE, "")


def _lengths(key: InstanceKey, signals: Mapping[str, list[dict[str, Any]]]) -> Lengths | None:
    def value(name: str) -> float:
        found = [float(item["value"][1]) for item in signals[name] if _key(item["metric"]) == key]
        return found[0] if found and math.isfinite(found[0]) else 0.0

    prompts, generations = value("prompts"), value("generations")
    prompt_tokens = value("prompt_tokens")
    if prompts <= 0 or generations <= 0 or prompt_tokens <= 0:
        return None
    mean = prompt_tokens / prompts
    buckets = {
        float(item["metric"]["le"]): float(item["value"][1])
        for item in signals["buckets"]
        if _key(item["metric"]) == key
    }
    return Lengths(
        input_tokens=mean,
        input_tokens_second_moment=second_moment(buckets, mean),
        output_tokens=value("generated") / generations,
        uncached_share=min(1.0, value("uncached") / prompt_tokens) or 1.0,
    )


def second_moment(buckets: Mapping[float, float], mean: float) -> float:
    """Mean of the squared value behind a cumulative histogram, given the exact mean.

    Within a bucket values are taken as uniform; beyond the last finite bound as equal to it. The histogram tells the
    relative spread (second moment over squared mean), the exact mean its scale.

    Args:
        buckets: upper bound to cumulative rate, `inf` included.
        mean: the exact mean.
    """
    total = first = second = previous = low = 0.0
    for bound, cumulative in sorted(buckets.items()):
        weight = max(0.0, cumulative - previous)
        high = low if math.isinf(bound) else bound
        total += weight
        first += weight * (low + high) / 2
        second += weight * (low * low + low * high + high * high) / 3
        previous, low = max(previous, cumulative), high
    if total <= 0 or first <= 0:
        return mean * mean
    spread = max(1.0, (second / total) / (first / total) ** 2)
    return spread * mean * mean
