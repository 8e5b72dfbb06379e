"""Acting: role labels on pods, and the children by server-side apply.

What fails is told and does not keep the rest from being done. A child that was refused is not sent again before a pause
is over, unless its manifest changed: nothing else here makes another answer likely.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import DELETION_COST, DRAINING_SINCE, POOL_LABEL, ROLE_LABEL, Role
from dopd.api.status import ConditionReason
from dopd.cluster import ApiError, Applier, Kubernetes, kinds
from dopd.cluster.backoff import Backoff
from dopd.planning.pool import DRAINING_COST, PoolStep
from dopd.reconcile.observe import Observed, belongs
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.status import rfc3339
from dopd.workloads import Targets
from dopd.workloads.children import Child, child_builders
from dopd.workloads.refusal import Refusal

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
FIRST_PAUSE_SECONDS = 1.0
LONGEST_PAUSE_SECONDS = 60.0
_PASSING = (0, 408, 429, 502, 503, 504)
"""Answers of a server in trouble, as opposed to those that say that a manifest is not acceptable."""

_PASSING_WORDS = ("leader", "timed out", "timeout", "rpc error", "context deadline", "context canceled", "too many")
"""Words of a 500 of a server in trouble; a 500 may as well say that a field is not in the schema."""

_Name = tuple[str, str]


@dataclass(frozen=True)
class _Refused:
    """A manifest that was refused, and what was said."""

    digest: str
    trouble: Trouble


class Actor:
    """Writes to the cluster for one reconciler.

    Args:
        kubernetes: where to.
        clock: monotonic seconds.
    """

    def __init__(self, kubernetes: Kubernetes, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._applier = Applier(kubernetes)
        self._pauses = Backoff(FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, clock)
        self._refused: dict[Key, dict[_Name, _Refused]] = {}

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._applier.forget(key.namespace, key.name)
        for name in self._refused.pop(key, {}):
            self._pauses.succeeded((key, name))

    def seconds_until_retry(self, key: Key) -> float | None:
        """Time until a refused child is sent again; None when none was refused."""
        return min((self._pauses.seconds_left((key, name)) for name in self._refused.get(key, {})), default=None)

    async def label(self, observed: Observed, step: PoolStep, now: datetime) -> list[Trouble]:
        """Put role labels on and take them off; since when a worker drains stands in its annotations."""
        pools = {
            pod["metadata"]["name"]: pod["metadata"]["labels"][POOL_LABEL]
            for role in Role
            for pod in observed.pods[role]
        }
        patches: list[tuple[str, Json]] = []
        for name in step.serve:
            cleared = {DRAINING_SINCE: None, DELETION_COST: None}
            patches.append((name, {"labels": {ROLE_LABEL: pools[name]}, "annotations": cleared}))
        for name in step.drain:
            annotations = {DRAINING_SINCE: rfc3339(now), DELETION_COST: str(DRAINING_COST)}
            patches.append((name, {"labels": {ROLE_LABEL: None}, "annotations": annotations}))
        troubles = []
        for name, metadata in patches:
            _LOG.info("pod %s/%s: %s", observed.owner.namespace, name, metadata)
            try:
                await self._kubernetes.merge_patch(kinds.POD, observed.owner.namespace, name, {"metadata": metadata})
            except ApiError as error:
                troubles.append(Trouble(ConditionReason.API_FAILED, f"label of pod {name}: {error.message}"))
        return troubles

    async def apply(
        self,
        observed: Observed,
        spec: DisaggregatedInferenceSpec,
        replicas: Targets,
        scheduling: Callable[[], Json],
    ) -> list[Trouble]:
        """Write the children that differ, delete those that are not wanted any more; returns what failed."""
        children = child_builders(observed.owner, spec, replicas, scheduling)
        troubles = [trouble for child in children if (trouble := await self._write(observed, child))]
        wanted = {(child.kind, child.name) for child in children}
        for name, live in observed.children.items():
            if name not in wanted:
                try:
                    await self._delete(live)
                except ApiError as error:
                    troubles.append(Trouble(ConditionReason.API_FAILED, f"{' '.join(name)}: {error.message}"))
        return troubles

    async def _write(self, observed: Observed, child: Child) -> Trouble | None:
        refused = self._refused.setdefault(Key(observed.owner.namespace, observed.owner.name), {})
        before = refused.pop((child.kind, child.name), None)
        try:
            manifest = child.build()
            outcome = await self._apply(observed, manifest, before)
            if isinstance(outcome, _Refused):
                refused[child.kind, child.name] = outcome
            trouble = outcome.trouble if isinstance(outcome, _Refused) else outcome
        except Refusal as refusal:
            trouble = Trouble(ConditionReason.SPEC_REFUSED, f"{child.kind} {child.name} stays as it is: {refusal}")
        except ApiError as error:
            trouble = Trouble(ConditionReason.API_FAILED, f"{child.kind} {child.name}: {error.message}")
        except Exception as error:
            _LOG.exception("%s: %s %s", observed.owner, child.kind, child.name)
            trouble = failed(f"{child.kind} {child.name}", error)
        if trouble:
            await self._keep_scale(observed, child)
        return trouble

    async def _apply(self, observed: Observed, manifest: Json, before: _Refused | None) -> _Refused | Trouble | None:
        owner = observed.owner
        live = observed.child(manifest) or await self._by_name(manifest)
        if live and not belongs(live, owner):
            controller = kinds.controller(live)
            if kinds.is_ours(controller, owner.name):
                # Of an earlier resource of this name: garbage collection is about to take it, so it can not be ours.
                await self._delete(live)
                return None
            return _taken(manifest)
        digest = hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()
        child = (Key(owner.namespace, owner.name), (manifest["kind"], manifest["metadata"]["name"]))
        if before is None or before.digest != digest:
            self._pauses.succeeded(child)
        elif self._pauses.seconds_left(child):
            return before
        try:
            await self._applier.apply(manifest, live)
        except ApiError as error:
            self._pauses.failed(child)
            return _Refused(digest, _refusal(manifest, error))
        self._pauses.succeeded(child)
        return None

    async def _keep_scale(self, observed: Observed, child: Child) -> None:
        """Scaling goes on with the pods of before, while a change of the pods is refused."""
        live = observed.children.get((child.kind, child.name))
        if child.replicas is None or live is None or live["spec"].get("replicas") == child.replicas:
            return
        patch = {"spec": {"replicas": child.replicas}}
        try:
            await self._kubernetes.merge_patch(kinds.DEPLOYMENT, observed.owner.namespace, child.name, patch)
        except ApiError as error:
            _LOG.warning("%s %s/%s not scaled: %s", child.kind, observed.owner.namespace, child.name, error)

    async def _by_name(self, manifest: Json) -> Json | None:
        """The object that has a child's name without its labels: a stranger's, or ours with the labels taken off."""
        meta = manifest["metadata"]
        found = await self._kubernetes.get(kinds.kind_of(manifest), meta["namespace"], meta["name"])
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **found} if found else None

    async def _delete(self, child: Json) -> None:
        meta = child["metadata"]
        _LOG.info("delete %s %s/%s", child["kind"], meta["namespace"], meta["name"])
        await self._kubernetes.delete(kinds.kind_of(child), meta["namespace"], meta["name"], meta["uid"])


def failed(what: str, error: BaseException) -> Trouble:
    """Trouble of a part of a pass that ended in an error."""
    if isinstance(error, ApiError):
        return Trouble(ConditionReason.API_FAILED, f"{what}: {error.message}")
    if isinstance(error, TimeoutError):
        return Trouble(ConditionReason.API_FAILED, f"{what}: no answer in time")
    return Trouble(ConditionReason.PASS_FAILED, f"{what}: {type(error).__name__}: {error!s:.1000}")


def _taken(manifest: Json) -> Trouble:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    fix = f"Delete or rename it, or give {kinds.INFERENCE.kind} another name"
    return Trouble(ConditionReason.NAME_TAKEN, f"{name} exists and is not of this resource. {fix}")


def _refusal(manifest: Json, error: ApiError) -> Trouble:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if "port is already allocated" in error.message:
        fix = "Choose another spec.router.service.nodePort, or leave it out"
        return Trouble(ConditionReason.PORT_TAKEN, f"{name}: {error.message}. {fix}")
    passing_500 = error.status == 500 and any(words in error.message for words in _PASSING_WORDS)
    if error.status in _PASSING or passing_500:
        return Trouble(ConditionReason.API_FAILED, f"{name}: {error.message}")
    return Trouble(ConditionReason.CHILD_REFUSED, f"{name} is refused: {error.message}")
