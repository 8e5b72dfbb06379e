"""Resources for tests, and what their children look like. Read by plain HTTP: a kubectl takes half a second."""

import base64
import json
import ssl
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from dopd.cluster import kinds

CHILDREN = {
    *(f"Deployment/{pool}" for pool in ("prefill", "decode", "router")),
    *(f"PodDisruptionBudget/{pool}" for pool in ("prefill", "decode", "router")),
    *(f"{kind}/router" for kind in ("Service", "ServiceAccount", "Role", "RoleBinding")),
    "ConfigMap/prefill",
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


def connect(kubeconfig: Path) -> httpx.Client:
    """A connection to the API server."""
    config = yaml.safe_load(kubeconfig.read_text())
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=_decode(cluster["certificate-authority-data"]))
    with tempfile.NamedTemporaryFile("w") as pem:
        pem.write(_decode(user["client-certificate-data"]) + _decode(user["client-key-data"]))
        pem.flush()
        context.load_cert_chain(pem.name)
    return httpx.Client(base_url=cluster["server"], verify=context, trust_env=False)


def _decode(data: str) -> str:
    return base64.b64decode(data).decode()


def get(api: httpx.Client, namespace: str, kind: kinds.Kind) -> list[dict[str, Any]]:
    """Objects of a kind in a namespace."""
    answer = api.get(kind.path(namespace)).raise_for_status().json()
    return [{"kind": kind.kind, **item} for item in answer["items"]]


def children(api: httpx.Client, namespace: str) -> dict[str, dict[str, Any]]:
    """Children that dopd manages, by kind and name."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for kind in kinds.CHILD_KINDS
        for item in get(api, namespace, kind)
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "dopd"
    }


def eventually(check: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds; fail with what was awaited."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def replicas(api: httpx.Client, namespace: str) -> dict[str, int]:
    """Replicas of the worker Deployments, by name."""
    return {
        name.removeprefix("Deployment/"): child["spec"]["replicas"]
        for name, child in children(api, namespace).items()
        if name.startswith("Deployment/") and not name.endswith("-router")
    }


def expected_children(api: httpx.Client, namespace: str, wanted: dict[str, tuple[int, int]]) -> bool:
    """Whether the children are exactly those of resources with so many prefill and decode workers."""
    there = children(api, namespace)
    names, counts = _expected(wanted)
    return set(there) == names and replicas(api, namespace) == counts


def _expected(names: dict[str, tuple[int, int]]) -> tuple[set[str], dict[str, int]]:
    kinds = {part.replace("/", f"/{name}-") for name in names for part in CHILDREN}
    counts = {}
    for name, (prefill, decode) in names.items():
        counts |= {f"{name}-prefill": prefill, f"{name}-decode": decode}
    return kinds, counts
