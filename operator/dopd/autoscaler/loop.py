"""The one loop: `observe` takes in the load now and then, `decide` names a target at every look. Pure.

`observe` is slow (it may fit forecasts) and comes with every reading of the load; `decide` is fast and comes with every
look at the workers, since what waits is known at each. What was needed lately and how much is dared is kept here; all
but the second can be had again from the history of the load, and that is handed in at a restart.

For each role the workers are the most that one of these needs: the greatest load until a decision of now takes effect
(`peak`, at the quantile of the `knob`), and what waits in the engines (`planning.backlog`). Growth is immediate. A
worker is given up when nothing of the last window needed it (`stabilization`). Bounds come last.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dopd.api.events import ForecastEvent
from dopd.api.names import Role
from dopd.autoscaler import explain
from dopd.autoscaler.calibration import Calibration
from dopd.autoscaler.decision import Decision, Reason
from dopd.autoscaler.foreseen import Forecasts
from dopd.autoscaler.knob import Knob
from dopd.autoscaler.lengths import SlowLengths
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.past import AROUND_BINS, PastLoad, believable
from dopd.autoscaler.peak import PeakForecast
from dopd.autoscaler.promises import Promises
from dopd.autoscaler.queue_trend import QueueTrend
from dopd.autoscaler.sample import Sample
from dopd.autoscaler.stabilization import Stabilization, windows
from dopd.autoscaler.tuning import Tuning
from dopd.autoscaler.work import Work
from dopd.perf import EngineModel
from dopd.planning.backlog import decode_for_backlog, prefill_for_backlog
from dopd.planning.bounds import NoRoomError, Pair, apply_bounds
from dopd.planning.demand import Demand
from dopd.planning.events import factor_ahead, factors_at
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives, Policy
from dopd.planning.queueing import PrefillLoad
from dopd.planning.sizing import Load, Size, joined, size
from dopd.planning.workers import Workers
from dopd_forecasting import Forecaster, Trust

RECENT_BINS = 240
"""Bins of the past whose lengths still count."""
DEVIATIONS_KEPT = 2.0
"""A worker is given up only if the rest would do for a load that is greater by so many deviations of its own noise:
else a load that stands still next to what a worker carries starts one for each wave."""
MANY_BINS = 30
"""So many bins of the past that come late (a far piece took its time) make the forecast begin anew with all of it."""


@dataclass(frozen=True)
class _Seen:
    """What the newest sample told."""

    demand: Demand
    outlook: PerRole[Outlook]
    trust: Trust | None
    miss: float

    @property
    def planned_for(self) -> PerRole[Demand]:
        """The peak of each role, as requests of the lengths of now."""
        return self.outlook.map(lambda role: self.demand.at(role.requests_per_second))


@dataclass(frozen=True)
class _Sized:
    """The workers for some loads, kept until one of these changes."""

    asked: tuple[_Seen, EngineModel, Policy]
    now: PerRole[Size]
    peak: PerRole[Size]
    kept: PerRole[Size]


class Autoscaler:
    """Plans for one resource, again and again.

    Args:
        tuning: constants.
        miss: the knob's share, where it is known from before a restart.
        forecaster: makes what forecasts the load of a role; None to do without.

    Attributes:
        calibration: how the engines compare with their profile.
        last: the last decision; None before the first.
    """

    def __init__(
        self,
        tuning: Tuning | None = None,
        *,
        miss: float | None = None,
        forecaster: Callable[[], Forecasts] | None = Forecaster,
    ) -> None:
        self._tuning = tuning or Tuning()
        self._knob = Knob(self._tuning, miss)
        self._forecaster = forecaster
        self._stabilization = Stabilization(self._tuning)
        self._queue = QueueTrend()
        self._work: Work | None = None
        self._peaks: PerRole[PeakForecast] | None = None
        self._unit: tuple[EngineModel, Objectives] | None = None
        self._learnt_until_seconds, self._learnt_bins = float("-inf"), 0
        self._seen: _Seen | None = None
        self._lengths = SlowLengths(self._tuning.level_seconds)
        self._at_seconds: float | None = None
        self._blind_since_seconds: float | None = None
        self._sized: _Sized | None = None
        self._promises = PerRole(Promises(), Promises())
        self.calibration = Calibration()
        self.last: Decision | None = None

    @property
    def miss(self) -> float | None:
        """Share of the leads in which the load may exceed what is held; None before the load was known."""
        return self._knob.miss

    @property
    def demand(self) -> Demand | None:
        """The load of now; None while it is not known."""
        return self._seen.demand if self._seen else None

    @property
    def trust(self) -> Trust | None:
        """Verdict on the forecaster of the role that is trusted less; None without a history to forecast from."""
        return self._seen.trust if self._seen else None

    @property
    def outlook(self) -> PerRole[Outlook] | None:
        """What is expected of each role; None while the load is not known."""
        return self._seen.outlook if self._seen else None

    def observe(
        self,
        sample: Sample,
        model: EngineModel,
        policy: Policy,
        past: Sequence[PastLoad] = (),
        past_offset_seconds: float = 0.0,
    ) -> None:
        """Take in the load.

        Args:
            sample: the load now.
            model: performance of one engine, with the start-up times that were measured.
            policy: objectives and bounds.
            past: the load of before, oldest first; bins that were handed in before are passed over.
            past_offset_seconds: what is added to its times to get those of the clock of `sample`.
        """
        self.calibration.take(sample.engines, sample.demand, model)
        if sample.demand is None:
            self._seen = None
            return
        engine = self.calibration.corrected(model)
        if self._work is None or (self._work.model, self._work.objectives) != (engine, policy.objectives):
            self._work = Work(engine, policy.objectives)
        peaks = self._forecasts(model, policy, past, past_offset_seconds, self._work)
        rate, told = sample.demand.requests_per_second, sample.demand
        since = sample.window_seconds if self._at_seconds is None else sample.at_seconds - self._at_seconds
        self._lengths.add(sample.at_seconds, min(max(0.0, since), sample.window_seconds), told)
        demand = self._lengths.at(rate)
        one = self._work.of_request(told if told.input_tokens else demand)
        usual = self._work.of_request(demand)
        leads, epoch_seconds = _leads(model, policy), sample.at_seconds - past_offset_seconds
        event_now = factor_ahead(policy.events, epoch_seconds, epoch_seconds)
        since = 0.0 if self._at_seconds is None else max(0.0, sample.at_seconds - self._at_seconds)
        miss = self._knob.observe(policy, sample.late_share, since, max(leads))
        self._at_seconds = sample.at_seconds

        def of(role: Role) -> Outlook:
            now_seconds, lead_seconds, forecast = sample.at_seconds, leads[role], peaks[role]
            busy, window_seconds = rate * one[role].busy_workers, sample.window_seconds
            noise_share = one[role].noise_share(rate * window_seconds)
            forecast.observe(now_seconds, busy / event_now, noise_share, window_seconds)
            event = factor_ahead(policy.events, epoch_seconds, epoch_seconds + lead_seconds)
            peak, expected = event * forecast.quantile(miss), forecast.expected
            if expected is not None:
                expected *= event
            promised = self._promises[role].due(now_seconds)
            if expected is not None:
                self._promises[role].add(now_seconds + lead_seconds, expected)
            now, deviation = event_now * forecast.now, event_now * forecast.deviation
            per_request, leader = usual[role].busy_workers, forecast.leader(miss)
            return Outlook(lead_seconds, now, peak, per_request, expected, promised, deviation, leader)

        outlook = PerRole.of(of)
        verdicts = [trust for peak in peaks if (trust := peak.trust(sample.at_seconds)) is not None]
        trust = min(verdicts, key=lambda trust: trust.trusted, default=None)
        self._seen = _Seen(demand, outlook, trust, miss)  # at once: a decision may be made meanwhile

    def decide(self, workers: PerRole[Workers], now_seconds: float, model: EngineModel, policy: Policy) -> Decision:
        """Name the workers that there should be, and remember that.

        Args:
            workers: of each role now.
            now_seconds: time, on the clock of the samples.
            model: performance of one engine, with the start-up times that were measured.
            policy: objectives and bounds.
        """
        decision = self.preview(workers, now_seconds, model, policy)
        if decision.weighed is None:
            self._stabilization.begin_anew()
            if self._blind_since_seconds is None:
                self._blind_since_seconds = now_seconds
        else:
            self._blind_since_seconds = None
            longest = max(windows(model, policy, self._tuning))
            kept = (decision.weighed.prefill.kept, decision.weighed.decode.kept)
            self._stabilization.note(now_seconds, kept, longest)
        self.last = decision
        return decision

    def preview(self, workers: PerRole[Workers], now_seconds: float, model: EngineModel, policy: Policy) -> Decision:
        """What `decide` would say; only how the queue grows is remembered."""
        growth = self._queue.add(now_seconds, workers.prefill.waiting_tokens)
        workers = replace(workers, prefill=replace(workers.prefill, waiting_tokens_growth=growth))
        before = self.last.pair if self.last else (workers.prefill.supply, workers.decode.supply)
        engine = self.calibration.corrected(model)
        seen = self._seen
        if seen is None:
            return self._blind(workers, before, now_seconds, engine, policy)
        sized = self._sizes(seen, engine, policy)
        prompts, answers = sized.now.prefill.load.prefill, sized.peak.decode.load.decode
        backlog = PerRole(
            prefill_for_backlog(workers.prefill, seen.demand, prompts, engine, policy),
            decode_for_backlog(workers.decode, answers, policy),
        )
        by_now = (sized.now.prefill.prefill, sized.now.decode.decode)
        # A pair shares what may be late between its roles, so that a greater load may ask for fewer of one.
        by_demand = (max(by_now[0], sized.peak.prefill.prefill), max(by_now[1], sized.peak.decode.decode))
        needed = (max(by_demand[0], backlog.prefill), max(by_demand[1], backlog.decode))
        kept = (max(needed[0], sized.kept.prefill.prefill), max(needed[1], sized.kept.decode.decode))
        held = self._stabilization.held(kept, before, now_seconds, windows(model, policy, self._tuning))
        wanted = (max(needed[0], held[0]), max(needed[1], held[1]))
        try:
            target, hard = apply_bounds(wanted, before, policy, by_now)
            no_room = ""
        except NoRoomError as error:
            target, hard, no_room = before, (), str(error)
        leaders = [role.leader for role in seen.outlook]
        weighed = PerRole(
            explain.weighed(by_now[0], by_demand[0], backlog.prefill, kept[0], held[0], target[0], leaders[0]),
            explain.weighed(by_now[1], by_demand[1], backlog.decode, kept[1], held[1], target[1], leaders[1]),
        )
        backlogged, grows = needed != by_demand, any(n > b for n, b in zip(needed, before, strict=True))
        soft = explain.soft_bounds(needed, held)
        expected = joined(sized.peak.prefill.load, sized.peak.decode.load).expect(*target) if min(target) else None
        bit = soft + hard
        told = explain.Told(weighed, sized.peak, seen.outlook, workers, target, policy, bit, seen.miss, expected)
        return Decision(
            prefill=target[0],
            decode=target[1],
            reason=Reason.NO_ROOM if no_room else explain.reason(before, target, weighed, policy),
            message=no_room or explain.message(told),
            limited_by=hard if no_room else bit,
            weighed=weighed,
            planned_for=seen.planned_for,
            expected=expected,
            infeasible=sized.peak.prefill.infeasible or sized.peak.decode.infeasible,
            gpus=policy.gpus(*target),
            flips=_flips(target, workers, engine, policy),
            next_look_seconds=policy.interval_seconds / 2 if backlogged or grows else policy.interval_seconds,
        )

    def _forecasts(
        self, model: EngineModel, policy: Policy, past: Sequence[PastLoad], offset_seconds: float, work: Work
    ) -> PerRole[PeakForecast]:
        """The forecast of each role, which knows the past; a new one where its unit, a busy worker, has changed."""
        leads, unit = _leads(model, policy), (replace(model, startup_seconds={}), policy.objectives)
        until = self._learnt_until_seconds - offset_seconds
        new = [one for one in past if one.end_seconds > until]
        more = len(past) - len(new) > self._learnt_bins + MANY_BINS
        if self._peaks is None or unit != self._unit or more:
            tuning = replace(self._tuning, spacing_seconds=policy.interval_seconds)
            self._peaks = PerRole.of(
                lambda role: PeakForecast(tuning, leads[role], self._forecaster() if self._forecaster else None)
            )
            self._unit, new = unit, list(past)
        for role in Role:
            self._peaks[role].set_lead(leads[role])
        if new:
            self._learnt_until_seconds = new[-1].end_seconds + offset_seconds
            context = len(past) - len(new) - AROUND_BINS
            new = [one for one in believable(past[max(0, context) :]) if one.end_seconds >= new[0].end_seconds]
        if new:
            self._learn(new, offset_seconds, self._peaks, work, policy.events)
        self._learnt_bins = len(past)
        return self._peaks

    def _learn(
        self,
        new: Sequence[PastLoad],
        offset_seconds: float,
        peaks: PerRole[PeakForecast],
        work: Work,
        events: Sequence[ForecastEvent],
    ) -> None:
        """Take in bins of the past, as they would have been without the events that the spec names."""
        for one in new[-RECENT_BINS:]:
            self._lengths.add(one.end_seconds + offset_seconds, one.seconds, one.demand)
        ends, widths = [one.end_seconds + offset_seconds for one in new], [one.seconds for one in new]
        factors = factors_at(events, [one.end_seconds for one in new])
        works = [work.of_request(one.demand) for one in new]
        for role in Role:
            loads = [
                one.demand.requests_per_second / factor * of[role].busy_workers
                for one, of, factor in zip(new, works, factors, strict=True)
            ]
            noises = [
                of[role].noise_share(one.demand.requests_per_second * one.seconds)
                for one, of in zip(new, works, strict=True)
            ]
            peaks[role].learn(ends, widths, loads, noises)

    def _sizes(self, seen: _Seen, engine: EngineModel, policy: Policy) -> _Sized:
        asked = (seen, engine, policy)
        if self._sized is None or self._sized.asked != asked:
            load = Load.of(seen.demand, engine, policy.objectives, on_time_first=policy.on_time_first)

            def at(requests_per_second: float) -> Size:
                return load.at(requests_per_second).size(policy.prefill.gpus, policy.decode.gpus)

            now = seen.outlook.map(lambda role: at(role.rate(role.now) or 0.0))
            peak = seen.outlook.map(lambda role: at(role.requests_per_second))
            kept = seen.outlook.map(lambda role: at(role.rate(role.peak + DEVIATIONS_KEPT * role.deviation) or 0.0))
            self._sized = _Sized(asked, now, peak, kept)
        return self._sized

    def _blind(
        self, workers: PerRole[Workers], before: Pair, now_seconds: float, engine: EngineModel, policy: Policy
    ) -> Decision:
        """Keep the target while the load is unknown, but for what needs no load to be known.

        A queue in the engines still adds workers, a user who changes a bound is still obeyed, and once the load has
        been unknown for long the fallback holds. Nothing is taken away.
        """
        since = now_seconds if self._blind_since_seconds is None else self._blind_since_seconds
        fallback = policy.fallback
        falls_back = fallback is not None and now_seconds - since >= fallback.after_seconds
        wanted, reason, message = before, Reason.TELEMETRY_FAILED, "the load is not known since telemetry failed"
        backlog = self._blind_backlog(workers, engine, policy)
        if backlog[0] > wanted[0] or backlog[1] > wanted[1]:
            wanted = (max(wanted[0], backlog[0]), max(wanted[1], backlog[1]))
            reason, message = Reason.BACKLOG, f"{message}, and what waits in the engines needs more workers"
        elif falls_back and fallback and (fallback.prefill > wanted[0] or fallback.decode > wanted[1]):
            wanted = (max(wanted[0], fallback.prefill), max(wanted[1], fallback.decode))
            reason, message = Reason.FALLBACK, f"{message} {now_seconds - since:.0f} s ago; the fallback holds"
        else:
            message = f"{message}; the previous target is held"
        try:
            target, hard = apply_bounds(wanted, before, policy)
        except NoRoomError as error:
            target, hard, message = before, (), f"{message}; {error}"
        if target == before:
            reason = Reason.TELEMETRY_FAILED
        elif wanted == before:  # a new resource, too: it has no worker yet, and nobody scrapes it
            reason = Reason.BOUNDS_CHANGED
            message = "the load is not known yet; the workers are brought within their bounds"
        return Decision(
            prefill=target[0],
            decode=target[1],
            reason=reason,
            message=message,
            limited_by=hard,
            weighed=None,
            planned_for=self.last.planned_for if self.last else None,
            expected=None,
            infeasible=self.last.infeasible if self.last else "",
            gpus=policy.gpus(*target),
            flips=0,
            next_look_seconds=policy.interval_seconds,
        )

    def _blind_backlog(self, workers: PerRole[Workers], engine: EngineModel, policy: Policy) -> Pair:
        """Workers for what waits, taking requests to be as they were when the load was last known."""
        if self.last is None or self.last.planned_for is None:
            return 0, 0
        prompts, answers = self.last.planned_for
        needed = size(answers, engine, policy.objectives, policy.prefill.gpus, policy.decode.gpus)
        return (
            prefill_for_backlog(workers.prefill, prompts, PrefillLoad.of(prompts, engine), engine, policy),
            decode_for_backlog(workers.decode, needed.load.decode, policy),
        )


def _leads(model: EngineModel, policy: Policy) -> PerRole[float]:
    """Seconds from now until what is decided now takes effect: what one look misses waits for the next."""
    return PerRole.of(lambda role: model.startup_seconds[role] + policy.interval_seconds)


def _flips(target: Pair, workers: PerRole[Workers], model: EngineModel, policy: Policy) -> int:
    """Workers that can change from decode to prefill (negative: the other way) instead of a stop and a start.

    Only where both roles hold the same GPUs and a flip serves sooner than a start.
    """
    if not policy.role_switching or policy.prefill.gpus != policy.decode.gpus:
        return 0
    if model.flip_seconds >= min(model.startup_seconds.values()):
        return 0
    prefill_gap, decode_gap = target[0] - workers.prefill.supply, target[1] - workers.decode.supply
    if prefill_gap > 0 > decode_gap:
        return min(prefill_gap, -decode_gap)
    if decode_gap > 0 > prefill_gap:
        return -min(decode_gap, -prefill_gap)
    return 0
