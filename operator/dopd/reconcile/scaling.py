"""The loop of one resource that scales: read the load now and then, plan at every pass.

Readings are slow (Prometheus, a forecast) and happen at spec.scaling.behavior.interval, in a task of their own, so that
a Prometheus that hangs keeps no pass from draining or starting workers. Plans are cheap, and what waits in the engines
is known at every pass: a queue is acted on between two readings. It keeps nothing that can not be had again, from
Prometheus or from the resource's status.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import ConditionReason
from dopd.perf import Correction, EngineModel
from dopd.planning import Decision, Learnt, Observation, Policy, Workers, plan
from dopd.reconcile.calibration import Calibration, EngineSample
from dopd.reconcile.places import outside
from dopd.reconcile.queue import Key
from dopd.reconcile.reading import LoadWatcher, Reading
from dopd.reconcile.timing import STAGE_SECONDS
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.present import Gateway
from dopd.telemetry.prometheus import QueryFailed

_LOG = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0
"""Passes wait so long for a reading after it began; then they go on with the one before. The first takes a while."""
CLOSE_LOOKS_SECONDS = 0.75


@dataclass(frozen=True)
class Planned:
    """What one pass planned, and from what.

    Attributes:
        decision: the plan; None when there is no profile to plan with.
        reading: the load that it rests on; None before the first reading is there.
        profile_problem: why there is no profile; "" when there is one.
        corrections: how the engines compare with the profile, by role.
        engine: the profile with these corrections; None when there is no profile.
    """

    decision: Decision | None
    reading: Reading | None = None
    profile_problem: str = ""
    corrections: Mapping[Role, Correction] = field(default_factory=dict)
    engine: EngineModel | None = None


class QueueTrend:
    """Whether a queue grows look after look: one burst makes it grow once."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None
        self._growths = (0.0, 0.0)

    def add(self, at_seconds: float, waiting: float | None) -> float:
        """Take in a look; returns the lesser growth of the last two looks, per second, 0 if it did not grow in both.

        Looks that follow each other closely count as one.
        """
        if waiting is None:
            self._last, self._growths = None, (0.0, 0.0)
        elif self._last is None:
            self._last = (at_seconds, waiting)
        elif at_seconds - self._last[0] >= CLOSE_LOOKS_SECONDS:
            growth = (waiting - self._last[1]) / (at_seconds - self._last[0])
            self._last, self._growths = (at_seconds, waiting), (self._growths[1], growth)
        return max(0.0, min(self._growths))


@dataclass(frozen=True)
class _Grounds:
    """What the latest plan was made from, beside the workers."""

    model: EngineModel
    policy: Policy
    reading: Reading | None


class ScalingLoop:
    """Plans for one resource, again and again.

    Attributes:
        planned: the latest plan; None before the first.
    """

    def __init__(
        self,
        key: Key,
        loads: LoadReader,
        restored: Learnt | None = None,
        steady: Callable[[float], float] = lambda now_seconds: now_seconds,
    ) -> None:
        """A loop that begins now.

        Args:
            key: of the resource.
            loads: reads them.
            restored: what plans had learnt before a restart; None if that is not known.
            steady: the time now on a clock that no step of the wall clock moves, given what the wall clock shows. All
                durations are measured on it.
        """
        self.planned: Planned | None = None
        self._learnt = restored
        self._steady = steady
        self._key = key
        self._watcher = LoadWatcher(key, loads)
        self._task: asyncio.Task[Reading] | None = None
        self._reading: Reading | None = None
        self._next_reading_seconds = self._began_seconds = self._began_wall_seconds = 0.0
        self._grounds: _Grounds | None = None
        self._calibration = Calibration()
        self._queue = QueueTrend()

    async def look(
        self,
        spec: DisaggregatedInferenceSpec,
        model: EngineModel | str,
        prometheus_url: str,
        workers: Mapping[Role, Workers],
        leads: Mapping[Role, float],
        engines: Sequence[EngineSample],
        now_seconds: float,
        gateways: Sequence[Gateway] = (),
        labels: Mapping[str, str] | None = None,
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
        """
        policy = Policy.from_spec(spec, now_seconds, leads)
        steady_seconds = self._steady(now_seconds)
        if isinstance(model, str):
            self._next_reading_seconds = steady_seconds + policy.interval_seconds
            self._grounds = None
            self.planned = Planned(None, profile_problem=model)
            return self.planned
        if self._task is None and steady_seconds >= self._next_reading_seconds:
            self._next_reading_seconds = steady_seconds + policy.interval_seconds
            self._began_seconds, self._began_wall_seconds = steady_seconds, now_seconds
            reading = self._watcher.read(spec, prometheus_url, leads, now_seconds, gateways, labels, steady_seconds)
            self._task = asyncio.create_task(reading)
        new = await self._new_reading(steady_seconds)
        if new:
            self._calibration.take(engines, new.demand, model)
        measured = replace(model, startup_seconds={str(role): leads[role] for role in Role})
        self._grounds = _Grounds(self._calibration.corrected(measured), policy, self._reading)
        with STAGE_SECONDS.labels("plan").time():
            decision = self._plan(self._grounds, workers, steady_seconds)
        self._learnt = decision.learnt
        read_seconds = self._began_seconds if new else steady_seconds
        self._next_reading_seconds = min(self._next_reading_seconds, read_seconds + decision.next_look_seconds)
        corrections = self._calibration.corrections
        self.planned = Planned(decision, self._reading, corrections=corrections, engine=self._grounds.model)
        return self.planned

    def seconds_until_due(self, now_seconds: float) -> float:
        """Time until there is something to do here."""
        now_seconds = self._steady(now_seconds)
        if self._task is not None:  # the longer it has taken, the longer it may take still
            return max(PATIENCE_SECONDS, (now_seconds - self._began_seconds) / 2)
        return max(0.0, self._next_reading_seconds - now_seconds)

    def would_grow(self, workers: Mapping[Role, Workers], now_seconds: float) -> bool:
        """Whether a plan with these workers, and what waits for them, would ask for more than the latest."""
        last = self.planned.decision if self.planned else None
        if self._grounds is None or last is None:
            return False
        decision = self._plan(self._grounds, workers, self._steady(now_seconds))
        return decision.prefill > last.prefill or decision.decode > last.decode

    def stop(self) -> None:
        """Drop a reading that is under way."""
        if self._task:
            self._task.cancel()

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
        return self._reading

    def _plan(self, grounds: _Grounds, workers: Mapping[Role, Workers], now_seconds: float) -> Decision:
        """A plan at a time on the steady clock."""
        reading, prefill = grounds.reading, workers[Role.PREFILL]
        growth = self._queue.add(now_seconds, prefill.waiting_tokens)
        observation = Observation(
            demand=reading.demand if reading else None,
            prefill=replace(prefill, waiting_tokens_growth=growth),
            decode=workers[Role.DECODE],
            late_share=reading.late_share if reading else None,
            window_seconds=reading.window_seconds if reading else None,
            measured_at_seconds=reading.steady_seconds if reading else None,
        )
        forecast = reading.outlook.forecast if reading and reading.outlook else None
        previous = self.planned.decision if self.planned else None
        return plan(observation, forecast, grounds.model, grounds.policy, previous, now_seconds, self._learnt)
