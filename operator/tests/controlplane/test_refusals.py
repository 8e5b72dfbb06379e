"""What the API server refuses of a resource, with whatever code: a condition, and no other child waits for it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .operator_process import OperatorProcess
from .resources import CHILDREN, children, counts, eventually, expected_children, get, inference, workers

Json = dict[str, Any]
PATIENT = ("--lease-seconds", "15")
"""On a busy machine: what is tested here is no matter of the Lease."""


@pytest.fixture
def operator(plane: ControlPlane, crds: None, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    options = ("--namespace", namespace, *PATIENT)
    process = OperatorProcess(plane.kubeconfig, tmp_path / "operator.log", *options, lease_namespace=namespace)
    process.start()
    yield process
    process.kill()  # nobody waits for its Lease


def engine(**fields: Any) -> Json:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


REFUSED: dict[str, tuple[Json, str, list[str]]] = {
    "misspelt": ({"spec": {"nodeSelectr": {"a": "b"}}}, "ChildRefused", ["nodeSelectr", "unknown field"]),
    "number": (engine(env=[{"name": "A", "value": 1}]), "ChildRefused", ["cannot unmarshal number"]),
    "type": (engine(image=["x"]), "ChildRefused", ["image"]),
    "list": ({"spec": {"tolerations": {"key": "a"}}}, "ChildRefused", ["tolerations"]),
    "amount": (engine(resources={"limits": {"memory": "lots"}}), "ChildRefused", ["quantit"]),
    "policy": ({"spec": {"restartPolicy": "Never"}}, "SpecRefused", ["restartPolicy"]),
    "label": ({"metadata": {"labels": {"a": "b c"}}}, "ChildRefused", ["b c"]),
    "mount": (engine(volumeMounts=[{"name": "no-such", "mountPath": "/a"}]), "ChildRefused", ["no-such"]),
    "probe": (engine(startupProbe={"exec": {"command": ["x"]}, "tcpSocket": {"port": 1}}), "ChildRefused", ["handler"]),
    "long": ({"spec": {"nodeSelector": {"a": "x y" * 20_000}}}, "ChildRefused", ["nodeSelector", "(cut)"]),
    "key": ({"spec": {"nodeSelector": {"x" * 60_000: "y"}}}, "ChildRefused", ["nodeSelector"]),
    "annotation": ({"metadata": {"annotations": {"a": "x" * 400_000}}}, "ChildRefused", ["annotations"]),
    "twice": (engine(env=[{"name": "A"}, {"name": "A"}]), "SpecRefused", ["env[A]", "is there twice"]),
}
MADE: dict[str, Json] = {
    "address": {"template": engine(env=[{"name": "SGLANG_HOST_IP", "value": "10.0.0.1"}])},
    "shm": {
        "template": {
            "spec": {
                **engine(volumeMounts=[{"name": "dshm", "mountPath": "/dev/shm"}])["spec"],
                "volumes": [{"name": "dshm", "emptyDir": {"medium": "Memory"}}],
            }
        }
    },
    "privileged": {"template": engine(securityContext={"privileged": True})},
    "grace": {"template": {"spec": {"terminationGracePeriodSeconds": 2}}},
    "socket": {"template": engine(readinessProbe={"tcpSocket": {"port": 30000}})},
}


def resource(name: str, template: Json | None = None) -> Json:
    manifest: Json = json.loads(inference(name))
    if template is not None:
        manifest["spec"]["prefill"]["template"] = template
    return manifest


def create(api: httpx.Client, namespace: str, manifest: Json) -> None:
    answer = api.post(kinds.INFERENCE.path(namespace), json=manifest, timeout=30)
    assert answer.status_code == 201, answer.text


def conditions(api: httpx.Client, namespace: str, name: str) -> dict[str, Json]:
    answer = api.get(kinds.INFERENCE.path(namespace, name)).raise_for_status().json()
    return {condition["type"]: condition for condition in answer.get("status", {}).get("conditions", [])}


@pytest.mark.timeout(120)
def test_a_refusal_is_a_condition_and_the_other_children_are_made(
    api: httpx.Client, namespace: str, operator: OperatorProcess
):
    for name, (template, _, _) in REFUSED.items():
        create(api, namespace, resource(name, template))
    for name, parts in MADE.items():
        create(api, namespace, resource(name, **parts))

    def told(name: str) -> bool:
        found = conditions(api, namespace, name)
        return "Reconciled" in found and found["Reconciled"]["status"] == "False"

    for name, (_, reason, words) in REFUSED.items():
        eventually(lambda name=name: told(name), f"a condition of {name}")
        found = conditions(api, namespace, name)
        for kind in ("Reconciled", "Ready", "WorkersAvailable"):
            assert found[kind]["reason"] == reason, found
            assert f"Pods {name}-prefill" in found[kind]["message"]
            assert all(word in found[kind]["message"] for word in words), (name, words, found[kind]["message"][:2000])
    wanted = {name: (1, 1) for name in (*REFUSED, *MADE)}
    expected = {part.replace("/", f"/{name}-") for name in wanted for part in CHILDREN}
    expected -= {f"Deployment/{name}-router" for name in REFUSED}  # a gateway sends to workers of known revisions
    eventually(lambda: set(children(api, namespace)) == expected, "all children")
    made = {f"{name}-decode": 1 for name in wanted} | {f"{name}-prefill": 1 for name in MADE}
    eventually(lambda: counts(api, namespace) == made, "all workers but those that are refused")
    assert all(conditions(api, namespace, name)["Reconciled"]["status"] == "True" for name in MADE)
    assert "Traceback" not in operator.log.read_text(), "a user's error is none of the operator's"


def test_a_change_that_is_refused_stops_neither_scaling_nor_what_runs(
    api: httpx.Client, namespace: str, operator: OperatorProcess
):
    create(api, namespace, resource("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    before = {pod["metadata"]["uid"] for pod in workers(api, namespace)}
    patch = {"spec": {"prefill": {"replicas": 3, "template": {"spec": {"nodeSelectr": {"a": "b"}}}}}}
    headers = {"Content-Type": "application/merge-patch+json"}
    api.patch(kinds.INFERENCE.path(namespace, "m"), content=json.dumps(patch), headers=headers).raise_for_status()
    eventually(lambda: expected_children(api, namespace, {"m": (3, 1)}), "it scales")
    assert before < {pod["metadata"]["uid"] for pod in workers(api, namespace)}
    assert len({pod["metadata"]["labels"]["dopd.dev/revision"] for pod in workers(api, namespace, "m-prefill")}) == 1
    patch = {"spec": {"prefill": {"template": None}}}
    api.patch(kinds.INFERENCE.path(namespace, "m"), content=json.dumps(patch), headers=headers).raise_for_status()
    eventually(lambda: conditions(api, namespace, "m")["Reconciled"]["status"] == "True", "it is well again")


def test_what_is_not_ours_is_neither_deleted_nor_adopted(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    operator.stop()
    create(api, namespace, resource("m"))
    uid = api.get(kinds.INFERENCE.path(namespace, "m")).json()["metadata"]["uid"]
    references = {
        "m-prefill": {"apiVersion": "example.io/v1", "kind": "DisaggregatedInference", "name": "m", "uid": "other"},
        "m-decode": {"apiVersion": "example.io/v1", "kind": "DisaggregatedInference", "name": "m", "uid": uid},
        "m-router": {"apiVersion": "dopd.dev/v1alpha1", "kind": "EngineProfile", "name": "m", "uid": "other"},
        "m-extra": {"apiVersion": "dopd.dev/v1alpha1", "kind": "DisaggregatedInference", "name": "n", "uid": "other"},
    }
    # The garbage collector takes what has no owner: it must not be what deletes here.
    plane.stop("kube-controller-manager")
    try:
        for name, reference in references.items():
            labels = {"app.kubernetes.io/managed-by": "dopd", "dopd.dev/instance": "m", "dopd.dev/pool": "x"}
            template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
            meta = {"name": name, "labels": labels, "ownerReferences": [{**reference, "controller": True}]}
            spec = {"replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": template}
            manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
            assert api.post(kinds.DEPLOYMENT.path(namespace), json=manifest).status_code == 201
        operator.start()
        eventually(lambda: conditions(api, namespace, "m").get("Ready", {}).get("reason") == "NameTaken", "NameTaken")
        message = conditions(api, namespace, "m")["Reconciled"]["message"]
        assert "Deployment m-router exists" in message
        found = {item["metadata"]["name"]: item["metadata"] for item in get(api, namespace, kinds.DEPLOYMENT)}
        told = {name: [o["uid"] for o in meta["ownerReferences"]] for name, meta in found.items()}
        assert told == {name: [reference["uid"]] for name, reference in references.items()}
        assert all(meta["generation"] == 1 and "deletionTimestamp" not in meta for meta in found.values())
        assert "Service/m-router" in children(api, namespace), "what is free is made"
    finally:
        plane.start("kube-controller-manager")


STORED = {
    "conditions": [
        {
            "type": "Ready",
            "status": "True",
            "reason": "x",
            "message": "old",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        },
        {"type": "OfAnotherVersion", "status": "True", "reason": "x", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ],
    "decisions": [{"time": "t", "from": "1+1", "to": "2+1", "reason": "r"}],
    "learnt": {"caution": 1},
    "load": {"time": "t"},
    "prefill": "three",
    "ratio": ["1:1"],
}


def test_a_status_of_another_version_is_repaired(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    operator.stop()
    definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/disaggregatedinferences.dopd.dev"
    ours = api.get(definition).raise_for_status().json()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    headers = {"Content-Type": "application/json-patch+json"}
    place = "/spec/versions/0/schema/openAPIV3Schema/properties/status"

    def of_status(schema: Any) -> None:
        patch = [{"op": "replace", "path": place, "value": schema}]
        api.patch(definition, content=json.dumps(patch), headers=headers).raise_for_status()

    create(api, namespace, resource("m"))
    of_status({"type": "object", "x-kubernetes-preserve-unknown-fields": True})
    try:
        path = kinds.INFERENCE.path(namespace, "m", "status")

        def written() -> bool:
            answer = api.get(path).json()
            return api.put(path, json={**answer, "status": STORED}).json().get("status") == STORED

        eventually(written, "the other version's status")
    finally:
        of_status(ours["properties"]["status"])
    operator.start()

    def repaired() -> bool:
        status = api.get(path).json()["status"]
        return (
            status.get("prefill", {}) == {**status["prefill"], "desired": 1}
            if isinstance(status["prefill"], dict)
            else False
        )

    eventually(repaired, "a status of this version")
    status = api.get(path).json()["status"]
    assert "learnt" not in status
    assert status["decisions"] == []
    assert "OfAnotherVersion" not in conditions(api, namespace, "m")
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
