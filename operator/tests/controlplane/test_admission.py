"""Bad resources are refused by the API server, with a message that names the field and the fix."""

import copy
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError

from .resources import eventually

INFERENCE: dict[str, Any] = {
    "apiVersion": "dopd.dev/v1alpha1",
    "kind": "DisaggregatedInference",
    "metadata": {"name": "llama"},
    "spec": {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "engine": {"image": "lmsysorg/sglang:v0.5.23"},
        "prefill": {"gpus": 2},
        "decode": {"gpus": 2},
        "router": {"image": "smg:1.13.0"},
        "scaling": {
            "prefill": {"min": 1, "max": 4},
            "decode": {"min": 1, "max": 4},
            "gpuBudget": {"max": 8},
            "profileRef": {"name": "llama-3.1-8b-h100"},
        },
    },
}
PROFILE: dict[str, Any] = {
    "apiVersion": "dopd.dev/v1alpha1",
    "kind": "EngineProfile",
    "metadata": {"name": "p"},
    "spec": {
        "model": "m",
        "gpu": "h100_sxm",
        "source": {"origin": "Measured", "description": "by hand", "date": "2026-01-01"},
        "prefill": {"points": [{"tokens": 512, "seconds": 0.01}, {"tokens": 2048, "seconds": 0.05}]},
        "decode": {"points": [{"batch": 1, "contextTokens": 1024, "itlSeconds": 0.006}], "kvTokens": 400000},
    },
}
GONE = object()


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A manifest with values at dotted paths set, or taken away."""
    manifest = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, last = path.split(".")
        node = manifest
        for parent in parents:
            node = node.setdefault(parent, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return manifest


def send(api: httpx.Client, kind: kinds.Kind, manifest: dict[str, Any]) -> httpx.Response:
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    return api.post(kind.path("default"), params=query, json=manifest)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spec.scaling": GONE, "spec.prefill.replicas": 2, "spec.decode.replicas": 0},
        {"spec.scaling.ratio": {"min": "1:4", "max": "4:1"}},
        {"spec.roleSwitching": {"enabled": True}},
        {"spec.prefill.template": {"spec": {"nodeSelector": {"a": "b"}, "anything": [1]}}},
        {"spec.engine.env": [{"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf", "key": "token"}}}]},
        {"spec.engine.args": ["--mem-fraction-static", "0.85", "--trust-remote-code"]},
        {"spec.scaling.behavior": {"interval": "1m30s", "drainDeadline": "2h"}},
    ],
)
def test_good_resources_are_accepted_as_they_are(api: httpx.Client, crds: None, changes: dict[str, Any]):
    manifest = changed(INFERENCE, changes)
    answer = send(api, kinds.INFERENCE, manifest)
    assert answer.status_code == 201, answer.text
    assert answer.json()["spec"] == manifest["spec"], "nothing is filled in"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec.model": GONE}, ["spec.model: Required"]),
        ({"spec.model": "bad name"}, ["spec.model", "should match"]),
        ({"spec.engine.image": GONE}, ["spec.engine.image: Required"]),
        ({"spec.engine.image": "two words"}, ["spec.engine.image", "should match"]),
        ({"spec.engine.transferBackend": "carrier-pigeon"}, ["spec.engine.transferBackend", '"mooncake"']),
        ({"spec.engine.imagePullPolicy": "Sometimes"}, ["spec.engine.imagePullPolicy", '"IfNotPresent"']),
        ({"spec.engine.sharedMemory": "16 GB"}, ["spec.engine.sharedMemory", "should match"]),
        ({"spec.engine.terminationGracePeriod": "ten minutes"}, ["terminationGracePeriod", "should match"]),
        ({"spec.engine.args": ["--port", "1"]}, ["spec.engine.args", "operator sets itself", "remove it"]),
        ({"spec.engine.args": ["--tp-size=4"]}, ["spec.engine.args", "operator sets itself"]),
        ({"spec.decode.args": ["--disaggregation-mode", "null"]}, ["spec.decode.args", "remove it"]),
        (
            {"spec.engine.env": [{"name": "A", "value": "1", "valueFrom": {}}]},
            ["spec.engine.env", "either value or valueFrom"],
        ),
        ({"spec.engine.env": [{"name": "9-LIVES", "value": "1"}]}, ["spec.engine.env[0].name", "should match"]),
        ({"spec.prefill.gpus": 0}, ["spec.prefill.gpus", "greater than or equal to 1"]),
        ({"spec.prefill.gpus": GONE}, ["spec.prefill.gpus: Required"]),
        ({"spec.prefill.gpuResource": "gpu"}, ["spec.prefill.gpuResource", "should match"]),
        ({"spec.prefill.parallelism": {"tensor": 4}}, ["parallelism.tensor must equal gpus"]),
        ({"spec.prefill.replicas": 1}, ["replicas and scaling exclude each other", "remove"]),
        ({"spec.scaling": GONE}, ["both spec.prefill.replicas and spec.decode.replicas are needed"]),
        ({"spec.scaling.prefill": {"min": 5, "max": 4}}, ["spec.scaling.prefill", "min must not exceed max"]),
        ({"spec.scaling.decode.min": 0}, ["spec.scaling.decode.min", "greater than or equal to 1"]),
        ({"spec.scaling.gpuBudget.max": 3}, ["gpuBudget.max is below", "raise it or lower a min"]),
        ({"spec.scaling.ratio": {"min": "2:1", "max": "1:2"}}, ["spec.scaling.ratio", "must not exceed ratio.max"]),
        ({"spec.scaling.ratio": {"min": "0.25", "max": "1:2"}}, ["spec.scaling.ratio.min", "should match"]),
        ({"spec.scaling.mode": "auto"}, ["spec.scaling.mode", '"Auto", "Advise", "Paused"']),
        ({"spec.scaling.profileRef": GONE}, ["spec.scaling.profileRef: Required"]),
        (
            {"spec.scaling.forecast": {"quantile": 1.0}},
            ["spec.scaling.forecast.quantile", "at most 0.999"],
        ),
        ({"spec.scaling.behavior": {"interval": "30"}}, ["spec.scaling.behavior.interval", "should match"]),
        ({"spec.scaling.behavior": {"maxStep": 0}}, ["spec.scaling.behavior.maxStep"]),
        ({"spec.slo": {"ttftSeconds": 0}}, ["spec.slo.ttftSeconds", "greater than 0"]),
        ({"spec.slo": {"attainment": 99}}, ["spec.slo.attainment", "at most 0.9999"]),
        ({"spec.roleSwitching": {"enabled": True}, "spec.decode.gpus": 1}, ["roleSwitching needs equal gpus"]),
        (
            {"spec.roleSwitching": {"enabled": True}, "spec.engine.transferBackend": "nixl"},
            ["roleSwitching needs spec.engine.transferBackend mooncake"],
        ),
        ({"spec.router.service": {"nodePort": 30080}}, ["nodePort needs type NodePort"]),
        ({"spec.router.replicas": 0}, ["spec.router.replicas"]),
        ({"spec.router.prefillPolicy": "best"}, ["spec.router.prefillPolicy", '"power_of_two"']),
        ({"spec.telemetry": {"prometheusURL": "prometheus:9090"}}, ["spec.telemetry.prometheusURL", "should match"]),
        ({"spec.prefil": {"gpus": 1}}, ['unknown field "spec.prefil"']),
        ({"spec.scaling.behaviour": {}}, ['unknown field "spec.scaling.behaviour"']),
        ({"metadata.name": "a" * 47}, ["metadata.name", "at most 46"]),
        ({"metadata.name": "8b"}, ["metadata.name", "beginning with a letter"]),
    ],
)
def test_bad_resources_are_refused_by_field_and_fix(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    answer = send(api, kinds.INFERENCE, changed(INFERENCE, changes))
    assert answer.status_code in (400, 422), answer.text
    message = answer.json()["message"]
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec.prefill.points": [{"tokens": 1, "seconds": 1}]}, ["spec.prefill.points", "at least 2"]),
        (
            {"spec.prefill.points": [{"tokens": 1, "seconds": 2}, {"tokens": 2, "seconds": 1}]},
            ["seconds must not fall as tokens grow"],
        ),
        (
            {"spec.prefill.points": [{"tokens": 1, "seconds": 1}, {"tokens": 1, "seconds": 1}]},
            ["each tokens value may stand once"],
        ),
        ({"spec.prefill.points": [{"tokens": 0, "seconds": 1}] * 2}, ["tokens", "greater than or equal to 1"]),
        ({"spec.decode.kvTokens": GONE}, ["spec.decode.kvTokens: Required"]),
        ({"spec.source.date": "yesterday"}, ["spec.source.date", "should match"]),
        ({"spec.source.origin": "Guessed"}, ["spec.source.origin", '"Estimated"']),
        ({"spec.correction": 0}, ["spec.correction", "greater than 0"]),
    ],
)
def test_bad_profiles_are_refused_by_field_and_fix(
    api: httpx.Client, crds: None, changes: dict[str, Any], words: list[str]
):
    answer = send(api, kinds.PROFILE, changed(PROFILE, changes))
    assert answer.status_code in (400, 422), answer.text
    assert [word for word in words if word not in answer.json()["message"]] == [], answer.json()["message"]


def test_a_good_profile_is_accepted(api: httpx.Client, crds: None):
    assert send(api, kinds.PROFILE, PROFILE).status_code == 201


def test_the_model_can_not_change_and_status_is_apart(api: httpx.Client, crds: None, namespace: str):
    path = kinds.INFERENCE.path(namespace)
    api.post(path, json=INFERENCE).raise_for_status()
    patch = {"content-type": "application/merge-patch+json"}
    answer = api.patch(f"{path}/llama", json={"spec": {"model": "other"}}, headers=patch)
    assert answer.status_code == 422
    assert "model cannot change; create another resource" in answer.json()["message"]
    answer = api.patch(f"{path}/llama", json={"status": {"mode": "Auto"}}, headers=patch)
    assert "status" not in answer.raise_for_status().json()


def test_kubectl_explains_the_fields(plane: ControlPlane, crds: None):
    def explained() -> bool:  # discovery follows the definition by a moment
        try:
            text = plane.kubectl("explain", "pdi.spec.scaling.gpuBudget.max")
        except ClusterError:
            return False
        return "Most GPUs, starting and draining workers included." in text

    eventually(explained, "kubectl explain pdi")
