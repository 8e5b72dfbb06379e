"""One pass over one resource: look, plan, act a step, report.

A pass is level-based: it starts from what is there, not from what happened, and every write it makes brings the cluster
closer to the spec whatever came before. So it may be killed between any two writes, and two passes in a row write once.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from dopd.api.base import seconds
from dopd.api.inference import DisaggregatedInferenceSpec, ScalingMode
from dopd.api.names import ROUTER_POOL, Role
from dopd.api.status import ConditionStatus, ConditionType
from dopd.cluster import Kubernetes, PodHttp, kinds
from dopd.planning import PerRole
from dopd.planning.pool import PoolStep, Worker, admit_growth, available, pool_step
from dopd.planning.schedules import limits_at
from dopd.reconcile import metrics
from dopd.reconcile.act import Actor, failed
from dopd.reconcile.backlog import BacklogWatch
from dopd.reconcile.conditions import Finding, findings
from dopd.reconcile.gateways import serving_gateways
from dopd.reconcile.leadtimes import LeadTimes
from dopd.reconcile.observe import Observed, observe
from dopd.reconcile.pods import Trouble
from dopd.reconcile.prompt_order import order_settings, serves_on_time_first
from dopd.reconcile.queue import Key
from dopd.reconcile.report import Reporter
from dopd.reconcile.scaling import Planned, ScalingLoop
from dopd.reconcile.status import stored_leads, stored_miss
from dopd.reconcile.timing import STAGE_SECONDS, SteadyClock
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prompt_order import PromptOrderReader
from dopd.workloads import Targets

Json = dict[str, Any]
RESYNC_SECONDS = 60.0
MOVING_SECONDS = 1.0
"""While workers start, register or drain: the gateway and the engines send no events."""

LONGEST_MOVING_SECONDS = 2.0
"""And while nothing new is seen for long."""

LONGEST_UNREADY_SECONDS = 15.0
"""And while no request is served either: a worker that never starts should cost little."""

PASS_SECONDS = 100.0
"""A pass that takes longer is given up, and said to be so."""

_MOVING = (ConditionType.READY, ConditionType.WORKERS_AVAILABLE, ConditionType.ROUTER_IN_SYNC)


def _in_a_thread() -> Callable[[str], Executor]:
    executor = ThreadPoolExecutor(1, "forecasts")
    return lambda _: executor


@dataclass
class Reconciler:
    """Brings resources to their specs, one pass at a time.

    Attributes:
        prometheus_labels: that the series of the operator's own Prometheus must carry.
        executor_of: what does the slow parts of the forecasts of a namespace's resources.
        backlogs: what looks at the engines between two passes; run it beside the passes.
    """

    kubernetes: Kubernetes
    http: PodHttp
    prometheus_url: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    loads: LoadReader = field(default_factory=LoadReader)
    prometheus_labels: Mapping[str, str] = field(default_factory=dict)
    executor_of: Callable[[str], Executor] = field(default_factory=_in_a_thread)
    _loops: dict[Key, ScalingLoop] = field(default_factory=dict)
    _paces: dict[Key, "Pace"] = field(default_factory=dict)
    _lead_times: dict[Key, LeadTimes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._actor = Actor(self.kubernetes)
        self._reporter = Reporter(self.kubernetes)
        self._clock = SteadyClock(lambda: self.now().timestamp())
        self.backlogs = BacklogWatch(self.http, self._clock.now)
        self._orders = PromptOrderReader(self.http, self._clock.now)

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next is due, None when the resource is gone.

        Raises:
            Exception: a part of the pass failed. The rest was done, and the resource's condition Reconciled tells it.
        """
        resource = await self.kubernetes.get(kinds.INFERENCE, key.namespace, key.name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self._forget(key)
            return None
        try:
            async with asyncio.timeout(PASS_SECONDS):
                return await self._pass(key, resource)
        except _Reported as reported:
            raise reported.error from None
        except Exception as error:
            await self._reporter.report_failure(resource, failed("the pass", error), self.now())
            raise

    async def _pass(self, key: Key, resource: Json) -> float:
        with STAGE_SECONDS.labels("observe").time():
            observed = self._with_leads(key, await observe(self.kubernetes, self.http, self._orders, key, resource))
        if observed.spec is None:
            self._stop_scaling(key)
            await self._reporter.report(observed, findings(observed, (), None, {}), {}, None, self.now())
            return RESYNC_SECONDS
        planned, error = None, None
        try:
            planned = await self._plan(key, observed, observed.spec)
        except Exception as problem:  # what there is goes on, and what the spec says is made
            error = problem
        targets = _targets(observed, observed.spec, planned)
        with STAGE_SECONDS.labels("act").time():
            troubles = await self._act(observed, observed.spec, targets, planned)
        if error:
            troubles.append(failed("the plan", error))
        found = findings(observed, troubles, planned, targets)
        with STAGE_SECONDS.labels("report").time():
            await self._reporter.report(observed, found, targets, planned, self.now())
        metrics.report(key, observed, targets, planned, found)
        if error:
            raise _Reported(error)
        return self._next(key, found)

    def _with_leads(self, key: Key, observed: Observed) -> Observed:
        if key not in self._lead_times:
            self._lead_times[key] = LeadTimes(stored_leads(observed.resource))
        wall_seconds = self.now().timestamp()
        leads = self._lead_times[key].look(observed.lead_looks(), self._clock.now(), wall_seconds)
        return replace(observed, leads=leads)

    def _forget(self, key: Key) -> None:
        self._stop_scaling(key)
        self._actor.forget(key)
        self._reporter.forget(key)
        self._paces.pop(key, None)
        self._lead_times.pop(key, None)
        metrics.forget(key)

    async def _plan(self, key: Key, observed: Observed, spec: DisaggregatedInferenceSpec) -> Planned | None:
        if spec.scaling is None or spec.scaling.mode is ScalingMode.PAUSED:
            self._stop_scaling(key)
            return None
        loop = self._loops.get(key)
        if loop is None:
            loop = self._loops[key] = ScalingLoop(
                key,
                self.loads,
                self.executor_of(key.namespace),
                stored_miss(observed.resource),
                lambda _: self._clock.now(),
            )
        counts = PerRole.of(observed.role_counts)
        url = spec.telemetry.prometheus_url or self.prometheus_url
        leads = PerRole.of(lambda role: observed.leads[role].seconds)
        now_seconds = self.now().timestamp()
        engines = observed.engine_samples(now_seconds)
        gateways = serving_gateways(observed.pods[ROUTER_POOL])
        labels = self.prometheus_labels if url.rstrip("/") == self.prometheus_url.rstrip("/") else {}
        ordered = serves_on_time_first(spec, observed.orders)
        planned = await loop.look(
            spec, observed.model, url, counts, leads, engines, now_seconds, gateways, labels, ordered
        )
        self.backlogs.watch(key, observed, loop, seconds(spec.scaling.behavior.queue_interval))
        return planned

    def _stop_scaling(self, key: Key) -> None:
        self.backlogs.forget(key)
        loop = self._loops.pop(key, None)
        if loop:
            loop.stop()

    async def _act(
        self,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        targets: dict[Role, int],
        planned: Planned | None,
    ) -> list[Trouble]:
        steps = self._steps(observed, spec, targets)
        troubles = [
            trouble for step in steps.values() for trouble in await self._actor.label(observed, step, self.now())
        ]
        replicas = Targets(steps[Role.PREFILL].replicas, steps[Role.DECODE].replicas)
        settings = partial(order_settings, observed, spec, planned)
        return troubles + await self._actor.apply(observed, spec, replicas, settings)

    def _steps(
        self, observed: Observed, spec: DisaggregatedInferenceSpec, targets: dict[Role, int]
    ) -> dict[Role, PoolStep]:
        behavior = spec.scaling.behavior if spec.scaling else None
        deadline = seconds(behavior.drain_deadline) if behavior else seconds(spec.engine.termination_grace_period)
        budget = limits_at(spec.scaling, self.now().timestamp()).gpu_budget if spec.scaling else None
        prefill, decode = observed.workers[Role.PREFILL], observed.workers[Role.DECODE]
        admitted = admit_growth(
            (targets[Role.PREFILL], targets[Role.DECODE]),
            (available(prefill), available(decode)),
            (
                len(prefill) + observed.terminating[Role.PREFILL],
                len(decode) + observed.terminating[Role.DECODE],
            ),
            (spec.prefill.gpus, spec.decode.gpus),
            budget.max if budget else None,
        )
        return {
            role: pool_step(
                [self._steadied(worker) for worker in observed.workers[role]],
                target,
                rolling=_rolling(observed.deployment(role)),
                now_seconds=self._clock.now(),
                drain_deadline_seconds=deadline,
            )
            for role, target in zip((Role.PREFILL, Role.DECODE), admitted, strict=True)
        }

    def _steadied(self, worker: Worker) -> Worker:
        """A worker whose drain began at a time on the clock that deadlines are measured on."""
        since = worker.draining_since_seconds
        return worker if since is None else replace(worker, draining_since_seconds=self._clock.steady(since))

    def _next(self, key: Key, found: list[Finding]) -> float:
        settled = all(finding.status is ConditionStatus.TRUE for finding in found if finding.type in _MOVING)
        delay = RESYNC_SECONDS if settled else self._paces.setdefault(key, Pace()).pause(found, self._clock.now())
        retry = self._actor.seconds_until_retry(key)
        if retry is not None:
            delay = min(delay, max(MOVING_SECONDS, retry))
        loop = self._loops.get(key)
        if loop:
            delay = min(delay, max(0.1, loop.seconds_until_due(self.now().timestamp())))
        return delay


class _Reported(Exception):
    """A part of a pass failed, and the resource tells it already."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Pace:
    """How often a resource that changes is looked at: a tenth of the time since anything in it was new."""

    def __init__(self) -> None:
        self._seen: tuple[Finding, ...] = ()
        self._since_seconds = 0.0

    def pause(self, found: Sequence[Finding], now_seconds: float) -> float:
        """Seconds until the next look."""
        if tuple(found) != self._seen:
            self._seen, self._since_seconds = tuple(found), now_seconds
        served = any(f.type is ConditionType.READY and f.status is ConditionStatus.TRUE for f in found)
        longest = LONGEST_MOVING_SECONDS if served else LONGEST_UNREADY_SECONDS
        return min(max((now_seconds - self._since_seconds) / 10, MOVING_SECONDS), longest)


def _targets(observed: Observed, spec: DisaggregatedInferenceSpec, planned: Planned | None) -> dict[Role, int]:
    """Workers that should serve: static, as decided, or as they are."""
    if spec.scaling is None:
        return {Role.PREFILL: spec.prefill.replicas or 0, Role.DECODE: spec.decode.replicas or 0}
    bounds = {Role.PREFILL: spec.scaling.prefill, Role.DECODE: spec.scaling.decode}
    decision = planned.decision if planned else None
    if spec.scaling.mode is ScalingMode.AUTO and decision:
        return {Role.PREFILL: decision.prefill, Role.DECODE: decision.decode}
    return {role: _held(observed, role, bounds[role].min) for role in Role}


def _held(observed: Observed, role: Role, at_first: int) -> int:
    """Workers as they are: those that carry their label, and those that the Deployment has yet to make.

    The labels count for more than the Deployment's replicas, which fall a moment before a drained pod is gone.
    """
    deployment = observed.deployment(role)
    if deployment is None:
        return at_first
    replicas: int = deployment["spec"]["replicas"]
    labelled = sum(w.labelled for w in observed.workers[role])
    return max(labelled, replicas - (len(observed.workers[role]) - labelled))


def _rolling(deployment: Json | None) -> bool:
    """Whether the Deployment is replacing pods of an older template."""
    status = (deployment or {}).get("status", {})
    return bool(status.get("replicas", 0) != status.get("updatedReplicas", 0))
