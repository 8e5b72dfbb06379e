"""The one loop: `observe` takes in the load now and then, `decide` names a target at every look. Pure.

`observe` is slow (it may fit forecasts) and comes with every reading of the load; `decide` is fast and comes with every
look at the workers, since what waits is known at each. What was needed lately and how much is dared is kept here; all
but the second can be had again from the history of the load, and that is handed in at a restart.

For each role the workers are the most that one of these needs: the greatest load until a decision of now takes effect
(`peak`, at the quantile of the `knob`), and what waits in the engines (`planning.backlog`). Growth is immediate. A
worker is given up when nothing of the last window needed it (`stabilization`). Bounds come last.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dopd.api.events import ForecastEvent
from dopd.api.names import Role
from dopd.autoscaler import explain
from dopd.autoscaler.blind import blind
from dopd.autoscaler.calibration import Calibration
from dopd.autoscaler.decision import Decision, Reason, Together
from dopd.autoscaler.foreseen import Forecasts
from dopd.autoscaler.idle import FORESEEN_REQUESTS, Counts, Facts, Idle, Silence, silence, working
from dopd.autoscaler.knob import Knob
from dopd.autoscaler.lengths import SlowLengths
from dopd.autoscaler.outlook import Outlook
from dopd.autoscaler.past import AROUND_BINS, PastLoad, believable
from dopd.autoscaler.peak import PeakForecast
from dopd.autoscaler.promises import Promises
from dopd.autoscaler.queue_trend import QueueTrend
from dopd.autoscaler.sample import Sample
from dopd.autoscaler.sized import Sized
from dopd.autoscaler.stabilization import Stabilization, window_together, windows
from dopd.autoscaler.tuning import Tuning
from dopd.autoscaler.until_start import UntilStart, leads_of, leads_with_sum
from dopd.autoscaler.work import RequestWork, Work, of_both
from dopd.perf import EngineModel
from dopd.planning.backlog import decode_for_backlog, prefill_for_backlog
from dopd.planning.bounds import Bound, NoRoomError, apply_bounds, with_spare
from dopd.planning.demand import Demand
from dopd.planning.events import factor_ahead, factors_at
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives, Policy
from dopd.planning.sizing import joined
from dopd.planning.switching import NO_SWITCHING, Into, divide, flips_of, remedies, seconds_into
from dopd.planning.workers import Workers
from dopd_forecasting import Forecaster, Trust

RECENT_BINS = 240
"""Bins of the past whose lengths still count."""
MANY_BINS = 30
"""So many bins of the past that come late (a far piece took its time) make the forecast begin anew with all of it."""


@dataclass(frozen=True)
class _Seen:
    """What the newest sample told."""

    demand: Demand
    outlook: PerRole[Outlook]
    trust: Trust | None
    miss: float
    into: Into
    until_start: UntilStart | None
    silence: Silence | None = None

    @property
    def planned_for(self) -> PerRole[Demand]:
        """The peak of each role, as requests of the lengths of now."""
        return self.outlook.map(lambda role: self.demand.at(role.requests_per_second))


class Autoscaler:
    """Plans for one resource, again and again.

    Args:
        tuning: constants.
        miss: the knob's share, where it is known from before a restart.
        forecaster: makes what forecasts the load of a role; None to do without.
        asleep: both roles were at zero before a restart, as nobody asked for anything.

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
        asleep: bool = False,
    ) -> None:
        self._tuning = tuning or Tuning()
        self._knob = Knob(self._tuning, miss)
        self._forecaster = forecaster
        self._stabilization = PerRole.of(lambda role: Stabilization())
        self._stabilization_together = Stabilization()
        self._queue = QueueTrend()
        self._idle = Idle(asleep=asleep)
        self._work: Work | None = None
        self._peaks: PerRole[PeakForecast] | None = None
        self._until_start: tuple[PeakForecast, PeakForecast, PeakForecast] | None = None
        self._unit: tuple[EngineModel, Objectives, bool] | None = None
        self._learnt_until_seconds, self._learnt_bins = float("-inf"), 0
        self._seen: _Seen | None = None
        self._lengths = SlowLengths(self._tuning.level_seconds)
        self._at_seconds: float | None = None
        self._blind_since_seconds: float | None = None
        self._sized: tuple[tuple[_Seen, EngineModel, Policy], Sized] | None = None
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
        rate, told = sample.demand.requests_per_second, sample.demand
        into, starts = self._into(told, model, policy, self._work), leads_of(model, policy, NO_SWITCHING)
        leads = leads_of(model, policy, into)
        peaks = self._forecasts(model, policy, leads, past, past_offset_seconds, self._work)
        since = sample.window_seconds if self._at_seconds is None else sample.at_seconds - self._at_seconds
        self._lengths.add(sample.at_seconds, min(max(0.0, since), sample.window_seconds), told)
        demand = self._lengths.at(rate)
        one = self._work.of_request(told if told.input_tokens else demand)
        usual = self._work.of_request(demand)
        epoch_seconds = sample.at_seconds - past_offset_seconds
        event_now = factor_ahead(policy.events, epoch_seconds, epoch_seconds)
        batch = 1.0 + policy.batch_share * sample.batch_waits
        since = 0.0 if self._at_seconds is None else max(0.0, sample.at_seconds - self._at_seconds)
        miss = self._knob.observe(policy, sample.late_share, since, max(starts))
        self._at_seconds = sample.at_seconds

        def of(
            forecast: PeakForecast, lead_seconds: float, work: RequestWork, per_request: float, promises: Promises
        ) -> Outlook:
            now_seconds, window_seconds = sample.at_seconds, sample.window_seconds
            busy = rate * work.busy_workers
            noise_share = work.noise_share(rate * window_seconds)
            forecast.observe(now_seconds, busy / event_now, noise_share, window_seconds)
            event = factor_ahead(policy.events, epoch_seconds, epoch_seconds + lead_seconds)
            peak, expected = batch * event * forecast.quantile(miss), forecast.expected
            if expected is not None:
                expected *= event
            promised = promises.due(now_seconds)
            if expected is not None:
                promises.add(now_seconds + lead_seconds, expected)
            now, deviation = batch * event_now * forecast.now, batch * event_now * forecast.deviation
            leader, foreseen = forecast.leader(miss), event * forecast.foreseen(miss)
            return Outlook(lead_seconds, now, peak, per_request, expected, promised, deviation, leader, foreseen)

        outlook = PerRole.of(
            lambda role: of(peaks[role], leads[role], one[role], usual[role].busy_workers, self._promises[role])
        )
        until_start = None
        if self._until_start is not None:
            told_of = zip(
                self._until_start, leads_with_sum(starts), (*one, of_both(one)), (*usual, of_both(usual)), strict=True
            )
            prefill, decode, both = (
                of(forecast, lead, work, per.busy_workers, Promises()) for forecast, lead, work, per in told_of
            )
            if into != NO_SWITCHING:  # else each role is for itself
                until_start = UntilStart(PerRole(prefill, decode), both)
        verdicts = [trust for peak in self._all(peaks) if (trust := peak.trust(sample.at_seconds)) is not None]
        trust = min(verdicts, key=lambda trust: trust.trusted, default=None)
        quiet = silence(past, sample.at_seconds, past_offset_seconds) if policy.idle_after_seconds else None
        # At once: a decision may be made meanwhile.
        self._seen = _Seen(demand, outlook, trust, miss, into, until_start, quiet)

    def decide(
        self,
        workers: PerRole[Workers],
        now_seconds: float,
        model: EngineModel,
        policy: Policy,
        counted: Counts | None = None,
    ) -> Decision:
        """Name the workers that there should be, and remember that.

        Args:
            workers: of each role now.
            now_seconds: time, on the clock of the samples.
            model: performance of one engine, with the start-up times that were measured.
            policy: objectives and bounds.
            counted: requests that each gateway has counted; None where that is not known, or nobody wants to know it.
        """
        decision, self._idle = self._plan(workers, now_seconds, model, policy, counted)
        if decision.weighed is None:
            for held in (*self._stabilization, self._stabilization_together):
                held.begin_anew()
            if self._idle.asleep:
                self._blind_since_seconds = None
            elif self._blind_since_seconds is None:
                self._blind_since_seconds = now_seconds
        else:
            self._blind_since_seconds = None
            longest = window_together(model, policy, self._tuning)
            for role in Role:
                self._stabilization[role].note(now_seconds, decision.weighed[role].kept, longest)
            if decision.together is not None:
                self._stabilization_together.note(now_seconds, decision.together.kept, longest)
            else:
                self._stabilization_together.begin_anew()
        self.last = decision
        return decision

    def preview(
        self,
        workers: PerRole[Workers],
        now_seconds: float,
        model: EngineModel,
        policy: Policy,
        counted: Counts | None = None,
    ) -> Decision:
        """What `decide` would say; only how the queue grows is remembered."""
        return self._plan(workers, now_seconds, model, policy, counted)[0]

    def _plan(
        self, workers: PerRole[Workers], now_seconds: float, model: EngineModel, policy: Policy, counted: Counts | None
    ) -> tuple[Decision, Idle]:
        """The decision, and whether it lets both roles sleep."""
        seen = self._seen
        idle = self._idle.look(self._facts(seen, workers, now_seconds, model, policy, counted))
        if idle.asleep:
            return explain.asleep(policy, seen.planned_for if seen else None), idle
        decision = self._awake(seen, workers, now_seconds, model, policy)
        return (explain.woken(decision, idle.woken_by) if idle.woken_by else decision), idle

    def _facts(
        self,
        seen: _Seen | None,
        workers: PerRole[Workers],
        now_seconds: float,
        model: EngineModel,
        policy: Policy,
        counted: Counts | None,
    ) -> Facts:
        after = policy.idle_after_seconds
        if after is None:
            return Facts(now_seconds, None)
        return Facts(
            now_seconds,
            max(after, window_together(model, policy, self._tuning)),
            counted,
            arriving=seen.demand.requests_per_second > 0 if seen else None,
            silence=seen.silence if seen else None,
            working=working(workers),
            foreseen=seen is not None and any(role.foreseen_requests >= FORESEEN_REQUESTS for role in seen.outlook),
            reserved=policy.reserved,
        )

    def _awake(
        self, seen: _Seen | None, workers: PerRole[Workers], now_seconds: float, model: EngineModel, policy: Policy
    ) -> Decision:
        growth = self._queue.add(now_seconds, workers.prefill.waiting_tokens)
        workers = replace(workers, prefill=replace(workers.prefill, waiting_tokens_growth=growth))
        if policy.batch:  # it waits for the slots and the KV cache that others leave, and asks for no worker by that
            workers = replace(workers, decode=replace(workers.decode, waiting_requests=None, kv_use=None))
        before = self.last.pair if self.last else (workers.prefill.supply, workers.decode.supply)
        # Loads are weighed against what is there for them.
        there = (max(0, before[0] - policy.prefill.spare), max(0, before[1] - policy.decode.spare))
        engine = self.calibration.corrected(model)
        if seen is None:
            return blind(workers, before, self._blind_since_seconds, now_seconds, engine, policy, self.last)
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
        over = windows(model, policy, self._tuning, seen.into)
        held = (
            self._stabilization.prefill.held(kept[0], there[0], now_seconds, over.prefill),
            self._stabilization.decode.held(kept[1], there[1], now_seconds, over.decode),
        )
        wanted = (max(needed[0], held[0]), max(needed[1], held[1]))
        together, over_budget = None, False
        if sized.together is not None and sized.apart is not None:
            together = self._together(sized.together, sum(needed), sum(there), now_seconds, model, policy)
            total = max(together.needed, together.held)
            if policy.gpu_budget is not None and policy.gpus(total, 0) > policy.gpu_budget:
                total, over_budget = policy.gpu_budget // policy.prefill.gpus, True
            wanted = divide(total, wanted, there, sized.apart, workers, seen.into, policy)
        all_wanted, cut = with_spare(wanted, policy)
        try:
            target, hard = apply_bounds(all_wanted, before, policy, by_now)
            no_room = ""
        except NoRoomError as error:
            target, hard, no_room = before, (), str(error)
        if (over_budget or cut) and Bound.GPU_BUDGET not in hard:
            hard = (*hard, Bound.GPU_BUDGET)
        spare = tuple(a - w for a, w in zip(all_wanted, wanted, strict=True))
        for_load = tuple(t - s for t, s in zip(target, spare, strict=True))
        leaders = [role.leader for role in seen.outlook]
        columns = zip(by_now, by_demand, backlog, kept, held, wanted, for_load, leaders, strict=True)
        weighed = PerRole(*(explain.weighed(*of_role) for of_role in columns))
        backlogged, grows = needed != by_demand, any(n > t for n, t in zip(needed, there, strict=True))
        soft = explain.soft_bounds(needed, (max(held[0], wanted[0]), max(held[1], wanted[1])))
        needed_now = (needed[0] + spare[0], needed[1] + spare[1])
        found = remedies(target, needed_now, workers, engine, seen.into) if policy.switches else ()
        expected = joined(sized.peak.prefill.load, sized.peak.decode.load).expect(*target) if min(target) else None
        bit = soft + hard
        told = explain.Told(
            weighed,
            sized.peak,
            seen.outlook,
            workers,
            target,
            policy,
            bit,
            seen.miss,
            expected,
            seen.until_start,
            together,
            found,
        )
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
            flips=flips_of(found),
            next_look_seconds=policy.interval_seconds / 2 if backlogged or grows else policy.interval_seconds,
            remedies=found,
            together=together,
        )

    def _together(
        self, sized: tuple[int, int], needed: int, before: int, now_seconds: float, model: EngineModel, policy: Policy
    ) -> Together:
        """What both roles need together until a start serves, and at least what each needs by itself."""
        needed, kept = (max(needed, count) for count in sized)
        window_seconds = window_together(model, policy, self._tuning)
        held = self._stabilization_together.held(kept, before, now_seconds, window_seconds)
        return Together(needed, kept, held)

    def _into(self, demand: Demand, model: EngineModel, policy: Policy, work: Work) -> Into:
        """How soon a worker of the other role serves in each; by the lengths of before, which waver less."""
        if not policy.switches:
            return NO_SWITCHING
        lengths = self._lengths.at(demand.requests_per_second)
        usual = work.of_request(lengths if lengths.input_tokens else demand)
        return seconds_into(model, policy, usual.map(lambda role: role.drain_seconds))

    def _all(self, peaks: PerRole[PeakForecast]) -> tuple[PeakForecast, ...]:
        return (*peaks, *(self._until_start or ()))

    def _forecasts(
        self,
        model: EngineModel,
        policy: Policy,
        leads: PerRole[float],
        past: Sequence[PastLoad],
        offset_seconds: float,
        work: Work,
    ) -> PerRole[PeakForecast]:
        """The forecast of each role, which knows the past; a new one where its unit, a busy worker, has changed."""
        measured = replace(model, startup_seconds={}, drain_seconds={})
        unit, starts = (
            (measured, policy.objectives, policy.switches),
            leads_with_sum(leads_of(model, policy, NO_SWITCHING)),
        )
        until = self._learnt_until_seconds - offset_seconds
        new = past[bisect_right(past, until, key=lambda one: one.end_seconds) :]
        more = len(past) - len(new) > self._learnt_bins + MANY_BINS
        if self._peaks is None or unit != self._unit or more:
            tuning = replace(self._tuning, spacing_seconds=policy.interval_seconds)

            def forecast(lead_seconds: float) -> PeakForecast:
                return PeakForecast(tuning, lead_seconds, self._forecaster() if self._forecaster else None)

            self._peaks = PerRole.of(lambda role: forecast(leads[role]))
            self._until_start = None
            if policy.switches:
                self._until_start = (forecast(starts[0]), forecast(starts[1]), forecast(starts[2]))
            self._unit, new = unit, list(past)
        for role in Role:
            self._peaks[role].set_lead(leads[role])
        for until_start, lead_seconds in zip(self._until_start or (), starts, strict=False):
            until_start.set_lead(lead_seconds)
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
        recent = new[-RECENT_BINS:]
        if not any(one.demand.requests_per_second for one in recent):  # a night: what came before it tells
            recent = [one for one in new if one.demand.requests_per_second][-RECENT_BINS:]
        for one in recent:
            self._lengths.add(one.end_seconds + offset_seconds, one.seconds, one.demand)
        ends, widths = [one.end_seconds + offset_seconds for one in new], [one.seconds for one in new]
        factors = factors_at(events, [one.end_seconds for one in new])
        works = [work.of_request(one.demand) for one in new]
        of_roles = [[of[role] for of in works] for role in Role]
        told = [*zip(peaks, of_roles, strict=True)]
        if self._until_start is not None:
            told += zip(self._until_start, (*of_roles, [of_both(of) for of in works]), strict=True)
        for peak, of_requests in told:
            loads = [
                one.demand.requests_per_second / factor * of.busy_workers
                for one, of, factor in zip(new, of_requests, factors, strict=True)
            ]
            noises = [
                of.noise_share(one.demand.requests_per_second * one.seconds)
                for one, of in zip(new, of_requests, strict=True)
            ]
            peak.learn(ends, widths, loads, noises)

    def _sizes(self, seen: _Seen, engine: EngineModel, policy: Policy) -> Sized:
        """The workers for what was seen, kept until one of these changes."""
        asked = (seen, engine, policy)
        if self._sized is None or self._sized[0] != asked:
            self._sized = (asked, Sized.of(seen.demand, seen.outlook, seen.until_start, engine, policy))
        return self._sized[1]
