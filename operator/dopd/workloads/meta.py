"""Names, labels and owner references that all children of one resource share."""

from dataclasses import dataclass
from typing import Any

from dopd.api.base import API_VERSION
from dopd.api.names import INSTANCE_LABEL, MANAGED_BY, MANAGED_BY_VALUE, POOL_LABEL

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

    def disruption_budget(self, pool: str) -> Manifest:
        """At most one pod of a pool may be evicted at a time (node drains, cluster upgrades)."""
        return {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": self.metadata(pool),
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": self.selector(pool)}},
        }


def pod_labels(owner: Owner, pool: str, **extra: str) -> dict[str, str]:
    """Labels of a pod of one pool."""
    return {MANAGED_BY: MANAGED_BY_VALUE, **owner.selector(pool), **extra}
