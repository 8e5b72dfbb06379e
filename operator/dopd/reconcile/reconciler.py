"""One pass over one resource: look, plan, act a step, report.

A pass is level-based: it starts from what is there, not from what happened, and every write it makes brings the cluster
closer to the spec whatever came before. So it may be killed between any two writes, and two passes in a row write once.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from dopd.api.base import seconds
from dopd.api.conditions import ConditionReason, ConditionStatus, ConditionType
from dopd.api.inference import DisaggregatedInferenceSpec, Scaling, ScalingMode
from dopd.api.names import ROUTER_POOL, Role
from dopd.autoscaler.external import as_asked
from dopd.cluster import Kubernetes, PodAccess, kinds
from dopd.cluster.fence import Writes, counted
from dopd.planning import PerRole, Policy
from dopd.reconcile import metrics
from dopd.reconcile.act import Actor
from dopd.reconcile.backlog import BacklogWatch
from dopd.reconcile.conditions import Finding, findings, plan_findings
from dopd.reconcile.external import asked_workers, scale_names, write_scales
from dopd.reconcile.gateway_watch import GatewayWatch, differences, doors
from dopd.reconcile.gateways import answers_unready, kept_gateways, named, serving_gateways
from dopd.reconcile.gpu_pools import GpuPools, want_of
from dopd.reconcile.grants import Grant, limited_plan
from dopd.reconcile.kept_lists import KeptLists
from dopd.reconcile.leadtimes import LeadTimes
from dopd.reconcile.moved import Moved
from dopd.reconcile.mover import Mover
from dopd.reconcile.observe import Observed, look_again, observe, wants_scales
from dopd.reconcile.pods import Trouble
from dopd.reconcile.prompt_order import order_settings, serves_on_time_first
from dopd.reconcile.queue import Key
from dopd.reconcile.quiet import is_quiet, same_look
from dopd.reconcile.refusals import failed
from dopd.reconcile.report import Reporter
from dopd.reconcile.rest import Began, Plan, Rest, Rests, same_plan, same_words
from dopd.reconcile.scaling import Planned, ScalingLoop, recorder
from dopd.reconcile.stand_ins import write_stand_ins
from dopd.reconcile.status import stored_leads, stored_miss
from dopd.reconcile.stored import stored_asleep, stored_status
from dopd.reconcile.timing import STAGE_SECONDS, SteadyClock
from dopd.reconcile.worker_pods import kept
from dopd.rollout import NO_FLIPS, Flips, repair
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

MOST_FLIPS = 1000
"""Without a plan: beyond what any resource has."""

_MOVING = (
    ConditionType.READY,
    ConditionType.WORKERS_AVAILABLE,
    ConditionType.ROUTER_IN_SYNC,
)
_ROLLING = (ConditionReason.ROLLING_OUT, ConditionReason.ROLLOUT_OUTAGE, ConditionReason.ADOPTING)
"""A rollout that waits for a person or for pods goes on at their events."""


def _in_a_thread() -> Callable[[str], Executor]:
    executor = ThreadPoolExecutor(1, "forecasts")
    return lambda _: executor


@dataclass
class Reconciler:
    """Brings resources to their specs, one pass at a time.

    Attributes:
        now: the wall clock.
        monotonic: seconds that no step of it moves.
        prometheus_labels: that the series of the operator's own Prometheus must carry.
        record_folder: where what autoscalers are told and decide is written down; None for nowhere.
        executor_of: what does the slow parts of the forecasts of a namespace's resources.
        closed: gateways let nobody but the operator write to their list of workers. False where the operator can send
            them no key: outside the cluster.
        namespaces: that this operator watches; empty for all.
        lists: of children that are kept from pass to pass, where watches tell of changes; None where nothing watches,
            and so no resource is at rest.
        backlogs: what looks at the engines between two passes; run it beside the passes.
        pools: what GpuPools give; tell it how to make a resource due.
    """

    kubernetes: Kubernetes
    http: PodAccess
    prometheus_url: str = ""
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    monotonic: Callable[[], float] = time.monotonic
    loads: LoadReader = field(default_factory=LoadReader)
    prometheus_labels: Mapping[str, str] = field(default_factory=dict)
    executor_of: Callable[[str], Executor] = field(default_factory=_in_a_thread)
    record_folder: Path | None = None
    closed: bool = True
    namespaces: Sequence[str] = ()
    lists: KeptLists | None = None
    _loops: dict[Key, ScalingLoop] = field(default_factory=dict)
    _paces: dict[Key, "Pace"] = field(default_factory=dict)
    _lead_times: dict[Key, LeadTimes] = field(default_factory=dict)
    _scales: dict[Key, bool] = field(default_factory=dict)
    """Whether a resource may have WorkerScales: at its last look it had some, or wanted them."""

    def __post_init__(self) -> None:
        self._actor = Actor(self.kubernetes, self.monotonic, closed=self.closed)
        self._reporter = Reporter(self.kubernetes)
        self._clock = SteadyClock(lambda: self.now().timestamp(), self.monotonic)
        self._mover = Mover(self.kubernetes, self.http, self._clock)
        self._gateways = GatewayWatch()
        self._rests = Rests(self.lists, self.monotonic)
        self.backlogs = BacklogWatch(self.http, self._clock.now)
        self._orders = PromptOrderReader(self.http, self._clock.now)
        self.pools = GpuPools(self.kubernetes, self.monotonic, self.namespaces)

    async def reconcile(self, key: Key) -> float | None:
        """One pass; seconds until the next is due, None when the resource is gone.

        Raises:
            Exception: a part of the pass failed. The rest was done, and the resource's condition Reconciled tells it.
        """
        delay, ahead = None, None
        with contextlib.suppress(Exception):  # of whatever it is, a whole pass meets it, too, and tells it
            async with asyncio.timeout(PASS_SECONDS):
                delay, ahead = await self._at_rest(key)
        if delay is not None:
            return delay
        began = self._rests.begin(key)
        resource = await self.kubernetes.get(kinds.INFERENCE, key.namespace, key.name)
        if resource is None or "deletionTimestamp" in resource["metadata"]:
            self.leave(key)
            return None
        try:
            async with asyncio.timeout(PASS_SECONDS):
                with counted() as writes:
                    return await self._pass(key, resource, began, writes, ahead)
        except _Reported as reported:
            raise reported.error from None
        except Exception as error:
            await self._reporter.report_failure(resource, failed("the pass", error), self.now())
            raise

    def look_anew(self, key: Key) -> None:
        """The next pass asks gateways and engines, however young the last look is."""
        self._rests.look_anew(key)

    async def _at_rest(self, key: Key) -> tuple[float | None, "_Ahead | None"]:
        """A pass over a resource at rest.

        Returns:
            Seconds until the next is due; None where there may be something to do, which a whole pass finds out, with
            the plan if it came to one. A second plan of the same moment would say that nothing is new.
        """
        rest, loop = self._rests.of(key), self._loops.get(key)
        if rest is None or loop is None:
            return None, None
        observed = self._rests.look(key) if loop.reads else None
        if observed is None:
            with STAGE_SECONDS.labels("observe").time():
                observed = await look_again(self.http, self._orders, rest.observed)
            self._rests.looked(key, observed)
        if not same_look(rest.observed, observed):
            return None, None
        planned = await self._plan(key, observed, rest.spec)
        if planned is None:
            return None, None
        plan = _plan_of(observed, rest.spec, planned)
        if self._rests.of(key) is not rest or not same_plan(rest, plan):
            return None, _Ahead(rest.spec, planned)
        told = plan_findings(observed, rest.spec, planned)
        if same_words(rest, plan, told):
            metrics.report_plan(key, planned)
        else:
            await self._tell(key, rest, observed, plan, told)
        self._lead_times[key].nothing_new(self._clock.now())
        return self._next(key, rest.found), None

    async def _tell(self, key: Key, rest: Rest, observed: Observed, plan: Plan, told: Sequence[Finding]) -> None:
        """Of a resource at rest, say in the status what is new by the plan alone."""
        found = [*rest.found, *told]
        with STAGE_SECONDS.labels("report").time():
            observed = replace(observed, resource=rest.observed.resource)  # of which the status may be newer
            stored = await self._reporter.report(observed, found, plan.targets, plan.planned, self.now(), rest.moved)
        self._rests.told(key, rest, stored)
        metrics.report(key, observed, plan.targets, plan.planned, found)

    async def _pass(
        self, key: Key, resource: Json, began: Began, writes: Writes, ahead: "_Ahead | None" = None
    ) -> float:
        with STAGE_SECONDS.labels("observe").time():
            observed = self._with_leads(key, await self._look(key, resource))
        if observed.spec is None:
            self._stop_scaling(key)
            await self._reporter.report(observed, findings(observed, (), None, {}), {}, None, self.now())
            return RESYNC_SECONDS
        planned, error = None, None
        try:
            if ahead is not None and ahead.spec is observed.spec:
                planned = ahead.planned
            else:
                planned = await self._plan(key, observed, observed.spec)
        except Exception as problem:  # what there is goes on, and what the spec says is made
            error = problem
        targets = _targets(observed, observed.spec, planned)
        grant = await self._grant(key, observed, observed.spec, targets)
        if grant is not None:
            targets, planned = grant.targets, limited_plan(planned, grant)
        lasting = self._gateways.lasting(key, differences(observed), self._clock.now())
        with STAGE_SECONDS.labels("act").time():
            moved, refused = await self._act(key, observed, observed.spec, targets, planned, grant)
        troubles = [*moved.troubles, *refused]
        if error:
            troubles.append(failed("the plan", error))
        found = findings(observed, troubles, planned, targets, moved, lasting, grant)
        wrote = writes.count
        with STAGE_SECONDS.labels("report").time():
            stored = await self._reporter.report(observed, found, targets, planned, self.now(), moved, grant)
        metrics.report(key, observed, targets, planned, found)
        if error:
            raise _Reported(error)
        if planned and not wrote and is_quiet(observed, moved, found) and not self._busy(key):
            plan = _plan_of(observed, observed.spec, planned)
            self._rests.keep(key, began, observed, plan, moved, found, stored)
        return self._next(key, found)

    def _busy(self, key: Key) -> bool:
        """Whether anything is under way, or to be tried again, that the cluster does not tell."""
        refused = self._actor.seconds_until_retry(key) is not None
        return refused or self._mover.busy(key) or key not in self._loops

    async def _look(self, key: Key, resource: Json) -> Observed:
        scales = self._scales.get(key, True)  # unknown to an operator that begins
        observed = await observe(
            self.kubernetes, self.http, self._orders, key, resource, closed=self.closed, scales=scales, lists=self.lists
        )
        there = any(kind == kinds.WORKER_SCALE.kind for kind, _ in observed.children)
        self._scales[key] = there or wants_scales(observed.spec)
        return observed

    def _with_leads(self, key: Key, observed: Observed) -> Observed:
        if key not in self._lead_times:
            self._lead_times[key] = LeadTimes(stored_leads(observed.resource))
        wall_seconds = self.now().timestamp()
        leads = self._lead_times[key].look(observed.lead_looks(), self._clock.now(), wall_seconds)
        return replace(observed, leads=leads)

    async def _grant(
        self, key: Key, observed: Observed, spec: DisaggregatedInferenceSpec, targets: dict[Role, int]
    ) -> Grant | None:
        if spec.gpu_pool is None:
            self.pools.forget(key)
            return None
        return await self.pools.turn(want_of(key, observed, spec, targets, self.now()), self.now())

    def leave(self, key: Key) -> None:
        """A resource is gone, or another operator acts for it from now on."""
        self._stop_scaling(key)
        self._rests.forget(key)
        if self.lists:
            self.lists.forget(key)
        self.pools.forget(key)
        self._actor.forget(key)
        self._mover.forget(key)
        self._gateways.forget(key)
        self._reporter.forget(key)
        self._paces.pop(key, None)
        self._lead_times.pop(key, None)
        self._scales.pop(key, None)
        metrics.forget(key)

    async def _plan(self, key: Key, observed: Observed, spec: DisaggregatedInferenceSpec) -> Planned | None:
        if spec.scaling is None or spec.scaling.mode is ScalingMode.PAUSED:
            self._stop_scaling(key)
            return None
        if spec.scaling.mode is ScalingMode.EXTERNAL:
            self._stop_scaling(key)
            held = _held_pair(observed, spec.scaling)
            asked = asked_workers(observed, held)
            policy = Policy.from_spec(spec, self.now().timestamp())
            before = (held[Role.PREFILL], held[Role.DECODE])
            return Planned(as_asked(asked, before, policy), asked=asked)
        loop = self._loops.get(key)
        if loop is None:
            loop = self._loops[key] = ScalingLoop(
                key,
                self.loads,
                self.executor_of(key.namespace),
                stored_miss(observed.resource),
                lambda _: self._clock.now(),
                recorder(self.record_folder, key) if self.record_folder else None,
                asleep=stored_asleep(observed.resource),
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
            spec,
            observed.measured_model,
            url,
            counts,
            leads,
            engines,
            now_seconds,
            gateways,
            labels,
            ordered,
            observed.requests,
        )
        behavior = spec.scaling.behavior
        if (every_seconds := seconds(behavior.queue_interval)) < seconds(behavior.interval):
            self.backlogs.watch(key, observed, loop, every_seconds)
        else:  # passes look as often
            self.backlogs.forget(key)
        return planned

    def _stop_scaling(self, key: Key) -> None:
        self.backlogs.forget(key)
        loop = self._loops.pop(key, None)
        if loop:
            loop.stop()

    async def _act(
        self,
        key: Key,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        targets: dict[Role, int],
        planned: Planned | None,
        grant: Grant | None,
    ) -> tuple[Moved, list[Trouble]]:
        moved = await self._mover.move(key, observed, spec, targets, self.now(), _flips(spec, planned), grant)
        placed = moved.placed(targets)
        should = Targets(placed[Role.PREFILL], placed[Role.DECODE], unready=answers_unready(observed, targets))
        settings = partial(order_settings, observed, spec, planned)
        overdue = self._gateways.overdue(key, self._clock.now())
        repaired = repair(doors(observed, differences(observed), overdue), moved.gateways or {})
        others = kept(observed, moved.revisions) | kept_gateways(observed, moved.gateways)
        troubles = []
        if planned and planned.asked:
            others |= scale_names(observed)
            troubles = await write_scales(self.kubernetes, observed, targets)
        gateways = named(observed, repaired.replicas)
        troubles += await self._actor.apply(observed, spec, should, gateways, settings, others)
        self._gateways.repaired(key, len(repaired.delete), self._clock.now())
        troubles += await write_stand_ins(self.http, observed)
        return moved, troubles + await self._actor.replace(observed, repaired.delete)

    def _next(self, key: Key, found: list[Finding]) -> float:
        settled = not any(map(_moving, found))
        delay = RESYNC_SECONDS if settled else self._paces.setdefault(key, Pace()).pause(found, self._clock.now())
        for retry in (self._actor.seconds_until_retry(key), self._mover.pods.seconds_until_retry(key)):
            if retry is not None:
                delay = min(delay, max(MOVING_SECONDS, retry))
        loop = self._loops.get(key)
        if loop:
            delay = min(delay, max(0.1, loop.seconds_until_due(self.now().timestamp())))
        return delay


def _moving(finding: Finding) -> bool:
    """Whether what it tells may change without an event."""
    if finding.type is ConditionType.ROLLED_OUT:
        return finding.reason in _ROLLING
    return finding.type in _MOVING and finding.status is not ConditionStatus.TRUE


@dataclass(frozen=True)
class _Ahead:
    """A plan that a pass at rest made, of a spec, and that a whole one goes on with."""

    spec: DisaggregatedInferenceSpec
    planned: Planned


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
    decision = planned.decision if planned else None
    if spec.scaling.mode in (ScalingMode.AUTO, ScalingMode.EXTERNAL) and decision:
        return {Role.PREFILL: decision.prefill, Role.DECODE: decision.decode}
    return _held_pair(observed, spec.scaling)


def _plan_of(observed: Observed, spec: DisaggregatedInferenceSpec, planned: Planned) -> Plan:
    return Plan(planned, _targets(observed, spec, planned), _flips(spec, planned))


def _held_pair(observed: Observed, scaling: Scaling) -> dict[Role, int]:
    bounds = {Role.PREFILL: scaling.prefill, Role.DECODE: scaling.decode}
    return {role: _held(observed, role, bounds[role].min) for role in Role}


def _flips(spec: DisaggregatedInferenceSpec, planned: Planned | None) -> Flips:
    """Workers that may change to a role: as the plan says, and as many as it takes where others set the numbers."""
    if spec.role_switching is None or not spec.role_switching.enabled:
        return NO_FLIPS
    if spec.scaling is None or (planned and planned.asked):
        return dict.fromkeys(Role, MOST_FLIPS)
    flips = planned.decision.flips if planned and planned.decision else 0
    return {Role.PREFILL: max(flips, 0), Role.DECODE: max(-flips, 0)}


def _held(observed: Observed, role: Role, at_first: int) -> int:
    """Workers as they were last meant to be: as the status says, else as many as carry their label."""
    status = stored_status(observed.resource)
    of_role = status.prefill if role is Role.PREFILL else status.decode
    if of_role:
        return of_role.desired
    return sum(worker.labelled for worker in observed.workers[role]) or at_first
