"""Workers that a Deployment made, as earlier versions of the operator had it: taken over without a restart.

Each pass does what can be done, and starts from what is there. First every pod gets the resource as an owner beside its
ReplicaSet; then the Deployment is deleted and leaves its ReplicaSets, then these are and leave the pods. Until then
the pool is not moved: a ReplicaSet would start what is taken away. The pods serve all the time, and are of no revision,
so they leave like those of an old one.
"""

import logging
from typing import Any

from dopd.api.base import API_VERSION
from dopd.api.names import INSTANCE_LABEL, POOL_LABEL, Role
from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.observe import Observed
from dopd.reconcile.pods import owned

_LOG = logging.getLogger(__name__)

Json = dict[str, Any]


async def adopt(kubernetes: Kubernetes, observed: Observed) -> set[Role]:
    """Take over what Deployments made; the roles that are not taken over yet.

    Raises:
        ApiError: the API server refused a write; what was done stays done.
    """
    pending = set()
    for role in Role:
        pods = [*observed.pods[role], *observed.ending[role]]
        deployment = observed.deployment(role)
        made = [pod for pod in pods if kinds.controller(pod).get("kind") == "ReplicaSet"]
        strangers = [pod for pod in pods if not kinds.controller(pod)]
        if not deployment and not made and not strangers:
            continue
        for pod in pods:
            if not owned(pod, observed.owner) or not kinds.controller(pod):
                await _own(kubernetes, observed, pod)
        if deployment or made:
            pending.add(role)
            await _let_go(kubernetes, observed, role, deployment)
    return pending


async def _own(kubernetes: Kubernetes, observed: Observed, pod: Json) -> None:
    """Make the resource an owner of a pod, and its controller as soon as it has no other."""
    meta, owner = pod["metadata"], observed.owner
    others = [ref for ref in meta.get("ownerReferences") or [] if ref.get("uid") != owner.uid]
    controlled = any(ref.get("controller") for ref in others)
    ours = {"apiVersion": API_VERSION, "kind": kinds.INFERENCE.kind, "name": owner.name, "uid": owner.uid}
    references = [*others, {**ours, "controller": not controlled}]
    patch = {"resourceVersion": meta["resourceVersion"], "ownerReferences": references}
    _LOG.info("pod %s/%s: adopted", owner.namespace, meta["name"])
    await kubernetes.merge_patch(kinds.POD, owner.namespace, meta["name"], {"metadata": patch})


async def _let_go(kubernetes: Kubernetes, observed: Observed, role: Role, deployment: Json | None) -> None:
    """Take away what made the pods, one layer a pass, once every pod of it has another owner."""
    namespace = observed.owner.namespace
    if not all(owned(pod, observed.owner) for pod in (*observed.pods[role], *observed.ending[role])):
        return
    if deployment:
        meta = deployment["metadata"]
        _LOG.info("deployment %s/%s: deleted, its pods stay", namespace, meta["name"])
        await kubernetes.delete(kinds.DEPLOYMENT, namespace, meta["name"], meta["uid"], orphan=True)
        return
    for item in await kubernetes.list(kinds.REPLICA_SET, namespace, f"{INSTANCE_LABEL}={observed.owner.name}"):
        meta = item["metadata"]
        if meta["labels"].get(POOL_LABEL) == role and not kinds.controller(item):
            await kubernetes.delete(kinds.REPLICA_SET, namespace, meta["name"], meta["uid"], orphan=True)
