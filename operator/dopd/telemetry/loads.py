"""The load of each resource, read from Prometheus: its history for the forecast, and the present for the plan.

One query per signal serves all resources that share a Prometheus and a window. A reading has three outcomes: a
value, a healthy zero (a gateway is scraped and nothing arrives), and `QueryFailed`. Nothing that is not a finite number
gets past this module.
"""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dopd.api.status import ConditionReason
from dopd.planning.generation import generation_tokens
from dopd.telemetry import queries
from dopd.telemetry.answers import buckets
from dopd.telemetry.clock import CLOCK_QUERY, clock_check
from dopd.telemetry.connection import Answer
from dopd.telemetry.doors import BadAnswer
from dopd.telemetry.histograms import Histogram, second_moment, share_above
from dopd.telemetry.prometheus import (
    Found,
    QueryFailed,
    Servers,
    SharedAnswers,
    duration,
    series_by_key,
    together,
)
from dopd.telemetry.queries import Signal

ENOUGH_REQUESTS = 20
"""Lengths of fewer requests say more of those requests than of the load; then a longer window is used."""
LONG_WINDOW = 10
"""The longer window for lengths, in bins of the history."""
SHARED_INTERVALS = 1 / 3
"""An answer is shared by those who ask within this part of their interval."""
WINDOW_INTERVALS, LATE_INTERVALS = 3.0, 1.5
"""The present is so many intervals long; lateness is about what came since the reading before."""

LEAST_PATIENCE_SECONDS = 2.0

InstanceKey = tuple[str, str]
"""(namespace, name) of a resource."""


@dataclass(frozen=True)
class Source:
    """Where and how the load of a resource is read; resources with equal sources share the answers.

    Attributes:
        url: of Prometheus.
        bin_seconds: width of a bin of the history.
        history_seconds: how far back.
        interval_seconds: between two readings.
    """

    url: str
    bin_seconds: float
    history_seconds: float
    interval_seconds: float

    @property
    def patience_seconds(self) -> float:
        """How long all queries of one answer may take."""
        return max(self.interval_seconds, LEAST_PATIENCE_SECONDS)

    @property
    def window_seconds(self) -> float:
        """Over which the present load is measured."""
        return self.interval_seconds * WINDOW_INTERVALS

    @property
    def shared_seconds(self) -> float:
        """How old the answer of another may be."""
        return self.interval_seconds * SHARED_INTERVALS


@dataclass(frozen=True)
class Lengths:
    """Lengths of recent requests, tokens; second moments in tokens squared."""

    input_tokens: float
    input_tokens_second_moment: float
    output_tokens: float
    output_tokens_second_moment: float
    uncached_share: float


@dataclass(frozen=True)
class LoadHistory:
    """Load of one resource up to the last full bin.

    Attributes:
        end_seconds: end of the newest bin, seconds since the epoch.
        rate: (end of bin in seconds since the epoch, requests per second); a bin that is not known is absent.
        lengths: of recent requests; None while none has finished.
    """

    end_seconds: float
    rate: tuple[tuple[float, float], ...]
    lengths: Lengths | None


@dataclass(frozen=True)
class LoadNow:
    """Load of one resource over a short window until now.

    Attributes:
        requests_per_second: arrival rate.
        lengths: of the window's requests; None while too few have finished.
        late_share: share of the window's requests that missed an objective; None while none has finished.
    """

    requests_per_second: float
    lengths: Lengths | None
    late_share: float | None


@dataclass
class LoadReader:
    """Reads loads; answers are shared by all resources that ask for the same."""

    servers: Servers = field(default_factory=Servers)
    _answers: SharedAnswers = field(default_factory=SharedAnswers)

    async def history(self, source: Source, key: InstanceKey, now_seconds: float) -> LoadHistory:
        """Load of one resource, bin by bin.

        Raises:
            QueryFailed: Prometheus did not answer, or reads no gateway of the resource.
        """
        url, bin_seconds = source.url, source.bin_seconds
        end = math.floor(now_seconds / bin_seconds) * bin_seconds

        async def ask() -> tuple[Answer, dict[Signal, Answer]]:
            rate = queries.ARRIVALS.promql(duration(bin_seconds))
            rates, signals = await together(
                self.servers.range(url, rate, end - source.history_seconds, end, bin_seconds),
                self._instants(url, queries.LENGTHS, bin_seconds * LONG_WINDOW, end),
            )
            return rates, signals

        rates, signals = await self._answers.get(
            ("history", source),
            now_seconds,
            lambda: _within(source, ask()),
            fresh_seconds=now_seconds - end,
            failure_seconds=source.shared_seconds,
        )
        series = _of_key(rates, key)
        if not series:
            raise _not_scraped(url, key, bin_seconds)
        points = tuple((float(t), float(v)) for t, v in series[0]["values"] if math.isfinite(float(v)))
        lengths = _lengths(key, signals, bin_seconds * LONG_WINDOW, at_least=0)
        return LoadHistory(end, points, lengths)

    async def now(
        self, source: Source, key: InstanceKey, now_seconds: float, *, ttft_seconds: float, itl_seconds: float
    ) -> LoadNow:
        """Load of one resource at present, and the share of its requests that missed an objective.

        Raises:
            QueryFailed: Prometheus did not answer, reads no gateway of the resource, or answers what can not be.
        """
        url, window_seconds = source.url, source.window_seconds
        loads = (queries.ARRIVALS, queries.COPIES_OF_GATEWAYS, *queries.LENGTHS)

        async def ask() -> dict[Signal, Answer]:
            await self.servers.ask(url, CLOCK_QUERY, clock_check(url, now_seconds))
            present, latencies = await together(
                self._instants(url, loads, window_seconds, now_seconds),
                self._instants(url, queries.LATENCIES, source.interval_seconds * LATE_INTERVALS, now_seconds),
            )
            return {**present, **latencies}

        signals = await self._answers.get(
            ("now", source),
            now_seconds,
            lambda: _within(source, ask()),
            fresh_seconds=source.shared_seconds,
            failure_seconds=source.shared_seconds,
        )
        return LoadNow(
            requests_per_second=_arrivals(url, key, signals, window_seconds),
            lengths=_lengths(key, signals, window_seconds, at_least=ENOUGH_REQUESTS),
            late_share=_late_share(key, signals, ttft_seconds, itl_seconds),
        )

    async def _instants(
        self, url: str, signals: Iterable[Signal], window_seconds: float, at_seconds: float
    ) -> dict[Signal, Answer]:
        asked = tuple(signals)
        window = duration(window_seconds)
        answers = await together(*(self.servers.instant(url, s.promql(window), at_seconds) for s in asked))
        return dict(zip(asked, answers, strict=True))


async def _within(source: Source, asked: Coroutine[Any, Any, Found]) -> Found:
    """An answer within the patience; what did not come by then is given up and keeps no thread from the next."""
    try:
        async with asyncio.timeout(source.patience_seconds):
            return await asked
    except TimeoutError:
        message = f"{source.url} did not answer within {source.patience_seconds:g} s; it is overloaded, or unreachable"
        raise QueryFailed(ConditionReason.QUERY_FAILED, message) from None


def _of_key(answer: Answer, key: InstanceKey) -> Answer:
    return series_by_key(answer, ("namespace", queries.INSTANCE)).get(key, [])


def _not_scraped(url: str, key: InstanceKey, window_seconds: float) -> QueryFailed:
    window = duration(window_seconds)
    query = queries.scraped("router", window)
    return QueryFailed(
        ConditionReason.NOT_SCRAPED,
        f"{url} has no gateway of {'/'.join(key)} that was scraped twice within {window}: {query}. Scrape the pods of"
        " this namespace, at least four times in one spec.scaling.forecast.bin, and carry the pod labels"
        " dopd.dev/instance and dopd.dev/pool over (docs/telemetry.md)",
    )


def _arrivals(url: str, key: InstanceKey, signals: Mapping[Signal, Answer], window_seconds: float) -> float:
    series = _of_key(signals[queries.ARRIVALS], key)
    if not series:
        raise _not_scraped(url, key, window_seconds)
    query = queries.ARRIVALS.promql(duration(window_seconds))
    rate = float(series[0]["value"][1])
    if not math.isfinite(rate):
        raise QueryFailed(ConditionReason.NOT_A_NUMBER, f"{url} answered {rate} to {query}, expected a rate")
    copies = _value(_of_key(signals[queries.COPIES_OF_GATEWAYS], key))
    if copies > 1:
        raise QueryFailed(
            ConditionReason.DUPLICATE_SERIES,
            f"{url} has {copies:.0f} series of each gateway of {'/'.join(key)}, so each request counts {copies:.0f}"
            f" times: {queries.copies('router')}. Scrape each pod by one job, or deduplicate replicas of Prometheus",
        )
    return max(0.0, rate)


def _value(series: Answer) -> float:
    value = float(series[0]["value"][1]) if series else 0.0
    return value if math.isfinite(value) else 0.0


def _histogram(series: Answer) -> Histogram:
    try:
        return buckets(series)
    except BadAnswer as error:
        raise QueryFailed(ConditionReason.NOT_A_NUMBER, str(error)) from None


def _lengths(
    key: InstanceKey, signals: Mapping[Signal, Answer], window_seconds: float, at_least: float
) -> Lengths | None:
    """Lengths of the requests of a window; None if fewer prompts or answers finished in it than asked for."""
    mine = {signal: _of_key(answer, key) for signal, answer in signals.items()}
    prompts, answers = _value(mine[queries.PROMPTS]), _value(mine[queries.ANSWERS])
    prompt_tokens, answer_tokens = _value(mine[queries.PROMPT_TOKENS]), _value(mine[queries.ANSWER_TOKENS])
    if min(prompts, answers) * window_seconds <= at_least or prompt_tokens <= 0:
        return None
    inputs = prompt_tokens / prompts
    squared_spread = second_moment(_histogram(mine[queries.ANSWER_LENGTHS]), 1.0)
    outputs = generation_tokens(
        answers * window_seconds,
        answer_tokens * window_seconds,
        squared_spread - 1,
        _value(mine[queries.DECODED]) * window_seconds,
    )
    return Lengths(
        input_tokens=inputs,
        input_tokens_second_moment=second_moment(_histogram(mine[queries.PROMPT_LENGTHS]), inputs),
        output_tokens=outputs,
        output_tokens_second_moment=squared_spread * outputs**2,
        uncached_share=min(1.0, _value(mine[queries.UNCACHED]) / prompt_tokens) or 1.0,
    )


def _late_share(
    key: InstanceKey, signals: Mapping[Signal, Answer], ttft_seconds: float, itl_seconds: float
) -> float | None:
    ttft = share_above(_histogram(_of_key(signals[queries.TTFT], key)), ttft_seconds)
    itl = share_above(_histogram(_of_key(signals[queries.ITL], key)), itl_seconds)
    if itl is None:
        itl = share_above(_histogram(_of_key(signals[queries.TOKEN_ITL], key)), itl_seconds)
    if ttft is None and itl is None:
        return None
    return min(1.0, (ttft or 0.0) + (itl or 0.0))
