"""The loop of one resource that scales: observe, forecast, plan. What it decides is acted on elsewhere.

It keeps nothing that can not be had again: the forecaster is rebuilt from Prometheus, the last decision from
the workers that are there.
"""

import asyncio
from dataclasses import dataclass, field

from dopd.api.base import seconds
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.perf import EngineModel
from dopd.planning import Decision, Demand, Forecast, Observation, Policy, Workers, plan
from dopd.reconcile.queue import Key
from dopd.telemetry.prometheus import Lengths, LoadHistory, LoadReader, QueryFailed
from dopd_forecasting import Forecaster, Series, Trust

RATE_UNIT = "requests/s"


@dataclass(frozen=True)
class Outlook:
    """What one look at the load gave.

    Attributes:
        decision: the plan; None when there is no profile to plan with.
        demand: load now; None when telemetry failed.
        forecast: load at the lead time of each role; None when it is not to be trusted.
        trust: verdict on the forecaster; None when there is no history.
        failure: the query that failed; None when all was answered.
        profile_problem: why there is no profile; "" when there is one.
    """

    decision: Decision | None
    demand: Demand | None = None
    forecast: Forecast | None = None
    trust: Trust | None = None
    failure: QueryFailed | None = None
    profile_problem: str = ""


@dataclass
class ScalingLoop:
    """Plans for one resource, again and again.

    Attributes:
        outlook: the latest look; None before the first.
        due_seconds: when the next look is due, seconds since the epoch.
    """

    key: Key
    loads: LoadReader
    outlook: Outlook | None = None
    due_seconds: float = 0.0
    _forecaster: Forecaster = field(default_factory=Forecaster)
    _lengths: Lengths | None = None
    _bin_seconds: float = 0.0

    async def look(
        self,
        spec: DisaggregatedInferenceSpec,
        model: EngineModel | str,
        prometheus_url: str,
        workers: dict[Role, Workers],
        leads: dict[Role, float],
        now_seconds: float,
    ) -> Outlook:
        """Observe, forecast and plan when that is due; else the latest outlook.

        Args:
            spec: of the resource; has spec.scaling.
            model: performance of one engine, or why it is not known.
            prometheus_url: where the load is read; empty when nobody said.
            workers: of each role now.
            leads: seconds from a decision to a worker that serves, by role.
            now_seconds: seconds since the epoch.
        """
        if self.outlook and now_seconds < self.due_seconds:
            return self.outlook
        policy = Policy.from_spec(spec)
        self.due_seconds = now_seconds + policy.interval_seconds
        if isinstance(model, str):
            self.outlook = Outlook(None, profile_problem=model)
            return self.outlook
        demand = forecast = trust = failure = None
        try:
            history = await self._read(spec, prometheus_url, now_seconds)
            demand = self._demand(history)
            # Off the event loop: a fit takes longer than the Lease may wait.
            forecast, trust = await asyncio.to_thread(self._forecast, history, spec, leads, demand, now_seconds)
        except QueryFailed as error:
            failure = error
        observation = Observation(demand, workers[Role.PREFILL], workers[Role.DECODE])
        previous = self.outlook.decision if self.outlook else None
        decision = plan(observation, forecast, model, policy, previous, now_seconds)
        self.due_seconds = now_seconds + decision.next_look_seconds
        self.outlook = Outlook(decision, demand, forecast, trust, failure)
        return self.outlook

    async def _read(self, spec: DisaggregatedInferenceSpec, url: str, now_seconds: float) -> LoadHistory:
        assert spec.scaling is not None
        if not url:
            raise QueryFailed("", "no Prometheus: set spec.telemetry.prometheusURL, or start the operator with one")
        settings = spec.scaling.forecast
        return await self.loads.read(
            url,
            self.key,
            bin_seconds=seconds(settings.bin),
            history_seconds=seconds(settings.history),
            now_seconds=now_seconds,
        )

    def _demand(self, history: LoadHistory) -> Demand | None:
        """Load now: the newest bin. Lengths outlive a pause of the traffic, since none is finished then."""
        self._lengths = history.lengths or self._lengths
        if not history.rate:
            return None
        return demand_at(history.rate[-1][1], self._lengths)

    def _forecast(
        self,
        history: LoadHistory,
        spec: DisaggregatedInferenceSpec,
        leads: dict[Role, float],
        demand: Demand | None,
        now_seconds: float,
    ) -> tuple[Forecast | None, Trust | None]:
        assert spec.scaling is not None
        settings = spec.scaling.forecast
        bin_seconds = seconds(settings.bin)
        if not history.rate or demand is None:
            return None, None
        series = Series.from_samples(
            [end - bin_seconds / 2 for end, _ in history.rate],
            [rate for _, rate in history.rate],
            bin_seconds=bin_seconds,
            unit=RATE_UNIT,
            end=history.end_seconds,
        )
        if bin_seconds == self._bin_seconds:
            self._forecaster.update(series)
        else:
            self._forecaster.fit(series)
            self._bin_seconds = bin_seconds
        trust = self._forecaster.trust(now_seconds)
        if not trust.trusted:
            return None, trust
        # What this plan misses waits for the next one, which adds to the time that a start takes.
        horizons = [leads[role] + seconds(spec.scaling.behavior.interval) for role in Role]
        rates = self._forecaster.predict(horizons, [settings.quantile]).quantiles[:, 0]
        prefill, decode = (demand_at(float(rate), self._lengths) for rate in rates)
        return Forecast(prefill, decode), trust


def demand_at(rate: float, lengths: Lengths | None) -> Demand:
    """Requests of known lengths at a rate; without any finished request there is nothing to size for but the rate."""
    if lengths is None:
        return Demand(rate, 0.0, 0.0, 0.0)
    return Demand(
        requests_per_second=rate,
        input_tokens=lengths.input_tokens,
        input_tokens_second_moment=lengths.input_tokens_second_moment,
        output_tokens=lengths.output_tokens,
        uncached_share=lengths.uncached_share,
    )
