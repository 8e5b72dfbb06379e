"""Workers that change their role: the writes and requests of each step (`dopd.rollout.flip` says which).

A prefill worker whose engine began anew has the same last steps: it loses its label, and has it back once it has
answered with each partner (`dopd.reconcile.proving`).

What a worker is on its way to stands on its pod. Here is kept only what may be found out again: since when an engine is
idle, a request that is under way, how often a canary failed. An operator that begins anew waits a second longer.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from dopd.api.names import (
    BOOTSTRAP_PORT_ANNOTATION,
    DRAINING_SINCE,
    FLIP_TO,
    KEEPS_ROLE,
    POOL_LABEL,
    PROVING,
    REVISION_LABEL,
    ROLE_LABEL,
    SERVING_LABEL,
    Role,
)
from dopd.cluster import ApiError, Kubernetes, PodPost, PostWithKey, kinds
from dopd.reconcile import metrics
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.moved import Told
from dopd.reconcile.observe import Observed
from dopd.reconcile.proving import Proof, prove
from dopd.reconcile.queue import Key
from dopd.reconcile.stored import rfc3339
from dopd.rollout import Act, PoolStep, Side, Turn, Worker, next_act
from dopd.rollout.flip import MOST_FAILURES
from dopd.telemetry.role_switch import Switched, switch_role

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]


@dataclass
class _Memory:
    """What is remembered of one pod."""

    idle_since: float | None = None
    task: asyncio.Task[Switched] | None = None
    answer: Switched = field(default_factory=lambda: Switched(done=False))
    failures: int = 0
    silent: int = 0
    why: str = ""


@dataclass
class Turned:
    """What one pass did to workers that change their role.

    Attributes:
        steps: those of the pools, without labels for workers that are not proved.
        told: what a person should know.
        failed: writes that the API server refused, in words.
    """

    steps: dict[Role, PoolStep]
    told: list[Told] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)


class Turns:
    """Brings workers from one role to the other.

    Args:
        kubernetes: where to write.
        http: the way to the engines.
        clock: of durations, seconds.
    """

    def __init__(self, kubernetes: Kubernetes, http: PodPost, clock: Callable[[], float]) -> None:
        self._kubernetes, self._http, self._clock = kubernetes, http, clock
        self._memory: dict[str, _Memory] = {}
        self._uids: dict[tuple[str, str], set[str]] = {}

    def forget(self, namespace: str, name: str) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._keep((namespace, name), set())

    def busy(self, namespace: str, name: str) -> bool:
        """Whether anything is under way with a pod of a resource, or is held against it."""
        known = [self._memory[uid] for uid in self._uids.get((namespace, name), ()) if uid in self._memory]
        return any(one.task or one.failures or one.silent or one.idle_since is not None for one in known)

    async def step(
        self,
        observed: Observed,
        sides: Mapping[Role, Side],
        steps: Mapping[Role, PoolStep],
        now: datetime,
        deadline_seconds: float,
    ) -> Turned:
        """One step of each worker that changes its role, and a canary of those that are about to serve.

        Args:
            observed: the look at the cluster.
            sides: its workers, with times on the clock of durations.
            steps: what the pools do.
            now: the time, for annotations.
            deadline_seconds: for a worker to become idle and be told.
        """
        owner = observed.owner
        turned = Turned(dict(steps))
        self._keep((owner.namespace, owner.name), {_uid(pod) for role in Role for pod in observed.pods[role]})
        for role, pod, worker in list(self._concerned(observed, sides, now.timestamp())):
            step = steps.get(role)
            if step is None:
                continue
            name = pod["metadata"]["name"]
            try:
                if worker.labelled and name not in step.leave and pod_reading.began_anew(pod, now.timestamp()):
                    await self._take_out(observed, pod, now, turned)
                    continue
                if self._suspected(pod) and worker.labelled and worker.ready:
                    await self._blame(await prove(self._http, observed, role, pod), turned, pod)
                if name in step.flip:
                    await self._begin(observed, pod, role, worker, now, turned)
                elif name in step.serve and not await self._proved(observed, role, pod, turned):
                    serve = tuple(each for each in turned.steps[role].serve if each != name)
                    turned.steps[role] = replace(turned.steps[role], serve=serve)
                elif name in step.serve and worker.turning:
                    self._tell_changed(observed, role, worker, turned)
                if name not in step.leave and pod_reading.convertible(pod):
                    await self._go_on(observed, role, pod, worker, now, deadline_seconds, turned)
            except ApiError as error:
                turned.failed.append(f"role of pod {name}: {error.message}")
        return turned

    def _keep(self, key: tuple[str, str], uids: set[str]) -> None:
        for gone in self._uids.get(key, set()) - uids:
            memory = self._memory.pop(gone, None)
            if memory and memory.task:
                memory.task.cancel()
        self._uids[key] = uids
        if not uids:
            del self._uids[key]

    async def _begin(
        self, observed: Observed, pod: Json, role: Role, worker: Worker, now: datetime, turned: Turned
    ) -> None:
        memory = self._memory.get(_uid(pod))
        if memory and memory.task is not None and not memory.task.done():
            return  # its engine is changing already; what it is then is known after that
        to = role.other
        meta = pod["metadata"]
        since = meta.get("annotations", {}).get(DRAINING_SINCE) if ROLE_LABEL not in meta["labels"] else None
        annotations: Json = {FLIP_TO: to, DRAINING_SINCE: since or rfc3339(now)}
        if to is Role.PREFILL and worker.in_role is not False:  # one that goes back in time is prefill still
            annotations[BOOTSTRAP_PORT_ANNOTATION] = str(pod_reading.fresh_bootstrap_port(pod))
        await self._patch(observed, pod, {ROLE_LABEL: None, SERVING_LABEL: None}, annotations)
        self._memory.pop(_uid(pod), None)
        turned.told.append(Told("RoleChange", f"pod {meta['name']} changes from {role} to {to}"))

    async def _take_out(self, observed: Observed, pod: Json, now: datetime, turned: Turned) -> None:
        """A prefill engine that began anew gets nothing until its partners are known to find it."""
        meta, starts = pod["metadata"], str(pod_reading.starts_anew(pod))
        annotations: Json = {PROVING: starts, DRAINING_SINCE: rfc3339(now)}
        port = pod_reading.fresh_bootstrap_port(pod) if pod_reading.convertible(pod) else None
        if port is not None:
            annotations[BOOTSTRAP_PORT_ANNOTATION] = str(port)
        await self._patch(observed, pod, {ROLE_LABEL: None, SERVING_LABEL: None}, annotations)
        self._memory.pop(_uid(pod), None)
        words = f"the engine of pod {meta['name']} began anew; it serves again once it has answered with its partners"
        turned.told.append(Told("EngineBeganAnew", words, warning=True))

    async def _go_on(
        self,
        observed: Observed,
        role: Role,
        pod: Json,
        worker: Worker,
        now: datetime,
        deadline_seconds: float,
        turned: Turned,
    ) -> None:
        name, memory = worker.name, self._look(pod, worker)
        turn = Turn(
            worker,
            settled=pod["metadata"]["labels"].get(POOL_LABEL) == role,
            idle_seconds=memory.idle_since,
            asked=memory.task is not None,
            refused=memory.answer.refused,
            restorable=memory.answer.restorable,
            failures=memory.failures,
        )
        if not worker.turning and worker.in_role is not False and not memory.failures:
            return
        act = next_act(turn, self._clock(), deadline_seconds)
        if act is Act.WITHDRAW:
            changes = {ROLE_LABEL: None, SERVING_LABEL: None}
            port = pod_reading.fresh_bootstrap_port(pod) if role is Role.PREFILL else None
            fresh = {BOOTSTRAP_PORT_ANNOTATION: str(port)} if port else {}
            await self._patch(observed, pod, changes, {FLIP_TO: role, DRAINING_SINCE: rfc3339(now), **fresh})
            told = f"pod {name} lost its label {role}: its engine is in the other role"
            turned.told.append(Told("RoleDiffers", told, warning=True))
        elif act is Act.SWITCH:
            graph_gb = max((load.graph_gb for load in observed.loads.values()), default=0.0)
            http = PostWithKey(self._http, observed.api_key)
            memory.task = asyncio.create_task(switch_role(http, pod, role, graph_gb))
        elif act is Act.SETTLE:
            # Gateways select by revision, too: what it is made from is called otherwise in this role.
            await self._patch(observed, pod, {POOL_LABEL: role, REVISION_LABEL: worker.revision}, {})
        elif act is Act.BACK:
            why = memory.answer.refused
            await self._patch(observed, pod, {}, {FLIP_TO: None, KEEPS_ROLE: why})
            turned.told.append(Told("RoleChangeRefused", f"pod {name} stays what it was: {why}", warning=True))
            self._count(observed, role, "refused")
        elif act is Act.RESTART:
            why = memory.why or memory.answer.refused or f"it did not change within {deadline_seconds:g} s"
            await self._replace(pod, why, turned)
            self._count(observed, role, "replaced")

    def _look(self, pod: Json, worker: Worker) -> _Memory:
        """What is remembered, with what this look adds."""
        memory = self._memory.setdefault(_uid(pod), _Memory())
        if memory.task is not None and memory.task.done():
            task, memory.task = memory.task, None
            memory.answer = task.result()
            if not memory.answer.done:
                memory.idle_since = None  # asked again after it was idle for a while anew
        idle = worker.registered is False and worker.idle is True and not worker.labelled
        if not idle:
            memory.idle_since = None
        elif memory.idle_since is None:
            memory.idle_since = self._clock()
        return memory

    async def _proved(self, observed: Observed, role: Role, pod: Json, turned: Turned) -> bool:
        """Whether a worker answers together with each partner that is not known to answer nobody."""
        proof = await prove(self._http, observed, role, pod)
        await self._blame(proof, turned)
        memory = self._memory.setdefault(_uid(pod), _Memory())
        if proof.verdict.proved:
            memory.failures = 0
            return True
        memory.failures += 1
        name, partner = pod["metadata"]["name"], proof.verdict.own[0]
        memory.why = f"pods {name} and {partner} do not answer together: {proof.why[partner]}"
        turned.told.append(Told("PairBroken", memory.why, warning=True))
        port = pod_reading.fresh_bootstrap_port(pod) if pod_reading.convertible(pod) else None
        if role is Role.PREFILL and pod_reading.convertible(pod):
            if port is None:
                memory.failures = MOST_FAILURES
            else:
                await self._patch(observed, pod, {}, {BOOTSTRAP_PORT_ANNOTATION: str(port)})
        if not pod_reading.convertible(pod) and memory.failures >= MOST_FAILURES:
            await self._replace(pod, memory.why, turned)
        return False

    async def _blame(self, proof: Proof, turned: Turned, suspect: Json | None = None) -> None:
        """Engines that answer with nobody, time and again, are started anew; one that answers with somebody is well.

        Args:
            proof: of one worker.
            turned: told of it.
            suspect: that worker, where it serves and was found silent by another one.
        """
        pods, told = dict(proof.partners), proof.verdict
        well, silent = list(told.well), {name: proof.why[name] for name in told.silent}
        if suspect is not None:
            name = suspect["metadata"]["name"]
            pods[name] = suspect
            if told.well and len(told.own) + len(told.silent) == len(proof.partners):
                silent[name] = proof.why[told.own[0]]
            else:
                well.append(name)
        for name in well:
            if known := self._memory.get(_uid(pods[name])):
                known.silent = 0
        for name, problem in silent.items():
            memory = self._memory.setdefault(_uid(pods[name]), _Memory())
            memory.silent += 1
            why = f"pod {name} answers with no partner: {problem}"
            turned.told.append(Told("EngineSilent", why, warning=True))
            if memory.silent >= MOST_FAILURES:
                await self._replace(pods[name], why, turned)

    def _suspected(self, pod: Json) -> bool:
        known = self._memory.get(_uid(pod))
        return known is not None and known.silent > 0

    async def _replace(self, pod: Json, why: str, turned: Turned) -> None:
        meta = pod["metadata"]
        await self._kubernetes.delete(kinds.POD, meta["namespace"], meta["name"], meta["uid"])
        turned.told.append(Told("EngineReplaced", f"pod {meta['name']} is replaced: {why}", warning=True))

    def _concerned(
        self, observed: Observed, sides: Mapping[Role, Side], now_seconds: float
    ) -> Iterator[tuple[Role, Json, Worker]]:
        """Workers that may change their role, whose engine began anew, or that did not answer their partners."""
        for role in Role:
            for pod, worker in zip(observed.pods[role], sides[role].workers, strict=True):
                anew = worker.proving or pod_reading.began_anew(pod, now_seconds)
                if anew or pod_reading.convertible(pod) or self._suspected(pod):
                    yield role, pod, worker

    def _tell_changed(self, observed: Observed, role: Role, worker: Worker, turned: Turned) -> None:
        seconds = self._clock() - (worker.draining_since_seconds or self._clock())
        turned.told.append(Told("RoleChanged", f"pod {worker.name} is {role}, {seconds:.0f} s after its label went"))
        self._count(observed, role, "changed")
        key = Key(observed.owner.namespace, observed.owner.name)
        metrics.SERIES.of(metrics.ROLE_CHANGE_SECONDS, key, role).set(seconds)

    def _count(self, observed: Observed, role: Role, outcome: str) -> None:
        owner = observed.owner
        metrics.ROLE_CHANGES.labels(owner.namespace, owner.name, role, outcome).inc()

    async def _patch(self, observed: Observed, pod: Json, labels: Json, annotations: Json) -> None:
        name, namespace = pod["metadata"]["name"], observed.owner.namespace
        metadata = {part: change for part, change in (("labels", labels), ("annotations", annotations)) if change}
        _LOG.info("pod %s/%s: %s", namespace, name, metadata)
        await self._kubernetes.merge_patch(kinds.POD, namespace, name, {"metadata": metadata})


def _uid(pod: Json) -> str:
    return str(pod["metadata"]["uid"])
