"""One reading of the load: what it is now, what it will be, and whether that can be believed.

Everything here can be had again from Prometheus: the forecaster is rebuilt from its history after a restart.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dopd.api.base import seconds
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import ConditionReason
from dopd.planning import Demand, Forecast
from dopd.reconcile.queue import Key
from dopd.reconcile.timing import STAGE_SECONDS, ReadingTimes
from dopd.telemetry import queries
from dopd.telemetry.lengths import Lengths
from dopd.telemetry.loads import LONG_WINDOW, LoadHistory, LoadReader, Source
from dopd.telemetry.present import ENOUGH_REQUESTS, Asked, Gateway, LoadNow, no_lengths
from dopd.telemetry.prometheus import QueryFailed
from dopd.telemetry.windows import NOT_KNOWN, Timing, windows
from dopd_forecasting import Forecaster, Series, Trust

RATE_UNIT = "requests/s"
MEDIAN = 0.5
LENGTHS_LIFE_SECONDS = 3600.0
"""Lengths of requests are taken for those of now for so long after the last of them finished; through a pause, say."""


@dataclass(frozen=True)
class Outlook:
    """The load at the lead time of each role.

    Attributes:
        forecast: demand to plan for, at the quantile that the resource asks for.
        median: arrival rate that is as likely to be exceeded as not, requests/s.
        quantile: of `forecast`.
        history_end_seconds: end of the history that it was made from, seconds since the epoch.
    """

    forecast: Forecast
    median: Mapping[Role, float]
    quantile: float
    history_end_seconds: float


@dataclass(frozen=True)
class Reading:
    """What one reading gave.

    Attributes:
        at_seconds: when it was taken, seconds since the epoch.
        demand: load now; None when it could not be read.
        late_share: share of recent requests that missed an objective; None while unknown.
        outlook: the forecast; None when there is none to be trusted.
        trust: verdict on the forecaster; None when there is no history.
        promised: arrival rate that an earlier forecast gave for now, by role; what it is to be compared with.
        failure: why the load could not be read; None when it could.
        window_seconds: over which the demand was measured; None when it could not be read.
        timing: how often and how late Prometheus gets the samples.
        not_streamed_per_second: answers that tell nothing of lateness; None while that is not known.
        steady_seconds: when it was taken, on a clock that no step of the wall clock moves.
        remarks: what is to be said of a load that is known: gaps of the history, lateness that is not known.
        prompt_tokens: mean of the prompt tokens that the prefix cache does not hold, over the last bins: that of the
            demand swings with the few requests of a short window. None when it is not known.
    """

    at_seconds: float
    demand: Demand | None = None
    late_share: float | None = None
    outlook: Outlook | None = None
    trust: Trust | None = None
    promised: Mapping[Role, float] = field(default_factory=dict)
    failure: QueryFailed | None = None
    window_seconds: float | None = None
    prompt_tokens: float | None = None
    timing: Timing = NOT_KNOWN
    not_streamed_per_second: float | None = None
    remarks: tuple[str, ...] = ()
    steady_seconds: float | None = None


class Promises:
    """Forecasts that were made, until their time has come."""

    def __init__(self) -> None:
        self._made: dict[Role, deque[tuple[float, float]]] = {role: deque(maxlen=1000) for role in Role}

    def add(self, role: Role, due_seconds: float, rate: float) -> None:
        """Note a rate that was forecast for a time."""
        self._made[role].append((due_seconds, rate))

    def due(self, now_seconds: float) -> dict[Role, float]:
        """The newest rate of each role whose time has come."""
        found = {}
        for role, made in self._made.items():
            while len(made) > 1 and made[1][0] <= now_seconds:
                made.popleft()
            if made and made[0][0] <= now_seconds:
                found[role] = made[0][1]
        return found


class LoadWatcher:
    """Reads the load of one resource, again and again."""

    def __init__(self, key: Key, loads: LoadReader) -> None:
        self._key, self._loads = key, loads
        self._forecaster = Forecaster()
        self._bin_seconds = 0.0
        self._gaps = 0
        self._lengths: Lengths | None = None
        self._lengths_seconds = 0.0
        self._newest_bin: tuple[float, float] | None = None
        self._times = ReadingTimes()
        self._promises = Promises()

    async def read(
        self,
        spec: DisaggregatedInferenceSpec,
        url: str,
        leads: Mapping[Role, float],
        now_seconds: float,
        gateways: Sequence[Gateway] = (),
        labels: Mapping[str, str] | None = None,
        steady_seconds: float | None = None,
    ) -> Reading:
        """Read Prometheus and forecast.

        Args:
            spec: of the resource; has spec.scaling.
            url: of Prometheus; empty when nobody named one.
            leads: seconds from a start to a worker that serves, by role.
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
        promised = self._promises.due(steady)
        try:
            with STAGE_SECONDS.labels("telemetry").time():
                history, now = await self._read(source, spec, gateways, now_seconds)
            stepped = self._times.add(now_seconds, steady)
            lengths = self._known_lengths(source, history, now, steady)
        except QueryFailed as failure:
            return Reading(now_seconds, promised=promised, failure=failure, steady_seconds=steady)
        demand = demand_at(now.requests_per_second, lengths)
        usual = history.lengths or lengths
        # What one plan misses waits for the next, which adds to the time that a start takes.
        horizons = {role: leads[role] + interval for role in Role}
        # Off the event loop: a fit takes longer than the Lease may wait.
        with STAGE_SECONDS.labels("forecast").time():
            outlook, trust = await asyncio.to_thread(
                self._forecast, history, source, horizons, forecast.quantile, now_seconds, steady
            )
        return Reading(
            now_seconds,
            demand,
            now.late_share,
            outlook,
            trust,
            promised,
            window_seconds=now.window_seconds or source.window_seconds,
            prompt_tokens=usual.input_tokens * usual.uncached_share if usual else None,
            timing=now.timing,
            not_streamed_per_second=now.not_streamed_per_second,
            remarks=now.remarks + history.gaps + stepped,
            steady_seconds=steady,
        )

    async def _read(
        self, source: Source, spec: DisaggregatedInferenceSpec, gateways: Sequence[Gateway], now_seconds: float
    ) -> tuple[LoadHistory, LoadNow]:
        if not source.url:
            raise QueryFailed(
                ConditionReason.NO_PROMETHEUS,
                "no Prometheus: set spec.telemetry.prometheusURL, or start the operator with one",
            )
        slo = spec.slo
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

    def _forecast(
        self,
        history: LoadHistory,
        source: Source,
        horizons: Mapping[Role, float],
        quantile: float,
        now_seconds: float,
        steady_seconds: float,
    ) -> tuple[Outlook | None, Trust | None]:
        if not history.rate:
            return None, None
        series = Series.from_samples(
            [end - source.bin_seconds / 2 for end, _ in history.rate],
            [rate for _, rate in history.rate],
            bin_seconds=source.bin_seconds,
            unit=RATE_UNIT,
            end=history.end_seconds,
        )
        # A gap that can be read now teaches nothing but at the start.
        if source.bin_seconds == self._bin_seconds and len(history.gaps) >= self._gaps:
            self._forecaster.update(series)
        else:
            self._forecaster.fit(series)
            self._bin_seconds, self._gaps = source.bin_seconds, len(history.gaps)
        trust = self._forecaster.trust(self._judged_at(history, now_seconds, steady_seconds))
        if not trust.trusted or self._lengths is None:
            return None, trust
        rates = self._forecaster.predict([horizons[role] for role in Role], [MEDIAN, quantile]).quantiles
        median = {role: float(rate) for role, rate in zip(Role, rates[:, 0], strict=True)}
        planned = [demand_at(float(rate), self._lengths) for rate in rates[:, 1]]
        for role, rate in median.items():
            self._promises.add(role, steady_seconds + horizons[role], rate)
        return Outlook(Forecast(*planned), median, quantile, history.end_seconds), trust

    def _judged_at(self, history: LoadHistory, now_seconds: float, steady_seconds: float) -> float:
        """As of when trust is asked for: the newest bin grows older, wherever the wall clock is set."""
        newest = history.rate[-1][0]
        came = steady_seconds - max(0.0, now_seconds - newest)
        if self._newest_bin is None or newest > self._newest_bin[0]:
            self._newest_bin = (newest, came)
        newest, came = self._newest_bin
        return max(now_seconds, newest + steady_seconds - came)


def demand_at(rate: float, lengths: Lengths | None) -> Demand:
    """Requests of known lengths at a rate; without any finished request there is nothing to size for but the rate."""
    if lengths is None:
        return Demand(rate, 0.0, 0.0, 0.0)
    return Demand(
        requests_per_second=rate,
        input_tokens=lengths.input_tokens,
        input_tokens_second_moment=lengths.input_tokens_second_moment,
        output_tokens=lengths.output_tokens,
        output_tokens_second_moment=lengths.output_tokens_second_moment,
        uncached_share=lengths.uncached_share,
    )
