"""Resources for tests, and what their children look like."""

import json
from typing import Any

from e2e.cluster.controlplane import ControlPlane

KINDS = "deployments,services,serviceaccounts,roles,rolebindings,poddisruptionbudgets"
CHILDREN = {
    *(f"Deployment/{pool}" for pool in ("prefill", "decode", "router")),
    *(f"PodDisruptionBudget/{pool}" for pool in ("prefill", "decode", "router")),
    *(f"{kind}/router" for kind in ("Service", "ServiceAccount", "Role", "RoleBinding")),
}


def inference(name: str, prefill: int = 1, decode: int = 1, **spec: Any) -> str:
    """Manifest of a static resource."""
    return json.dumps(
        {
            "apiVersion": "dopd.dev/v1alpha1",
            "kind": "DisaggregatedInference",
            "metadata": {"name": name},
            "spec": {
                "model": "demo",
                "engine": {"image": "never.pulled/engine", "imagePullPolicy": "Never"},
                "prefill": {"gpus": 1, "replicas": prefill},
                "decode": {"gpus": 1, "replicas": decode},
                "router": {"image": "never.pulled/smg", "imagePullPolicy": "Never", "replicas": 1},
                **spec,
            },
        }
    )


def get(plane: ControlPlane, namespace: str, what: str) -> list[dict[str, Any]]:
    """Objects of some kinds in a namespace."""
    items: list[dict[str, Any]] = json.loads(plane.kubectl("get", what, f"--namespace={namespace}", "--output=json"))[
        "items"
    ]
    return items


def children(plane: ControlPlane, namespace: str) -> dict[str, dict[str, Any]]:
    """Children that dopd manages, by kind and name."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for item in get(plane, namespace, KINDS)
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "dopd"
    }


def replicas(plane: ControlPlane, namespace: str) -> dict[str, int]:
    """Replicas of the worker Deployments, by name."""
    return {
        name.removeprefix("Deployment/"): child["spec"]["replicas"]
        for name, child in children(plane, namespace).items()
        if name.startswith("Deployment/") and not name.endswith("-router")
    }


def expected(names: dict[str, tuple[int, int]]) -> tuple[set[str], dict[str, int]]:
    """What there should be for resources with so many prefill and decode workers."""
    kinds = {part.replace("/", f"/{name}-") for name in names for part in CHILDREN}
    counts = {}
    for name, (prefill, decode) in names.items():
        counts |= {f"{name}-prefill": prefill, f"{name}-decode": decode}
    return kinds, counts
