"""The workers of a resource as pods: what they are made from, and the writes of one step.

A template is shown to the API server before any worker leaves for it: one that is refused costs no worker. What was
accepted is kept (see `workloads.revisions`), and made again while the next one is refused or does not come up.
"""

import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from itertools import zip_longest
from typing import Any

from dopd.api.conditions import ConditionReason
from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import DRAINING_SINCE, FLIP_TO, PROVED, PROVING, ROLE_LABEL, SERVING_LABEL, Role
from dopd.cluster import ApiError, Kubernetes, kinds
from dopd.cluster.backoff import Backoff
from dopd.reconcile import pods as pod_reading
from dopd.reconcile.group_writes import GroupWrites
from dopd.reconcile.groups import Group, group_of
from dopd.reconcile.observe import Observed, belongs
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.refusals import (
    FIRST_PAUSE_SECONDS,
    LONGEST_PAUSE_SECONDS,
    no_groups,
    over_quota,
    refusal,
    taken,
)
from dopd.reconcile.stored import rfc3339
from dopd.rollout import PoolStep
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.groups import group_pods, worker_group
from dopd.workloads.refusal import Refusal
from dopd.workloads.revisions import Revision, new_names, revision_of, stored_revision, worker_pod

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
_At = tuple[Key, Role, str]
"""What is refused: the template of a role, or the start of a pod of it."""

KEPT_REVISIONS = 3
"""Revisions of a role that are kept, beside those that workers are of."""


class WorkerPods:
    """Writes the workers of resources.

    Args:
        kubernetes: where to.
        clock: monotonic seconds.
    """

    def __init__(self, kubernetes: Kubernetes, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._groups = GroupWrites(kubernetes)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, clock)
        self._refused: dict[_At, tuple[str, Trouble]] = {}
        self._wanted: dict[tuple[Key, Role], tuple[Owner, DisaggregatedInferenceSpec, str]] = {}
        """Name of the revision that a spec makes: `read_spec` hands out the same one while it says the same."""

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        for at in [at for at in self._refused if at[0] == key]:
            self._accepted(at)
        for role in Role:
            self._wanted.pop((key, role), None)

    def seconds_until_retry(self, key: Key) -> float | None:
        """Time until what was refused is tried again; None when nothing was."""
        return min((self._pauses.seconds_left(of) for of in self._refused if of[0] == key), default=None)

    async def choose(
        self, observed: Observed, spec: DisaggregatedInferenceSpec
    ) -> tuple[dict[Role, Revision], list[Trouble]]:
        """What the workers of each role are to be made from; a role is absent while there is nothing.

        Returns:
            Revisions by role, and what keeps them from being those of the spec.
        """
        chosen, troubles = {}, []
        for role in Role:
            revision, trouble = await self._choose(observed, spec, role)
            if revision:
                chosen[role] = revision
            if trouble:
                troubles.append(trouble)
        return chosen, troubles

    async def _choose(
        self, observed: Observed, spec: DisaggregatedInferenceSpec, role: Role
    ) -> tuple[Revision | None, Trouble | None]:
        kept = observed.revisions(role)
        newest = next(iter(kept), None)
        owner = observed.owner
        of = (Key(owner.namespace, owner.name), role)
        known_owner, known_spec, name = self._wanted.get(of, (None, None, ""))
        if newest and spec is known_spec and owner == known_owner and newest.name == name != rejected(observed, role):
            return newest, None
        try:
            wanted = revision_of(owner, role, worker_template(owner, spec, role))
        except Refusal as fault:
            message = f"Pods {observed.owner.child_name(role)} stay as they are: {fault}"
            return newest, Trouble(ConditionReason.SPEC_REFUSED, message)
        self._wanted[of] = (owner, spec, wanted.name)
        if wanted.name == rejected(observed, role):
            return next((revision for revision in kept if revision.name != wanted.name), wanted), None
        if newest and newest.name == wanted.name:
            return newest, None
        try:
            number = max(observed.resource["metadata"].get("generation", 0), newest.number + 1 if newest else 0)
            return await self._keep(observed, spec, role, Revision(wanted.name, wanted.template, number)), None
        except _NotAccepted as error:
            return newest, error.trouble

    async def _keep(
        self, observed: Observed, spec: DisaggregatedInferenceSpec, role: Role, revision: Revision
    ) -> Revision:
        """Show a template to the API server, and keep it.

        Raises:
            _NotAccepted: it is refused, or was a moment ago.
        """
        if revision.nodes > 1 and not observed.groups_known:
            raise _NotAccepted(Trouble(ConditionReason.NO_LEADER_WORKER_SETS, no_groups(spec)))
        at = (Key(observed.owner.namespace, observed.owner.name), role, "template")
        before = self._refused.get(at)
        if before and before[0] == revision.name and self._pauses.seconds_left(at):
            raise _NotAccepted(before[1])
        if not before or before[0] != revision.name:
            self._pauses.succeeded(at)
        name = f"{observed.owner.child_name(role)}-{revision.name}-new"
        manifest = stored_revision(observed.owner, role, revision)
        try:
            for kind, asked in _would_be(observed.owner, role, revision, name):
                await self._shown(kind, asked)
            await self._kubernetes.apply(kinds.CONTROLLER_REVISION, manifest)
        except ApiError as error:
            trouble = refusal(f"Pods {observed.owner.child_name(role)}: what they are to be made from", error)
            self._pauses.failed(at)
            self._refused[at] = (revision.name, trouble)
            raise _NotAccepted(trouble) from error
        self._accepted(at)
        return revision

    async def _shown(self, kind: kinds.Kind, asked: Json) -> None:
        """Ask whether a worker would be accepted, but for a quota, which does not know that another leaves before.

        Raises:
            ApiError: it would not.
        """
        try:
            await self._kubernetes.create(kind, asked, dry_run=True)
        except ApiError as error:
            if not over_quota(error):
                raise

    async def carry_out(
        self,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        steps: Mapping[Role, PoolStep],
        revisions: Mapping[Role, Revision],
        now: datetime,
    ) -> list[Trouble]:
        """Write what the steps say: labels, then deletions, then starts."""
        troubles: list[Trouble] = []
        for role, step in steps.items():
            for group in filter(None, map(group_of, observed.pods[role])):
                await self._tried(troubles, f"LeaderWorkerSet {group.name}", self._groups.keep(observed.owner, group))
            for name in sorted(_listed(observed, role) - {*step.drain}):
                await self._tried(troubles, f"label of pod {name}", self._listed(observed, name))
        for role, step in steps.items():
            for name in (*step.serve, *step.drain):
                await self._tried(
                    troubles, f"label of pod {name}", self._label(observed, name, name in step.serve, now)
                )
            leaving = {*step.release, *(pod["metadata"]["name"] for pod in observed.finished[role])}
            for pod in (*observed.pods[role], *observed.finished[role]):
                if pod["metadata"]["name"] in leaving:
                    await self._tried(troubles, f"deletion of pod {pod['metadata']['name']}", self._delete(pod))
        for role, step in steps.items():
            if step.create and role in revisions:
                troubles += await self._start(observed, spec, role, revisions[role], step)
        return troubles

    async def _tried(self, troubles: list[Trouble], what: str, write: Any) -> None:
        try:
            await write
        except ApiError as error:
            troubles.append(Trouble(ConditionReason.API_FAILED, f"{what}: {error.message}"))

    async def _label(self, observed: Observed, name: str, serve: bool, now: datetime) -> None:
        pod = next(p for r in Role for p in observed.pods[r] if p["metadata"]["name"] == name)
        pool = pod_reading.pool(pod)
        if group := _group(observed, name):
            await self._groups.label(observed.owner, group, pool if serve else None, rfc3339(now))
            return
        metadata: Json = {
            "labels": {ROLE_LABEL: pool} if serve else {ROLE_LABEL: None, SERVING_LABEL: None},
            "annotations": {DRAINING_SINCE: None if serve else rfc3339(now), FLIP_TO: None},
        }
        if serve and pod_reading.proving(pod):
            metadata["annotations"] |= {PROVING: None, PROVED: str(pod_reading.starts_anew(pod))}
        _LOG.info("pod %s/%s: %s", observed.owner.namespace, name, metadata)
        await self._kubernetes.merge_patch(kinds.POD, observed.owner.namespace, name, {"metadata": metadata})

    async def _listed(self, observed: Observed, name: str) -> None:
        if group := _group(observed, name):
            await self._groups.listed(observed.owner, group)
            return
        labels = {"metadata": {"labels": {SERVING_LABEL: "true"}}}
        await self._kubernetes.merge_patch(kinds.POD, observed.owner.namespace, name, labels)

    async def _delete(self, pod: Json) -> None:
        if group := group_of(pod):
            await self._groups.delete(group)
            return
        meta = pod["metadata"]
        _LOG.info("delete pod %s/%s", meta["namespace"], meta["name"])
        await self._kubernetes.delete(kinds.POD, meta["namespace"], meta["name"], meta["uid"])

    async def _start(
        self, observed: Observed, spec: DisaggregatedInferenceSpec, role: Role, revision: Revision, step: PoolStep
    ) -> list[Trouble]:
        owner, at = observed.owner, (Key(observed.owner.namespace, observed.owner.name), role, "start")
        before = self._refused.get(at)
        if before and self._pauses.seconds_left(at):
            return [before[1]]
        named = {
            name
            for each in Role  # one that changed its role keeps its name
            for pod in (*observed.pods[each], *observed.ending[each], *observed.finished[each])
            for name in (pod["metadata"]["name"], getattr(group_of(pod), "name", ""))
        }
        names = new_names(owner, role, revision, named, step.create)
        gpus = (spec.prefill if role is Role.PREFILL else spec.decode).gpus
        for name, domain in zip_longest(names, step.domains, fillvalue=""):
            kind, made = _made(owner, role, revision, name, gpus, domain)
            _LOG.info("start %s %s/%s %s", kind.kind, owner.namespace, name, domain)
            try:
                await self._kubernetes.create(kind, made)
            except ApiError as error:
                exists = error.reason == "AlreadyExists"
                if exists and await self._is_there(kind, owner, name):
                    continue
                trouble = taken(f"{kind.kind} {name}") if exists else refusal(f"{kind.kind} {name}", error)
                self._pauses.failed(at)
                self._refused[at] = (revision.name, trouble)
                return [trouble]
        self._accepted(at)
        return []

    async def _is_there(self, kind: kinds.Kind, owner: Owner, name: str) -> bool:
        """Whether a worker that was not there at the look is of this resource: another operator was faster."""
        found = await self._kubernetes.get(kind, owner.namespace, name)
        return found is not None and belongs(found, owner)

    def _accepted(self, at: _At) -> None:
        self._refused.pop(at, None)
        self._pauses.succeeded(at)


def _made(
    owner: Owner, role: Role, revision: Revision, name: str, gpus: int, domain: str = ""
) -> tuple[kinds.Kind, Json]:
    """A worker of a name: a pod, or of several nodes what makes its pods."""
    if revision.nodes > 1:
        return kinds.LEADER_WORKER_SET, worker_group(owner, role, revision, name, gpus, domain)
    return kinds.POD, worker_pod(owner, role, revision, name, gpus, domain)


def _would_be(owner: Owner, role: Role, revision: Revision, name: str) -> list[tuple[kinds.Kind, Json]]:
    """What the API server is asked about before workers are made from a template."""
    if revision.nodes == 1:
        return [_made(owner, role, revision, name, 1)]
    pods = [(kinds.POD, pod) for pod in group_pods(owner, revision, name)]
    return [*pods, _made(owner, role, revision, name, revision.nodes)]


def _group(observed: Observed, name: str) -> Group | None:
    """The group whose first pod has a name; None of a worker of one node."""
    found = (group_of(pod) for role in Role for pod in observed.pods[role] if pod["metadata"]["name"] == name)
    return next(found, None)


def _listed(observed: Observed, role: Role) -> set[str]:
    """Workers that a gateway has come to list, and that do not say so yet; all that are ready while none answers."""
    serving = {worker.name for worker in observed.serving(role)}
    told = {p["metadata"]["name"] for p in observed.pods[role] if SERVING_LABEL in p["metadata"].get("labels", {})}
    return serving - told


class _NotAccepted(Exception):
    """A template is refused.

    Attributes:
        trouble: why.
    """

    def __init__(self, trouble: Trouble) -> None:
        super().__init__(trouble.message)
        self.trouble = trouble


def rejected(observed: Observed, role: Role) -> str | None:
    """The revision of a role that did not come up and was rolled back, as the stored status tells."""
    status = observed.resource.get("status")
    of_role = status.get(role) if isinstance(status, dict) else None
    name = of_role.get("rejectedRevision") if isinstance(of_role, dict) else None
    return name if isinstance(name, str) else None


def kept(observed: Observed, chosen: Mapping[Role, Revision]) -> set[tuple[str, str]]:
    """Kind and name of what workers need: the newest revisions, those that they are of, and what is to be adopted."""
    names = set()
    for role in Role:
        of_workers = {worker.revision for each in Role for worker in observed.workers[each]}  # some changed their role
        newest = {revision.name for revision in observed.revisions(role)[:KEPT_REVISIONS]}
        mine = {chosen[role].name} if role in chosen else set()
        names |= {f"{observed.owner.child_name(role)}-{name}" for name in of_workers | newest | mine}
    adopted = {(kinds.DEPLOYMENT.kind, observed.owner.child_name(role)) for role in Role}
    return adopted | {(kinds.CONTROLLER_REVISION.kind, name) for name in names}
