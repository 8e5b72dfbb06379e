"""Merging, held against what a real API server says of pods and what it takes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from dopd.workloads.pod_fields import LIST_KEYS, UNIONS
from dopd.workloads.revisions import revision_of, worker_pod

Json = dict[str, Any]
CORE = "io.k8s.api.core.v1."
PUBLISHED = sorted((Path(__file__).parents[1] / "workloads" / "published").glob("*.yaml"))


@pytest.fixture(scope="module")
def definitions(api: httpx.Client) -> Json:
    """The types that the API server publishes."""
    found: Json = api.get("/openapi/v2", timeout=30).raise_for_status().json()["definitions"]
    return found


def lists(definitions: Json, type_: str, path: str = "") -> Iterator[tuple[str, tuple[str, ...]]]:
    """Lists whose items are told apart, anywhere below a type, with their keys."""
    for name, field in definitions[type_].get("properties", {}).items():
        below = f"{path}.{name}" if path else name
        keys = field.get("x-kubernetes-list-map-keys") or [field.get("x-kubernetes-patch-merge-key")]
        if keys != [None]:
            yield below, tuple(keys)
        inner = field.get("$ref") or field.get("items", {}).get("$ref")
        if inner:
            yield from lists(definitions, inner.rpartition("/")[2], below)


def test_lists_merge_by_the_keys_of_the_api(definitions: Json):
    assert dict(lists(definitions, f"{CORE}PodTemplateSpec")) == LIST_KEYS


def test_unions_are_those_of_the_api(definitions: Json):
    def fields(type_: str) -> set[str]:
        return set(definitions[CORE + type_]["properties"])

    assert UNIONS["spec.volumes"] == fields("Volume") - {"name"}
    assert UNIONS["spec.containers.env"] == fields("EnvVar") - {"name"}
    assert UNIONS["spec.containers.env.valueFrom"] == fields("EnvVarSource")
    assert UNIONS["spec.containers.lifecycle.preStop"] == fields("LifecycleHandler")
    handlers = {name for name in fields("Probe") if "$ref" in definitions[f"{CORE}Probe"]["properties"][name]}
    assert UNIONS["spec.containers.startupProbe"] == handlers


def judged(api: httpx.Client, resource: Json) -> None:
    """The API server takes a resource and all its children; nothing is stored."""
    answer = api.post(kinds.INFERENCE.path("default"), params={"dryRun": "All"}, json=resource)
    assert answer.status_code == 201, answer.text
    spec = DisaggregatedInferenceSpec.model_validate(resource["spec"])
    owner = Owner(resource["metadata"]["name"], "default", "0a0a0a0a-0000-0000-0000-000000000000")
    query = {"dryRun": "All", "fieldManager": "dopd", "force": "true", "fieldValidation": "Strict"}
    headers = {"Content-Type": "application/apply-patch+yaml"}
    for role in Role:
        account = worker_template(owner, spec, role)["spec"].get("serviceAccountName", "default")
        api.post(
            kinds.SERVICE_ACCOUNT.path("default"), json={"metadata": {"name": account}}
        )  # pods need it to be there
        revision = revision_of(owner, role, worker_template(owner, spec, role))
        pod = worker_pod(owner, role, revision, "m", 1)
        answer = api.post(kinds.POD.path("default"), params={"dryRun": "All", "fieldValidation": "Strict"}, json=pod)
        assert answer.status_code == 201, answer.text
    for child in child_manifests(owner, spec, Targets(1, 1)):
        path = kinds.kind_of(child).path("default", child["metadata"]["name"])
        answer = api.patch(path, params=query, content=json.dumps(child), headers=headers)
        assert answer.status_code in (200, 201), f"{child['kind']} {child['metadata']['name']}: {answer.text}"


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: path.stem)
def test_published_deployments_become_pods_that_kubernetes_takes(api: httpx.Client, crds: None, path: Path):
    judged(api, yaml.safe_load(path.read_text()))


def engine(**fields: Any) -> Json:
    return {"containers": [{"name": "engine", **fields}]}


CLAIM = {"name": "cache", "persistentVolumeClaim": {"claimName": "c"}}
VARIABLE = {"secretKeyRef": {"name": "s", "key": "k"}}
POD_SPECS: dict[str, Json] = {
    "two mounts of one volume": {
        **engine(
            volumeMounts=[
                {"name": "data", "mountPath": "/a", "readOnly": True},
                {"name": "data", "mountPath": "/b", "subPath": "b"},
                {"name": "shared-memory", "mountPath": "/scratch"},
            ]
        ),
        "volumes": [{"name": "data", "emptyDir": {}}],
    },
    "escalation by a capability": engine(securityContext={"capabilities": {"add": ["CAP_SYS_ADMIN"]}}),
    "privileged": engine(securityContext={"privileged": True}),
    "another address": engine(
        env=[{"name": "HOST_IP", "value": "::1"}, {"name": "SGLANG_HOST_IP", "valueFrom": VARIABLE}]
    ),
    "other handlers": engine(
        startupProbe={"exec": {"command": ["true"]}},
        readinessProbe={"grpc": {"port": 30000}},
        livenessProbe={"tcpSocket": {"port": 30000}},
        lifecycle={"preStop": {"exec": {"command": ["true"]}}},
    ),
    "a cache on a claim": {"volumes": [CLAIM]},
    "little time to stop": {"terminationGracePeriodSeconds": 1},
    "no time to stop": {"terminationGracePeriodSeconds": 0},
    "root": {"securityContext": {"runAsUser": 0, "runAsNonRoot": False}},
    "the host": {"hostNetwork": True, "hostPID": True, "hostIPC": True, "dnsPolicy": "ClusterFirstWithHostNet"},
    "spread": {
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": when}
            for when in ("DoNotSchedule", "ScheduleAnyway")
        ]
    },
    "nothing of ours": engine(startupProbe=None, livenessProbe=None, lifecycle=None, securityContext=None),
}


@pytest.mark.parametrize("name", POD_SPECS)
def test_choices_beside_our_defaults_become_pods_that_kubernetes_takes(api: httpx.Client, crds: None, name: str):
    template = {"spec": POD_SPECS[name]}
    gateway = json.loads(json.dumps(template).replace('"engine"', '"router"').replace("shared-memory", "data"))
    spec: Json = {
        "model": "m",
        "engine": {"image": "sglang"},
        "prefill": {"gpus": 1, "replicas": 1, "template": template},
        "decode": {"gpus": 1, "replicas": 1, "template": template},
        "router": {"image": "smg"} if name == "a cache on a claim" else {"image": "smg", "template": gateway},
    }
    meta = {"name": "choices"}
    judged(api, {"apiVersion": "dopd.dev/v1alpha1", "kind": kinds.INFERENCE.kind, "metadata": meta, "spec": spec})
