"""The resources of the tests: the demo's, changed."""

import copy
from typing import Any

import yaml

from e2e.stack import MANIFESTS, Stack

Json = dict[str, Any]
MODEL = "demo/chat"
GATEWAY_NODE_PORT = 30080

_DEMO: Json = yaml.safe_load((MANIFESTS / "demo" / "inference.yaml").read_text())


def profile_objects() -> list[Json]:
    """The EngineProfile of the demo, and the ConfigMap that the engines read it from."""
    text = (MANIFESTS / "demo" / "profile.yaml").read_text()
    engine = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "demo-engine"},
        "data": {"profile.yaml": text},
    }
    return [yaml.safe_load(text), engine]


def auto(name: str, **changes: Any) -> Json:
    """A resource that the operator scales: the demo's under another name."""
    resource = copy.deepcopy(_DEMO)
    resource["metadata"]["name"] = name
    return changed(resource, changes)


def static(name: str, *, prefill: int = 1, decode: int = 1, node_port: int | None = None, **changes: Any) -> Json:
    """A resource with fixed numbers of workers; without a node port its gateway is reached from inside only."""
    resource = copy.deepcopy(_DEMO)
    resource["metadata"]["name"] = name
    spec = resource["spec"]
    del spec["scaling"], spec["telemetry"]
    spec["prefill"]["replicas"], spec["decode"]["replicas"] = prefill, decode
    spec["router"]["service"] = {"type": "NodePort", "nodePort": node_port} if node_port else {"type": "ClusterIP"}
    return changed(resource, changes)


def changed(resource: Json, changes: Json) -> Json:
    """A copy of the resource with other values; `decode__gpus=9` is spec.decode.gpus."""
    result = copy.deepcopy(resource)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = result["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = value
    return result


def replicas(stack: Stack, name: str) -> tuple[int, ...]:
    """Workers of both roles that should serve."""
    status = (stack.inference(name) or {}).get("status", {})
    return tuple(status[role]["desired"] for role in ("prefill", "decode") if role in status)
