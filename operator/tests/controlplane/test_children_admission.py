"""What the operator makes of each field is accepted by the API server: server-side apply, as strict as it gets."""

from typing import Any

import httpx
import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from dopd.workloads.revisions import revision_of, worker_pod

from .admission import INFERENCE, changed

EIGHT = {"gpus": 8, "parallelism": {"data": 8, "dataAttention": True}}
SPECS: dict[str, dict[str, Any]] = {
    "as usual": {},
    "one host network": {
        "spec.prefill.ports": {"engine": 30001, "bootstrap": 8999},
        "spec.decode.ports": {"engine": 30002},
        "spec.prefill.template": {"spec": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}},
        "spec.decode.template": {"spec": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}},
    },
    "ports of a sidecar": {
        "spec.prefill.template": {
            "spec": {
                "containers": [
                    {"name": "engine", "ports": [{"containerPort": 30000}, {"name": "nixl", "containerPort": 5600}]},
                    {"name": "proxy", "image": "x", "ports": [{"name": "proxy", "containerPort": 8080}]},
                ]
            }
        }
    },
    "a key and IPv6": {"spec.apiKey": {"name": "llama-key"}, "spec.ipFamily": "IPv6"},
    "eight GPUs": {"spec.prefill": EIGHT, "spec.decode": EIGHT, "spec.scaling.gpuBudget.max": 64},
    "a named port for a mesh": {"spec.router.service": {"portName": "http-openai", "port": 80}},
    "variables from all sources": {
        "spec.engine.env": [
            {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
            {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
            {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName", "apiVersion": "v1"}}},
            {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "E", "value": "$(A)"},
        ]
    },
}


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS.keys())
def test_the_children_of_a_resource_are_accepted(api: httpx.Client, crds: None, changes: dict[str, Any]):
    manifest = changed(INFERENCE, changes)
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    answer = api.post(kinds.INFERENCE.path("default"), params=query, json=manifest)
    assert answer.status_code == 201, answer.text
    spec = DisaggregatedInferenceSpec.model_validate(manifest["spec"])
    owner = Owner("llama", "default", "1-2-3")
    for role in Role:
        pod = worker_pod(owner, role, revision_of(owner, role, worker_template(owner, spec, role)), "llama", 1)
        answer = api.post(kinds.POD.path("default"), params=query, json=pod)
        assert answer.status_code == 201, answer.text
        assert answer.headers.get("warning") is None, answer.headers["warning"]
    for child in child_manifests(owner, spec, Targets(1, 1)):
        path = kinds.kind_of(child).path("default", child["metadata"]["name"])
        headers = {"content-type": "application/apply-patch+yaml"}
        answer = api.patch(path, params={"fieldManager": "dopd", **query}, json=child, headers=headers)
        assert answer.status_code in (200, 201), f"{child['kind']}: {answer.text}"
        assert answer.headers.get("warning") is None, answer.headers["warning"]
