"""The load of each resource, read from Prometheus: its history for the forecast, and the present for the plan.

One query per signal serves all resources that share a Prometheus and a window. A reading has three outcomes: a
value, a healthy zero (a gateway is scraped and nothing arrives), and `QueryFailed`. Nothing that is not a finite number
gets past this module.
"""

import asyncio
import math
from collections.abc import Coroutine, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from dopd.api.conditions import ConditionReason
from dopd.autoscaler.past import PastLoad
from dopd.telemetry import queries
from dopd.telemetry.backfill import Backfill, Kind, Place, Question, ask, questions, tables
from dopd.telemetry.clock import CLOCK_QUERY, clock_check
from dopd.telemetry.connection import Answer
from dopd.telemetry.history import Piece
from dopd.telemetry.lengths import Lengths, absent, lengths
from dopd.telemetry.past import Grid, past_loads
from dopd.telemetry.present import Asked, Gateway, LoadNow, load_now, no_number, not_scraped
from dopd.telemetry.prometheus import Found as Result
from dopd.telemetry.prometheus import QueryFailed, Servers, SharedAnswers, duration, series_by_key, together
from dopd.telemetry.queries import Signal
from dopd.telemetry.signals import RESOURCE, Shared, of_resource, shared
from dopd.telemetry.windows import (
    LOOK_BACK_SECONDS,
    LOOK_STEP_SECONDS,
    PRESENT_INTERVALS,
    InstanceKey,
    Timing,
    Windows,
    intervals,
    timing_of,
    windows,
)

LONG_WINDOW = 10
"""The longer window for lengths, in bins of the history."""
SHARED_INTERVALS = 1 / 3
"""An answer is shared by those who ask within this part of their interval."""
TIMING_SECONDS = 60.0
"""How old may be what is known of scrape intervals."""
HISTORY_SECONDS = 300.0
"""A history that was put together is kept so long after nobody asks for it."""

LEAST_PATIENCE_SECONDS = 2.0


@dataclass(frozen=True)
class Source:
    """Where and how the load of a resource is read; resources with equal sources share the answers.

    Attributes:
        url: of Prometheus.
        bin_seconds: width of a bin of the history.
        history_seconds: how far back.
        interval_seconds: between two readings.
        matching: matchers of every selector, as `queries.matchers` makes them.
        far_url: of a Prometheus that has what is long ago; "" for that of the operator where `url` is its own.
    """

    url: str
    bin_seconds: float
    history_seconds: float
    interval_seconds: float
    matching: str = ""
    far_url: str = ""

    @property
    def patience_seconds(self) -> float:
        """How long all queries of one answer may take."""
        return max(self.interval_seconds, LEAST_PATIENCE_SECONDS)

    @property
    def window_seconds(self) -> float:
        """Over which the present load is measured, where scrapes are close enough."""
        return self.interval_seconds * PRESENT_INTERVALS

    @property
    def shared_seconds(self) -> float:
        """How old the answer of another may be."""
        return self.interval_seconds * SHARED_INTERVALS


@dataclass(frozen=True)
class LoadHistory:
    """Load of one resource up to the last full bin.

    Attributes:
        end_seconds: end of the newest bin, seconds since the epoch.
        bin_seconds: width of the newest bins; what is long ago comes in wider ones.
        past: the load bin by bin, oldest first; a bin whose arrivals are not known is absent.
        lengths: of recent requests; None while none has finished.
        absent: the first signal that lengths need and that has had no series in the long window; None if all have.
        gaps: parts that could not be read, and why.
    """

    end_seconds: float
    bin_seconds: float
    past: tuple[PastLoad, ...]
    lengths: Lengths | None
    absent: Signal | None = None
    gaps: tuple[str, ...] = ()

    @cached_property
    def rate(self) -> tuple[tuple[float, float], ...]:
        """(end of bin in seconds since the epoch, requests per second), wide bins as that many narrow ones."""
        return tuple(
            (one.end_seconds - self.bin_seconds * back, one.demand.requests_per_second)
            for one in self.past
            for back in range(round(one.seconds / self.bin_seconds) - 1, -1, -1)
        )


@dataclass
class LoadReader:
    """Reads loads; answers are shared by all resources that ask for the same.

    Attributes:
        servers: that are asked.
        far_urls: where what is long ago is read, by URL of the Prometheus that has the present.
    """

    servers: Servers = field(default_factory=Servers)
    far_urls: Mapping[str, str] = field(default_factory=dict)
    _answers: SharedAnswers = field(default_factory=SharedAnswers)

    def __post_init__(self) -> None:
        self._backfill = Backfill(self.servers)
        self._histories: dict[tuple[Source, InstanceKey], tuple[Hashable, LoadHistory]] = {}

    async def history(self, source: Source, key: InstanceKey, now_seconds: float) -> LoadHistory:
        """Load of one resource, bin by bin.

        The first one of a source takes a while: see `backfill`.

        Raises:
            QueryFailed: Prometheus did not answer, or reads no gateway of the resource.
        """
        timing = await self._timing(source, key, now_seconds)
        over = windows(timing, source.interval_seconds, source.bin_seconds)
        bin_seconds = source.bin_seconds
        end = math.floor((now_seconds - over.lag_seconds) / bin_seconds) * bin_seconds
        far_url = source.far_url or self.far_urls.get(source.url, "")
        place = Place(source.url, far_url, bin_seconds, source.history_seconds, source.matching)
        newest, settled = questions(end, source.history_seconds, bin_seconds)
        long_seconds = bin_seconds * LONG_WINDOW
        signals, answers = await asyncio.gather(
            self._answers.get(
                ("lengths", source, end),
                now_seconds,
                lambda: _within(source, self._instants(source, queries.LENGTHS, long_seconds, end)),
                fresh_seconds=bin_seconds,
                failure_seconds=source.shared_seconds,
            ),
            asyncio.gather(*(self._newest(source, place, question, over, now_seconds) for question in newest)),
        )
        if isinstance(answers[0], QueryFailed):
            raise answers[0]
        older = await self._backfill.settled(place, settled, over.bin_seconds, source.interval_seconds)
        known, failed = dict(older.known), dict(older.failed)
        for question, answer in zip(newest, answers, strict=True):
            if isinstance(answer, QueryFailed):
                failed[question] = answer
            else:
                known[question] = answer
        state = (end, older.version, len(failed))
        kept = self._histories.get((source, key))
        if kept and kept[0] == state:
            return kept[1]
        asked = Asked(source.url, key, over, source.matching)
        if not any(key in grid for question, grid in known.items() if question.kind is Kind.RATES) and not failed:
            raise not_scraped(asked, over.bin_seconds)
        found = of_resource(signals, key)
        recent = lengths(found, long_seconds, at_least=0)
        past = past_loads(*tables(key, known), recent, end - long_seconds / 2, end - source.history_seconds)
        if not past and not failed:
            raise no_number(asked)
        history = LoadHistory(end, bin_seconds, past, recent, absent(found), tuple(_gaps(failed)))
        self._forget_histories(now_seconds)
        self._histories[source, key] = state, history
        return history

    def _forget_histories(self, now_seconds: float) -> None:
        """Those that nobody has asked for a while are large."""
        for asked, (_, history) in list(self._histories.items()):
            if now_seconds - history.end_seconds > HISTORY_SECONDS + asked[0].interval_seconds + asked[0].bin_seconds:
                del self._histories[asked]

    async def now(
        self,
        source: Source,
        key: InstanceKey,
        now_seconds: float,
        *,
        ttft_seconds: float,
        itl_seconds: float,
        gateways: Sequence[Gateway] = (),
    ) -> LoadNow:
        """Load of one resource at present, and the share of its requests that missed an objective.

        Raises:
            QueryFailed: Prometheus did not answer, reads no gateway of the resource, or answers what can not be.
        """
        timing = await self._timing(source, key, now_seconds)
        over = windows(timing, source.interval_seconds, source.bin_seconds)
        at = now_seconds - over.lag_seconds

        async def ask() -> Shared:
            await self.servers.ask(source.url, CLOCK_QUERY, clock_check(source.url, now_seconds))
            loads = (*queries.PRESENT, *queries.LENGTHS)
            present, latencies = await together(
                self._instants(source, loads, over.present_seconds, at),
                self._instants(source, queries.LATENCIES, over.late_seconds, at),
            )
            return {**present, **latencies}

        signals = await self._answers.get(
            ("now", source, over),
            now_seconds,
            lambda: _within(source, ask()),
            fresh_seconds=source.shared_seconds,
            failure_seconds=source.shared_seconds,
        )
        return load_now(
            Asked(source.url, key, over, source.matching),
            of_resource(signals, key),
            timing,
            gateways,
            now_seconds,
            ttft_seconds=ttft_seconds,
            itl_seconds=itl_seconds,
        )

    async def batch_waits(self, source: Source, key: InstanceKey, now_seconds: float) -> bool:
        """Whether batch requests are at the gateways of a resource, or were let in by them.

        Raises:
            QueryFailed: Prometheus did not answer.
        """
        answers = await self._answers.get(
            ("batch", source),
            now_seconds,
            lambda: _within(
                source, self._instants(source, (queries.BATCH_AT_GATEWAY,), source.window_seconds, now_seconds)
            ),
            fresh_seconds=source.shared_seconds,
            failure_seconds=source.shared_seconds,
        )
        return of_resource(answers, key)[queries.BATCH_AT_GATEWAY].value > 0

    async def _timing(self, source: Source, key: InstanceKey, now_seconds: float) -> Timing:
        """How often and how late the samples of a resource come."""
        matching = source.matching

        async def looked() -> dict[tuple[str, str, str], float]:
            pods = queries.newest_samples(matching, f"{queries.BY_POD}, {queries.POOL}")
            counts = queries.scrapes(duration(LOOK_BACK_SECONDS), matching)
            start = now_seconds - LOOK_BACK_SECONDS
            times, samples = await together(
                self.servers.range(source.url, pods, start, now_seconds, LOOK_STEP_SECONDS),
                self.servers.instant(source.url, counts, now_seconds),
            )
            return intervals(times, samples, now_seconds)

        def told(name: str, ask: Any, fresh_seconds: float) -> Coroutine[Any, Any, Any]:
            return self._answers.get(
                (name, source.url, matching, source.interval_seconds),
                now_seconds,
                lambda: _within(source, ask()),
                fresh_seconds=fresh_seconds,
                failure_seconds=source.shared_seconds,
            )

        async def newest() -> tuple[Mapping[tuple[str, ...], Answer], float]:
            text = queries.newest_samples(matching)
            return series_by_key(await self.servers.instant(source.url, text, now_seconds), RESOURCE), now_seconds

        interval_by_pool, (samples, asked_seconds) = await asyncio.gather(
            told("intervals", looked, TIMING_SECONDS), told("newest", newest, source.shared_seconds)
        )
        return timing_of(key, interval_by_pool, samples.get(key, ()), asked_seconds)

    async def _newest(
        self, source: Source, place: Place, question: Question, over: Windows, now_seconds: float
    ) -> Grid | QueryFailed:
        query = place.query(question, over.bin_seconds)
        try:
            return await self._answers.get(
                ("history", place, question, query),
                now_seconds,
                lambda: _within(source, ask(self.servers, source.url, query, question)),
                fresh_seconds=source.bin_seconds,
                failure_seconds=source.shared_seconds,
            )
        except QueryFailed as failure:
            return failure

    async def _instants(
        self, source: Source, signals: Iterable[Signal], window_seconds: float, at_seconds: float
    ) -> Shared:
        asked = tuple(signals)
        texts = [s.promql(duration(window_seconds), source.matching) for s in asked]
        answers = await together(*(self.servers.instant(source.url, text, at_seconds) for text in texts))
        return shared(dict(zip(asked, answers, strict=True)))


async def _within(source: Source, asked: Coroutine[Any, Any, Result]) -> Result:
    """An answer within the patience; what did not come by then is given up and keeps no thread from the next."""
    try:
        async with asyncio.timeout(source.patience_seconds):
            return await asked
    except TimeoutError:
        message = f"{source.url} did not answer within {source.patience_seconds:g} s; it is overloaded, or unreachable"
        raise QueryFailed(ConditionReason.QUERY_FAILED, message) from None


def _gaps(failed: Mapping[Question, QueryFailed]) -> Iterator[str]:
    """What is not known, oldest first, and why not the newest of it."""
    for kind in Kind:
        parts = {question.piece: failure for question, failure in failed.items() if question.kind is kind}
        if parts:
            spans = ", ".join(f"from {_time(first)} to {_time(last)}" for first, last in _joined(parts))
            yield f"no {kind} {spans}: {parts[max(parts, key=lambda one: one.last_seconds)]}"


def _joined(parts: Iterable[Piece]) -> Iterator[tuple[float, float]]:
    first = last = step = 0.0
    for part in sorted(parts, key=lambda one: one.first_seconds):
        if first and part.first_seconds - last <= max(step, part.step_seconds) * 1.5:
            last, step = part.last_seconds, part.step_seconds
            continue
        if first:
            yield first, last
        first, last, step = part.first_seconds, part.last_seconds, part.step_seconds
    if first:
        yield first, last


def _time(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="minutes")
