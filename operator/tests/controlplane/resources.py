"""Resources for tests, and what their children look like. Read by plain HTTP: a kubectl takes half a second."""

import base64
import json
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import yaml

from dopd.cluster import kinds

CHILDREN = {
    *(f"PodDisruptionBudget/{pool}" for pool in ("prefill", "decode", "router")),
    *(f"{kind}/router" for kind in ("Deployment", "Service", "ServiceAccount", "Role", "RoleBinding")),
    "ConfigMap/prefill",
}


def inference(name: str, prefill: int | None = 1, decode: int | None = 1, **spec: Any) -> str:
    """Manifest of a static resource; of a scaled one without numbers."""
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
    return httpx.Client(base_url=cluster["server"], verify=context, trust_env=False, timeout=30)


def _decode(data: str) -> str:
    return base64.b64decode(data).decode()


def get(api: httpx.Client, namespace: str, kind: kinds.Kind) -> list[dict[str, Any]]:
    """Objects of a kind in a namespace."""
    answer = api.get(kind.path(namespace)).raise_for_status().json()
    return [{"kind": kind.kind, **item} for item in answer["items"]]


def children(api: httpx.Client, namespace: str) -> dict[str, dict[str, Any]]:
    """Children that dopd manages, by kind and name, but for what workers are made from."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": item
        for kind in kinds.CHILD_KINDS
        if kind is not kinds.CONTROLLER_REVISION
        for item in get(api, namespace, kind)
        if item["metadata"].get("labels", {}).get("app.kubernetes.io/managed-by") == "dopd"
    }


def eventually(check: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
    """Wait until something holds; fail with what was awaited."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.2)


def workers(api: httpx.Client, namespace: str, pool: str = "") -> list[dict[str, Any]]:
    """Pods of workers that are not being deleted, of one pool (m-prefill) or all."""
    pods = [pod for pod in get(api, namespace, kinds.POD) if "deletionTimestamp" not in pod["metadata"]]
    return [pod for pod in pods if _pool(pod) and pool in ("", _pool(pod))]


def _pool(pod: dict[str, Any]) -> str:
    labels = pod["metadata"].get("labels", {})
    of_worker = labels.get("dopd.dev/pool") in ("prefill", "decode")
    return f"{labels['dopd.dev/instance']}-{labels['dopd.dev/pool']}" if of_worker else ""


def counts(api: httpx.Client, namespace: str) -> dict[str, int]:
    """Number of workers of each pool that has some."""
    return dict(Counter(_pool(pod) for pod in workers(api, namespace)))


def expected_children(api: httpx.Client, namespace: str, wanted: dict[str, tuple[int, int]]) -> bool:
    """Whether children and workers are exactly those of resources with so many prefill and decode workers."""
    there = children(api, namespace)
    names, numbers = _expected(wanted)
    return set(there) == names and counts(api, namespace) == numbers


def _expected(names: dict[str, tuple[int, int]]) -> tuple[set[str], dict[str, int]]:
    kinds = {part.replace("/", f"/{name}-") for name in names for part in CHILDREN}
    numbers = {}
    for name, (prefill, decode) in names.items():
        numbers |= {f"{name}-prefill": prefill, f"{name}-decode": decode}
    return kinds, numbers
