"""What a tenant can write, and what it may cost the others: nothing."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .operator_process import OperatorProcess
from .resources import eventually, expected_children, get, inference

DEEP = 1_500
COUNT = 36
"""Objects of 1.2 MB of metadata each: more than a page of a list may have."""
LABELS = {"app.kubernetes.io/managed-by": "dopd", "dopd.dev/instance": "m"}


@pytest.fixture
def victim(plane: ControlPlane) -> Iterator[str]:
    """A namespace of somebody else."""
    name = f"victim-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def operator(plane: ControlPlane, crds: None, namespace: str, victim: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    namespaces = ("--namespace", namespace, "--namespace", victim, "--lease-seconds", "15")
    process = OperatorProcess(plane.kubeconfig, tmp_path / "operator.log", *namespaces)
    yield process
    process.stop()


def nested(levels: int) -> str:
    return '{"a":' * levels + "1" + "}" * levels


def post(api: httpx.Client, namespace: str, kind: kinds.Kind, text: str) -> None:
    answer = api.post(kind.path(namespace), content=text, headers={"Content-Type": "application/json"}, timeout=30)
    assert answer.status_code == 201, answer.text[:500]


def served(api: httpx.Client, namespace: str, name: str) -> None:
    """A resource of somebody else is acted on."""
    post(api, namespace, kinds.INFERENCE, inference(name, 2, 3))
    eventually(lambda: expected_children(api, namespace, {name: (2, 3)}), "the children of the others' resource", 10)


def reported(api: httpx.Client, namespace: str, name: str, *words: str) -> bool:
    # Not decoded as a whole: it is nested too deep for that.
    _, found, rest = api.get(kinds.INFERENCE.path(namespace, name)).raise_for_status().text.rpartition('"conditions":')
    conditions = json.JSONDecoder().raw_decode(rest)[0] if found else []
    return any(c["type"] == "Ready" and all(word in c["message"] for word in words) for c in conditions)


DEEP_FIELDS = {"prefill": "spec.prefill.template", "router": "spec.router.template"}
"""All that the schema leaves open."""


def deep(field: str) -> str:
    """A resource that is nested too deep in one place."""
    manifest = json.loads(inference(f"deep-{field}"))
    manifest["spec"][field]["template"] = {"spec": {"affinity": "DEEP"}}
    return json.dumps(manifest).replace('"DEEP"', nested(DEEP))


@pytest.mark.parametrize("first", [True, False])
def test_what_is_nested_too_deep_concerns_itself_alone(
    api: httpx.Client, namespace: str, victim: str, operator: OperatorProcess, first: bool
):
    def write() -> None:
        for field in DEEP_FIELDS:
            post(api, namespace, kinds.INFERENCE, deep(field))

    if first:  # the operator finds them at its start
        write()
    operator.start()
    served(api, victim, "before")
    if not first:
        write()
    for field, where in DEEP_FIELDS.items():
        eventually(lambda f=field, w=where: reported(api, namespace, f"deep-{f}", w, "levels deep"), "its condition")
    patch, headers = {"spec": {"decode": {"replicas": 5}}}, {"Content-Type": "application/merge-patch+json"}
    api.patch(kinds.INFERENCE.path(victim, "before"), json=patch, headers=headers).raise_for_status()
    eventually(lambda: expected_children(api, victim, {"before": (2, 5)}), "the change of the others' resource", 10)
    assert operator.stop() == 0


def test_what_tenants_write_beside_it_concerns_them_alone(
    api: httpx.Client, namespace: str, victim: str, operator: OperatorProcess
):
    """Huge and odd objects with the labels of children: nothing of it reaches the others."""
    fields = '{"f:data":' + '{"f:a":' * DEEP + "{}" + "}" * DEEP + "}"
    managed = (
        '[{"manager":"x","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:00Z",'
        f'"fieldsType":"FieldsV1","fieldsV1":{fields}}}]'
    )
    for index in range(COUNT):
        meta = {
            "name": f"odd-{index}",
            "labels": {**LABELS, "dopd.dev/pool": "" if index % 2 else "prefill"},
            "annotations": {"a": "\u0001" * 200_000, "dopd.dev/draining-since": "never", "b": "[" * 5_000},
            "managedFields": "MANAGED",
        }
        text = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"a": "x" * 100_000}})
        post(api, namespace, kinds.CONFIG_MAP, text.replace('"MANAGED"', managed))
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "stranger",
            "labels": {**LABELS, "dopd.dev/pool": "prefill", "dopd.dev/role": "x"},
            "annotations": {"dopd.dev/draining-since": "never"},
        },
        "spec": {"containers": [{"name": "engine", "image": "never.pulled/x"}]},
    }
    post(api, namespace, kinds.POD, json.dumps(pod))
    post(api, namespace, kinds.INFERENCE, inference("m", 1, 1))
    operator.start()
    eventually(lambda: len(get(api, namespace, kinds.DEPLOYMENT)) == 1, "the Deployment of m")
    served(api, victim, "after")
    assert api.get(kinds.CONFIG_MAP.path(namespace)).text.count('"name":"odd-') == COUNT
    (found,) = (p for p in get(api, namespace, kinds.POD) if p["metadata"]["name"] == "stranger")
    assert found["metadata"]["labels"]["dopd.dev/role"] == "x"
    assert operator.stop() == 0
