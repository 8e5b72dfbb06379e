"""One reading of the load: what it is now, and what it was.

Everything here can be had again from Prometheus: the autoscaler is taught its history after a restart.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dopd.api.base import seconds
from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.autoscaler import PastLoad
from dopd.planning import Demand
from dopd.reconcile.queue import Key
from dopd.reconcile.timing import STAGE_SECONDS, ReadingTimes
from dopd.telemetry import queries
from dopd.telemetry.lengths import Lengths, demand_at
from dopd.telemetry.loads import LONG_WINDOW, LoadHistory, LoadReader, Source
from dopd.telemetry.present import ENOUGH_REQUESTS, Asked, Gateway, LoadNow, no_lengths
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.windows import NOT_KNOWN, Timing, windows

LENGTHS_LIFE_SECONDS = 3600.0
"""Lengths of requests are taken for those of now for so long after the last of them finished; through a pause, say."""


@dataclass(frozen=True)
class Reading:
    """What one reading gave.

    Attributes:
        at_seconds: when it was taken, seconds since the epoch.
        demand: load now; None when it could not be read.
        late_share: share of recent requests that missed an objective; None while unknown.
        failure: why the load could not be read; None when it could.
        window_seconds: over which the demand was measured; None when it could not be read.
        timing: how often and how late Prometheus gets the samples.
        not_streamed_per_second: answers that tell nothing of lateness; None while that is not known.
        steady_seconds: when it was taken, on a clock that no step of the wall clock moves.
        remarks: what is to be said of a load that is known: gaps of the history, lateness that is not known.
        prompt_tokens: mean of the prompt tokens that the prefix cache does not hold, over the last bins: that of the
            demand swings with the few requests of a short window. None when it is not known.
        past: the load of before, bin by bin.
        batch_waits: batch requests wait or are served, and may add workers (spec.scaling.batchShare).
    """

    at_seconds: float
    demand: Demand | None = None
    late_share: float | None = None
    failure: QueryFailed | None = None
    window_seconds: float | None = None
    prompt_tokens: float | None = None
    timing: Timing = NOT_KNOWN
    not_streamed_per_second: float | None = None
    remarks: tuple[str, ...] = ()
    steady_seconds: float | None = None
    past: tuple[PastLoad, ...] = ()
    batch_waits: bool = False


class LoadWatcher:
    """Reads the load of one resource, again and again."""

    def __init__(self, key: Key, loads: LoadReader) -> None:
        self._key, self._loads = key, loads
        self._lengths: Lengths | None = None
        self._lengths_seconds = 0.0
        self._times = ReadingTimes()

    async def read(
        self,
        spec: DisaggregatedInferenceSpec,
        url: str,
        now_seconds: float,
        gateways: Sequence[Gateway] = (),
        labels: Mapping[str, str] | None = None,
        steady_seconds: float | None = None,
    ) -> Reading:
        """Read Prometheus.

        Args:
            spec: of the resource; has spec.scaling.
            url: of Prometheus; empty when nobody named one.
            now_seconds: seconds since the epoch.
            gateways: that serve, as Kubernetes knows them.
            labels: that the series of this Prometheus must carry; those of the resource come on top.
            steady_seconds: the same time on a clock that no step of the wall clock moves; None where there is no other.
        """
        assert spec.scaling is not None
        forecast, interval = spec.scaling.forecast, seconds(spec.scaling.behavior.interval)
        matching = queries.matchers({**(labels or {}), **spec.telemetry.labels})
        far_url = spec.telemetry.history_url or ""
        source = Source(url, seconds(forecast.bin), forecast.history_seconds, interval, matching, far_url)
        steady = now_seconds if steady_seconds is None else steady_seconds
        try:
            with STAGE_SECONDS.labels("telemetry").time():
                history, now, batch_waits = await self._read(source, spec, gateways, now_seconds)
            stepped = self._times.add(now_seconds, steady)
            lengths = self._known_lengths(source, history, now, steady)
        except QueryFailed as failure:
            return Reading(now_seconds, failure=failure, steady_seconds=steady)
        demand = demand_at(now.requests_per_second, lengths)
        usual = history.lengths or lengths
        return Reading(
            now_seconds,
            demand,
            now.late_share,
            window_seconds=now.window_seconds or source.window_seconds,
            prompt_tokens=usual.input_tokens * usual.uncached_share if usual else None,
            timing=now.timing,
            not_streamed_per_second=now.not_streamed_per_second,
            remarks=now.remarks + history.gaps + stepped,
            steady_seconds=steady,
            past=history.past,
            batch_waits=batch_waits,
        )

    async def _read(
        self, source: Source, spec: DisaggregatedInferenceSpec, gateways: Sequence[Gateway], now_seconds: float
    ) -> tuple[LoadHistory, LoadNow, bool]:
        if not source.url:
            raise QueryFailed(
                ConditionReason.NO_PROMETHEUS,
                "no Prometheus: set spec.telemetry.prometheusURL, or start the operator with one",
            )
        slo, scaling = spec.slo, spec.scaling
        may_add = spec.scheduling.batch is not None and scaling is not None and scaling.batch_share > 0
        return await asyncio.gather(
            self._loads.history(source, self._key, now_seconds),
            self._loads.now(
                source,
                self._key,
                now_seconds,
                ttft_seconds=slo.ttft_seconds,
                itl_seconds=slo.itl_seconds,
                gateways=gateways,
            ),
            self._loads.batch_waits(source, self._key, now_seconds) if may_add else _never(),
        )

    def _known_lengths(self, source: Source, history: LoadHistory, now: LoadNow, now_seconds: float) -> Lengths | None:
        """Lengths of requests; None while none arrive.

        They outlive a pause of the traffic, since none is finished then; but not for ever, and not while requests
        arrive that nothing tells of.

        Raises:
            QueryFailed: requests arrive, and nothing tells how long they are.
        """
        fresh = now.lengths or history.lengths
        if fresh is not None:
            self._lengths, self._lengths_seconds = fresh, now_seconds
        rate = now.requests_per_second
        if fresh is not None or rate == 0:
            return self._lengths
        newest = [load for end, load in history.rate if end > history.end_seconds - LONG_WINDOW * source.bin_seconds]
        silent = history.absent is not None and sum(newest) * source.bin_seconds >= ENOUGH_REQUESTS
        old = not 0 <= now_seconds - self._lengths_seconds <= LENGTHS_LIFE_SECONDS
        if self._lengths is None or silent or old:
            over = windows(now.timing, source.interval_seconds, source.bin_seconds)
            asked = Asked(source.url, self._key, over, source.matching)
            raise no_lengths(asked, rate, now.absent or history.absent)
        return self._lengths


async def _never() -> bool:
    return False
