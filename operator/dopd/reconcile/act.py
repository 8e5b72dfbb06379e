"""Acting: role labels on pods, and the children by server-side apply."""

import logging
from datetime import datetime
from typing import Any

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import DELETION_COST, DRAINING_SINCE, POOL_LABEL, ROLE_LABEL, Role
from dopd.api.status import ConditionReason
from dopd.cluster import ApiError, Applier, Kubernetes, kinds
from dopd.planning.pool import DRAINING_COST, PoolStep
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import Trouble
from dopd.reconcile.queue import Key
from dopd.reconcile.status import rfc3339
from dopd.workloads import Targets, child_manifests

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]
REFUSALS = (400, 403, 409, 422)
"""Answers that say that a manifest is not acceptable, as opposed to a server in trouble."""


class Actor:
    """Writes to the cluster for one reconciler."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes = kubernetes
        self._applier = Applier(kubernetes)

    def forget(self, key: Key) -> None:
        """Drop what is remembered of a resource that is gone."""
        self._applier.forget(key.namespace, key.name)

    async def label(self, observed: Observed, step: PoolStep, now: datetime) -> None:
        """Put role labels on and take them off; since when a worker drains stands in its annotations."""
        pools = {
            pod["metadata"]["name"]: pod["metadata"]["labels"][POOL_LABEL]
            for role in Role
            for pod in observed.pods[role]
        }
        for name in step.serve:
            cleared = {DRAINING_SINCE: None, DELETION_COST: None}
            await self._patch(observed, name, {"labels": {ROLE_LABEL: pools[name]}, "annotations": cleared})
        for name in step.drain:
            annotations = {DRAINING_SINCE: rfc3339(now), DELETION_COST: str(DRAINING_COST)}
            await self._patch(observed, name, {"labels": {ROLE_LABEL: None}, "annotations": annotations})

    async def _patch(self, observed: Observed, name: str, metadata: Json) -> None:
        _LOG.info("pod %s/%s: %s", observed.owner.namespace, name, metadata)
        await self._kubernetes.merge_patch(kinds.POD, observed.owner.namespace, name, {"metadata": metadata})

    async def apply(
        self, observed: Observed, spec: DisaggregatedInferenceSpec, replicas: Targets, scheduling: Json
    ) -> list[Trouble]:
        """Write the children that differ, delete those that are not wanted any more; returns what was refused."""
        owner, refused = observed.owner, []
        manifests = child_manifests(owner, spec, replicas, scheduling)
        for manifest in manifests:
            live = observed.child(manifest) or await self._by_name(manifest)
            if live and _left_behind(live, owner.uid):
                # Of an earlier resource of this name: garbage collection is about to take it, so it can not be ours.
                await self._delete(live)
                continue
            if live and _controller(live).get("uid") != owner.uid:
                refused.append(_taken(manifest))
                continue
            try:
                await self._applier.apply(manifest, live)
            except ApiError as error:
                if error.status not in REFUSALS:
                    raise
                refused.append(_refusal(manifest, error))
        wanted = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
        for name, child in observed.children.items():
            if name not in wanted and _controller(child).get("uid") == owner.uid:
                await self._delete(child)
        return refused

    async def _by_name(self, manifest: Json) -> Json | None:
        """The object that has a child's name without its labels: a stranger's, or ours with the labels taken off."""
        meta = manifest["metadata"]
        found = await self._kubernetes.get(kinds.kind_of(manifest), meta["namespace"], meta["name"])
        return {"apiVersion": manifest["apiVersion"], "kind": manifest["kind"], **found} if found else None

    async def _delete(self, child: Json) -> None:
        meta = child["metadata"]
        _LOG.info("delete %s %s/%s", child["kind"], meta["namespace"], meta["name"])
        await self._kubernetes.delete(kinds.kind_of(child), meta["namespace"], meta["name"], meta["uid"])


def _controller(child: Json) -> Json:
    owners: list[Json] = child["metadata"].get("ownerReferences", [])
    return next((owner for owner in owners if owner.get("controller")), {})


def _left_behind(child: Json, uid: str) -> bool:
    controller = _controller(child)
    return controller.get("kind") == kinds.INFERENCE.kind and controller["uid"] != uid


def _taken(manifest: Json) -> Trouble:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    fix = f"Delete or rename it, or give {kinds.INFERENCE.kind} another name"
    return Trouble(ConditionReason.NAME_TAKEN, f"{name} exists and is not of this resource. {fix}")


def _refusal(manifest: Json, error: ApiError) -> Trouble:
    name = f"{manifest['kind']} {manifest['metadata']['name']}"
    if "port is already allocated" in error.message:
        fix = "Choose another spec.router.service.nodePort, or leave it out"
        return Trouble(ConditionReason.PORT_TAKEN, f"{name}: {error.message}. {fix}")
    return Trouble(ConditionReason.CHILD_REFUSED, f"{name} is refused: {error.message}")
