"""Names, labels and owner references that all children of one resource share."""

from dataclasses import dataclass
from typing import Any

from dopd.api.base import API_VERSION
from dopd.api.names import (
    INSTANCE_LABEL,
    MANAGED_BY,
    MANAGED_BY_VALUE,
    POOL_LABEL,
    ROLE_LABEL,
    ROUTER_POOL,
    SERVING_LABEL,
    Role,
)

Manifest = dict[str, Any]


@dataclass(frozen=True)
class Owner:
    """The resource that the children belong to."""

    name: str
    namespace: str
    uid: str

    @classmethod
    def of(cls, resource: Manifest) -> "Owner":
        """A stored resource as owner."""
        meta = resource["metadata"]
        return cls(meta["name"], meta["namespace"], meta["uid"])

    def child_name(self, pool: str) -> str:
        """Name of the children of one pool (prefill, decode, router)."""
        return f"{self.name}-{pool}"

    def selector(self, pool: str) -> dict[str, str]:
        """Labels that select the pods of one pool; they never change in a pod's life."""
        return {INSTANCE_LABEL: self.name, POOL_LABEL: pool}

    def metadata(self, pool: str, **extra: Any) -> Manifest:
        """Metadata of a child: deleted with its owner by Kubernetes, also while the operator is down."""
        return {
            "name": self.child_name(pool),
            "namespace": self.namespace,
            "labels": {
                "app.kubernetes.io/name": pool,
                "app.kubernetes.io/instance": self.name,
                MANAGED_BY: MANAGED_BY_VALUE,
                **self.selector(pool),
            },
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "DisaggregatedInference",
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                    "blockOwnerDeletion": False,
                }
            ],
            **extra,
        }


def router_disruption_budget(owner: Owner) -> Manifest:
    """At most one gateway may be evicted at a time (node drains, cluster upgrades)."""
    return _disruption_budget(owner, ROUTER_POOL, {"maxUnavailable": 1, "selector": _matching(owner, ROUTER_POOL)})


def worker_disruption_budget(owner: Owner, role: Role, target: int, nodes: int = 1) -> Manifest:
    """At most one worker of a role may be evicted at a time, and never the last one.

    By a number, since a share or maxUnavailable is of no effect for pods that no controller of Kubernetes' own made. A
    worker that drains counts on neither side, and one that does not serve may be evicted at any time. Ready is not
    enough to serve: the gateway lists a worker some seconds later, and only then may the one before go. Of workers of
    several nodes all pods count: with one of them the whole worker goes, and then none more.
    """
    of_role = {ROLE_LABEL: role} if nodes == 1 else {POOL_LABEL: role}
    selector = {"matchLabels": {INSTANCE_LABEL: owner.name, **of_role, SERVING_LABEL: "true"}}
    least = max(target * nodes - 1, nodes)
    spec = {"minAvailable": least, "selector": selector, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    return _disruption_budget(owner, role, spec)


def _matching(owner: Owner, pool: str) -> Manifest:
    return {"matchLabels": owner.selector(pool)}


def _disruption_budget(owner: Owner, pool: str, spec: Manifest) -> Manifest:
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": owner.metadata(pool),
        "spec": spec,
    }


def pod_labels(owner: Owner, pool: str, **extra: str) -> dict[str, str]:
    """Labels of a pod of one pool."""
    return {MANAGED_BY: MANAGED_BY_VALUE, **owner.selector(pool), **extra}
