"""The load of each resource, read from Prometheus: its history for the forecast, and the present for the plan.

One query per signal serves all resources that share a Prometheus and a window. A reading has three outcomes: a
value, a healthy zero (a gateway is scraped and nothing arrives), and `QueryFailed`. Nothing that is not a finite number
gets past this module.
"""

import asyncio
import math
from collections.abc import Coroutine, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from dopd.api.status import ConditionReason
from dopd.autoscaler.past import PastLoad
from dopd.telemetry import queries
from dopd.telemetry.clock import CLOCK_QUERY, clock_check
from dopd.telemetry.connection import Answer
from dopd.telemetry.history import Piece, Points, fine_points, pieces
from dopd.telemetry.lengths import Lengths, absent, lengths
from dopd.telemetry.present import Asked, Gateway, LoadNow, load_now, no_number, not_scraped
from dopd.telemetry.prometheus import Found as Result
from dopd.telemetry.prometheus import QueryFailed, Servers, SharedAnswers, duration, series_by_key, together
from dopd.telemetry.queries import Signal
from dopd.telemetry.signals import of_resource
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
TIMING_SECONDS, SETTLED_SECONDS = 60.0, 3600.0
"""How old may be what is known of scrape intervals, and of a piece of the history that changes no more."""

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
    """

    url: str
    bin_seconds: float
    history_seconds: float
    interval_seconds: float
    matching: str = ""

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
        rate: (end of bin in seconds since the epoch, requests per second); a bin that is not known is absent.
        lengths: of recent requests; None while none has finished.
        absent: the first signal that lengths need and that has had no series in the long window; None if all have.
        gaps: parts that could not be read, and why.
    """

    end_seconds: float
    rate: tuple[tuple[float, float], ...]
    lengths: Lengths | None
    absent: Signal | None = None
    gaps: tuple[str, ...] = ()
    past: tuple[PastLoad, ...] = ()


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
        timing = await self._timing(source, key, now_seconds)
        over = windows(timing, source.interval_seconds, source.bin_seconds)
        bin_seconds = source.bin_seconds
        end = math.floor((now_seconds - over.lag_seconds) / bin_seconds) * bin_seconds
        parts = pieces(end, source.history_seconds, bin_seconds)
        long_seconds = bin_seconds * LONG_WINDOW
        answers, signals = await asyncio.gather(
            asyncio.gather(*(self._piece(source, over, part, now_seconds) for part in parts)),
            self._answers.get(
                ("lengths", source, end),
                now_seconds,
                lambda: _within(source, self._instants(source, queries.LENGTHS, long_seconds, end)),
                fresh_seconds=bin_seconds,
                failure_seconds=source.shared_seconds,
            ),
        )
        failed = [answer for answer in answers if isinstance(answer, QueryFailed)]
        if len(failed) == len(answers):
            raise failed[0]
        asked = Asked(source.url, key, over, source.matching)
        points: Points = []
        told = False
        for part, answer in zip(parts, answers, strict=True):
            for one in [] if isinstance(answer, QueryFailed) else _of_key(answer, key):
                points += fine_points(part, one["values"], bin_seconds)
                told = told or bool(one["values"])
        if not points and not failed:
            raise no_number(asked) if told else not_scraped(asked, over.bin_seconds)
        found = of_resource(signals, key)
        start = end - source.history_seconds - bin_seconds / 2
        return LoadHistory(
            end_seconds=end,
            rate=tuple(point for point in points if point[0] > start),
            lengths=lengths(found, long_seconds, at_least=0),
            absent=absent(found),
            gaps=tuple(
                f"no history from {_time(part.first_seconds)} to {_time(part.last_seconds)}: {answer}"
                for part, answer in zip(parts, answers, strict=True)
                if isinstance(answer, QueryFailed)
            ),
        )

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

        async def ask() -> dict[Signal, Answer]:
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

        def shared(name: str, ask: Any, fresh_seconds: float) -> Coroutine[Any, Any, Any]:
            return self._answers.get(
                (name, source.url, matching, source.interval_seconds),
                now_seconds,
                lambda: _within(source, ask()),
                fresh_seconds=fresh_seconds,
                failure_seconds=source.shared_seconds,
            )

        async def newest() -> tuple[Answer, float]:
            text = queries.newest_samples(matching)
            return await self.servers.instant(source.url, text, now_seconds), now_seconds

        interval_by_pool, (samples, asked_seconds) = await asyncio.gather(
            shared("intervals", looked, TIMING_SECONDS), shared("newest", newest, source.shared_seconds)
        )
        return timing_of(key, interval_by_pool, samples, asked_seconds)

    async def _piece(self, source: Source, over: Windows, part: Piece, now_seconds: float) -> Answer | QueryFailed:
        window = max(over.bin_seconds, part.step_seconds)
        query = queries.ARRIVALS.promql(duration(window), source.matching)

        async def ask() -> Answer:
            span = part.first_seconds, part.last_seconds
            return await self.servers.range(source.url, query, *span, part.step_seconds)

        try:
            return await self._answers.get(
                ("history", source, window, part),
                now_seconds,
                lambda: _within(source, ask()),
                fresh_seconds=SETTLED_SECONDS if part.settled else source.bin_seconds,
                failure_seconds=source.shared_seconds,
            )
        except QueryFailed as failure:
            return failure

    async def _instants(
        self, source: Source, signals: Iterable[Signal], window_seconds: float, at_seconds: float
    ) -> dict[Signal, Answer]:
        asked = tuple(signals)
        texts = [s.promql(duration(window_seconds), source.matching) for s in asked]
        answers = await together(*(self.servers.instant(source.url, text, at_seconds) for text in texts))
        return dict(zip(asked, answers, strict=True))


async def _within(source: Source, asked: Coroutine[Any, Any, Result]) -> Result:
    """An answer within the patience; what did not come by then is given up and keeps no thread from the next."""
    try:
        async with asyncio.timeout(source.patience_seconds):
            return await asked
    except TimeoutError:
        message = f"{source.url} did not answer within {source.patience_seconds:g} s; it is overloaded, or unreachable"
        raise QueryFailed(ConditionReason.QUERY_FAILED, message) from None


def _of_key(answer: Answer, key: InstanceKey) -> Answer:
    return series_by_key(answer, ("namespace", queries.INSTANCE)).get(key, [])


def _time(epoch_seconds: float) -> str:
    return datetime.fromtimestamp(epoch_seconds, UTC).isoformat(timespec="minutes")
