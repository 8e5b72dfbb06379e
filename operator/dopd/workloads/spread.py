"""Where pods of one pool go when nobody says: over many nodes, so that a lost node takes a share and not a role.

Kubernetes spreads the pods of a Deployment by itself, but not those that an operator makes. It is a wish: on a full
cluster they go where there is room. Pure.
"""

from collections.abc import Mapping
from typing import Any

from dopd.api.names import DOMAIN_KEY_ANNOTATION
from dopd.workloads.meta import Manifest

_NODE = "kubernetes.io/hostname"


def over_nodes(labels: Mapping[str, str]) -> list[Manifest]:
    """The constraint of pods that have these labels."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": _NODE,
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": dict(labels)},
        }
    ]


def spread(pod: Manifest, labels: Mapping[str, str]) -> Manifest:
    """A worker that keeps away from its like, unless its template says where it goes; then it is as it was.

    Not in the template of the revision: who upgrades the operator does not want all workers made anew for it.

    Args:
        pod: its manifest.
        labels: of the pods of its role.
    """
    spec: dict[str, Any] = pod["spec"]
    affinity = spec.get("affinity")
    terms = affinity if isinstance(affinity, dict) else {}
    placed = "topologySpreadConstraints" in spec or not terms.keys().isdisjoint({"podAffinity", "podAntiAffinity"})
    if placed or DOMAIN_KEY_ANNOTATION in (pod["metadata"].get("annotations") or {}):
        return pod
    return {**pod, "spec": {**spec, "topologySpreadConstraints": over_nodes(labels)}}
