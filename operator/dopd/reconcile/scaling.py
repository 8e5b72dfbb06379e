"""The loop of one resource that scales: read the load now and then, decide at every pass.

Readings are slow (Prometheus, a forecast) and happen at spec.scaling.behavior.interval, in a task of their own, so that
a Prometheus that hangs keeps no pass from draining or starting workers. Decisions are cheap, and what waits in the
engines is known at every pass: a queue is acted on between two readings. What there is to think is done by
`dopd.autoscaler`; here is what has to be awaited.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.autoscaler import Autoscaler, Decision, EngineSample, Outlook, Reason, Sample
from dopd.autoscaler.idle import Counts
from dopd.autoscaler.transcript import Recorded
from dopd.perf import Correction, EngineModel
from dopd.planning import PerRole, Policy, Workers
from dopd.reconcile.forecasts import EstimatedElsewhere
from dopd.reconcile.places import outside
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import LoadWatcher, Reading
from dopd.reconcile.timing import STAGE_SECONDS
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.present import Gateway
from dopd.telemetry.prometheus import QueryFailed
from dopd_forecasting import Trust

_LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""Passes wait so long for a reading after it began; then they go on with the one before. The first takes a while."""


_OBSERVER = ThreadPoolExecutor(1, "autoscaler")
"""Takes readings in, one after the other: the first of a resource judges weeks, a second of computing, and many of them
at once, after a start of the operator, would leave the event loop little of the interpreter."""


@dataclass(frozen=True)
class Planned:
    """What one pass planned, and from what.

    Attributes:
        decision: the plan; None when there is no profile to plan with.
        reading: the load that it rests on; None before the first reading is there.
        profile_problem: why there is no profile; "" when there is one.
        corrections: how the engines compare with the profile, by role.
        engine: the profile with these corrections; None when there is no profile.
        outlook: what is expected of each role; None while the load is not known.
        trust: verdict on the forecasters; None when there is no history.
        miss: share of the leads in which the load may exceed what is held.
        no_forecaster: why there is no forecaster yet; "" where there is one, or no history.
        asked: prefill and decode workers that a scaler of the user's own asks for; None where dopd decides.
        ordered: prefill workers are known to serve prompts in the order on-time-first.
    """

    decision: Decision | None
    reading: Reading | None = None
    profile_problem: str = ""
    corrections: Mapping[Role, Correction] = field(default_factory=dict)
    engine: EngineModel | None = None
    outlook: PerRole[Outlook] | None = None
    trust: Trust | None = None
    miss: float | None = None
    no_forecaster: str = ""
    asked: tuple[int, int] | None = None
    ordered: bool = False


@dataclass(frozen=True)
class _Grounds:
    """What the latest decision was made from, beside the workers and the load."""

    model: EngineModel
    policy: Policy


def recorder(folder: Path, key: Key) -> Callable[[str], None]:
    """What appends lines to a resource's file, NAMESPACE.NAME.jsonl."""
    path = folder / f"{key.namespace}.{key.name}.jsonl"

    def write(line: str) -> None:
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    return write


class ScalingLoop:
    """Plans for one resource, again and again.

    Attributes:
        planned: the latest plan; None before the first.
    """

    def __init__(
        self,
        key: Key,
        loads: LoadReader,
        executor: Executor,
        miss: float | None = None,
        steady: Callable[[float], float] = lambda now_seconds: now_seconds,
        record: Callable[[str], None] | None = None,
        *,
        asleep: bool = False,
    ) -> None:
        """A loop that begins now.

        Args:
            key: of the resource.
            loads: reads them.
            executor: does the slow parts of forecasts.
            miss: how much was dared before a restart; None if that is not known.
            steady: the time now on a clock that no step of the wall clock moves, given what the wall clock shows. All
                durations are measured on it.
            record: takes each line of a transcript of the autoscaler; None for none.
            asleep: both roles were at zero before a restart, for want of requests.
        """
        self.planned: Planned | None = None
        self._executor = executor
        self._forecasters: list[EstimatedElsewhere] = []
        self._autoscaler = (
            Recorded(record, miss, self._forecaster, asleep=asleep)
            if record
            else Autoscaler(miss=miss, forecaster=self._forecaster, asleep=asleep)
        )
        self._steady = steady
        self._key = key
        self._watcher = LoadWatcher(key, loads)
        self._task: asyncio.Task[Reading] | None = None
        self._reading: Reading | None = None
        self._next_reading_seconds = self._began_seconds = self._began_wall_seconds = 0.0
        self._grounds: _Grounds | None = None
        self._ordered = False

    async def look(
        self,
        spec: DisaggregatedInferenceSpec,
        model: EngineModel | str,
        prometheus_url: str,
        workers: PerRole[Workers],
        leads: PerRole[float],
        engines: Sequence[EngineSample],
        now_seconds: float,
        gateways: Sequence[Gateway] = (),
        labels: Mapping[str, str] | None = None,
        ordered: bool | None = None,
        counted: Counts | None = None,
    ) -> Planned:
        """Read the load when that is due, and plan.

        Args:
            spec: of the resource; has spec.scaling.
            model: performance of one engine, or why it is not known.
            prometheus_url: where the load is read; empty when nobody said.
            workers: of each role now.
            leads: seconds from a start to a worker that serves, by role.
            engines: what the running engines count.
            now_seconds: seconds since the epoch.
            gateways: that serve, as Kubernetes knows them.
            labels: that the series of this Prometheus must carry.
            ordered: prefill workers are known to serve prompts in the order on-time-first; None: as before.
            counted: requests that each gateway has counted; None without spec.scaling.idle.
        """
        self._ordered = self._ordered if ordered is None else ordered
        policy = Policy.from_spec(spec, now_seconds, leads, self._ordered)
        steady_seconds = self._steady(now_seconds)
        if isinstance(model, str):
            self._next_reading_seconds = steady_seconds + policy.interval_seconds
            self._grounds = None
            self.planned = Planned(None, profile_problem=model)
            return self.planned
        if self._task is None and steady_seconds >= self._next_reading_seconds:
            self._next_reading_seconds = steady_seconds + policy.interval_seconds
            self._began_seconds, self._began_wall_seconds = steady_seconds, now_seconds
            read = self._watcher.read(spec, prometheus_url, now_seconds, gateways, labels, steady_seconds)
            measured = replace(model, startup_seconds={str(role): leads[role] for role in Role})
            self._task = asyncio.create_task(self._observe(read, engines, measured, policy))
        new = await self._new_reading(steady_seconds)
        measured = replace(model, startup_seconds={str(role): leads[role] for role in Role})
        self._grounds = _Grounds(measured, policy)
        with STAGE_SECONDS.labels("plan").time():
            decision = self._autoscaler.decide(workers, steady_seconds, measured, policy, counted)
        read_seconds = self._began_seconds if new else steady_seconds
        self._next_reading_seconds = min(self._next_reading_seconds, read_seconds + decision.next_look_seconds)
        autoscaler = self._autoscaler
        self.planned = Planned(
            decision,
            self._reading,
            corrections=autoscaler.calibration.corrections,
            engine=autoscaler.calibration.corrected(measured),
            outlook=autoscaler.outlook,
            trust=autoscaler.trust,
            miss=autoscaler.miss,
            no_forecaster=next((problem for one in self._forecasters if (problem := one.problem)), ""),
            ordered=self._ordered,
        )
        return self.planned

    def seconds_until_due(self, now_seconds: float) -> float:
        """Time until there is something to do here."""
        now_seconds = self._steady(now_seconds)
        if self._task is not None:  # the longer it has taken, the longer it may take still
            return max(PATIENCE_SECONDS, (now_seconds - self._began_seconds) / 2)
        return max(0.0, self._next_reading_seconds - now_seconds)

    @property
    def reads(self) -> bool:
        """Whether a reading is under way."""
        return self._task is not None

    @property
    def asleep(self) -> bool:
        """Whether the latest plan lets both roles sleep, so that the first request is to be looked for."""
        last = self.planned.decision if self.planned else None
        return last is not None and last.reason is Reason.IDLE

    def would_grow(self, workers: PerRole[Workers], now_seconds: float, counted: Counts | None = None) -> bool:
        """Whether a plan with these workers, what waits for them and what the gateways counted asks for more."""
        last = self.planned.decision if self.planned else None
        if self._grounds is None or last is None:
            return False
        grounds = self._grounds
        now_seconds = self._steady(now_seconds)
        decision = self._autoscaler.preview(workers, now_seconds, grounds.model, grounds.policy, counted)
        return decision.prefill > last.prefill or decision.decode > last.decode

    def stop(self) -> None:
        """Drop a reading and a forecast that are under way."""
        for forecaster in self._forecasters:
            forecaster.stop()
        if self._task:
            self._task.cancel()

    def _forecaster(self) -> EstimatedElsewhere:
        """A forecaster of one role; those of before, where the autoscaler begins anew, are given up."""
        if len(self._forecasters) == len(Role):
            for old in self._forecasters:
                old.stop()
            self._forecasters = []
        self._forecasters.append(EstimatedElsewhere(self._executor))
        return self._forecasters[-1]

    async def _new_reading(self, now_seconds: float) -> Reading | None:
        """The reading under way, once it is there; None while there is no new one."""
        if self._task is None:
            return None
        async with outside():
            left = PATIENCE_SECONDS - (now_seconds - self._began_seconds)
            done, _ = await asyncio.wait({self._task}, timeout=max(0.0, left))
        if not done:
            return None
        task, self._task = self._task, None
        try:
            self._reading = task.result()
        except Exception as error:  # whatever went wrong, the reading before is not the load of now
            _LOG.exception("%s: the reading of the load failed", self._key)
            failure = QueryFailed(ConditionReason.QUERY_FAILED, f"the load can not be read: {type(error).__name__}")
            self._reading = Reading(self._began_wall_seconds, failure=failure, steady_seconds=self._began_seconds)
            if self._grounds is not None:
                grounds = self._grounds
                self._autoscaler.observe(Sample(self._began_seconds, None), grounds.model, grounds.policy)
        return self._reading

    async def _observe(
        self,
        read: Coroutine[None, None, Reading],
        engines: Sequence[EngineSample],
        model: EngineModel,
        policy: Policy,
    ) -> Reading:
        """A reading, once the autoscaler has taken it in."""
        reading = await read
        assert reading.steady_seconds is not None
        sample = Sample(
            reading.steady_seconds,
            reading.demand,
            reading.late_share,
            reading.window_seconds or policy.interval_seconds,
            engines,
            reading.batch_waits,
        )
        offset = reading.steady_seconds - reading.at_seconds
        with STAGE_SECONDS.labels("forecast").time():  # off the event loop: a fit takes longer than the Lease may wait
            observe = partial(self._autoscaler.observe, sample, model, policy, reading.past, offset)
            await asyncio.get_running_loop().run_in_executor(_OBSERVER, observe)
        return reading
