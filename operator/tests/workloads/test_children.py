"""What a resource becomes in the cluster."""

import json
from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_deployment


def flags(container: dict[str, Any]) -> dict[str, str]:
    words = container["command"]
    return {a: b for a, b in zip(words, [*words[1:], ""], strict=True) if a.startswith("--")}


def engine(deployment: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = deployment["spec"]["template"]["spec"]["containers"][0]
    return container


def test_the_children_of_a_resource(owner: Owner, spec: DisaggregatedInferenceSpec):
    children = child_manifests(owner, spec, Targets(1, 3))
    assert [(c["kind"], c["metadata"]["name"]) for c in children] == [
        ("ServiceAccount", "llama-router"),
        ("Role", "llama-router"),
        ("RoleBinding", "llama-router"),
        ("Deployment", "llama-router"),
        ("Service", "llama-router"),
        ("PodDisruptionBudget", "llama-router"),
        ("ConfigMap", "llama-prefill"),
        ("Deployment", "llama-prefill"),
        ("PodDisruptionBudget", "llama-prefill"),
        ("Deployment", "llama-decode"),
        ("PodDisruptionBudget", "llama-decode"),
    ]
    for child in children:
        assert child["metadata"]["namespace"] == "serving"
        assert child["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
        json.dumps(child)


def test_a_prefill_worker_is_launched_as_sglang_needs_it(owner: Owner, spec: DisaggregatedInferenceSpec):
    deployment = worker_deployment(owner, spec, Role.PREFILL, 1)
    container, template = engine(deployment), deployment["spec"]["template"]
    assert container["command"][:3] == ["python3", "-m", "sglang.launch_server"]
    launched = flags(container)
    assert launched["--disaggregation-mode"] == "prefill"
    assert launched["--disaggregation-transfer-backend"] == "mooncake"
    assert launched["--disaggregation-bootstrap-port"] == "8998"
    assert launched["--served-model-name"] == "meta-llama/Llama-3.1-8B-Instruct"
    assert launched["--tp-size"] == "2"
    assert launched["--mem-fraction-static"] == "0.85"
    assert "--enable-metrics" in launched
    assert template["metadata"]["annotations"] == {"sglang.ai/bootstrap-port": "8998"}
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "2"}


def test_a_decode_worker_has_no_bootstrap_server(owner: Owner, spec: DisaggregatedInferenceSpec):
    deployment = worker_deployment(owner, spec, Role.DECODE, 3)
    launched = flags(engine(deployment))
    assert launched["--disaggregation-mode"] == "decode"
    assert "--disaggregation-bootstrap-port" not in launched
    assert launched["--max-running-requests"] == "128"
    assert "annotations" not in deployment["spec"]["template"]["metadata"]
    assert deployment["spec"]["replicas"] == 3


def test_the_role_label_is_no_part_of_the_selector(owner: Owner, spec: DisaggregatedInferenceSpec):
    deployment = worker_deployment(owner, spec, Role.DECODE, 1)
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selector = deployment["spec"]["selector"]["matchLabels"]
    assert labels["dopd.dev/role"] == "decode"
    assert "dopd.dev/role" not in selector, "a drained pod must stay in its ReplicaSet"
    assert selector.items() <= labels.items()


def test_the_grace_period_exceeds_the_longest_generation(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["engine"]["terminationGracePeriod"] = "15m"
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    pod = worker_deployment(owner, spec, Role.DECODE, 1)["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 900


def test_the_gateway_selects_by_role_within_the_resource(owner: Owner, spec: DisaggregatedInferenceSpec):
    router = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Deployment")
    words = router["spec"]["template"]["spec"]["containers"][0]["command"]
    at = words.index("--prefill-selector")
    assert words[at + 1 : at + 3] == ["dopd.dev/instance=llama", "dopd.dev/role=prefill"]
    assert words[words.index("--service-discovery-namespace") + 1] == "serving"


def test_the_gateway_leaves_no_worker_out_for_its_queue(owner: Owner, spec: DisaggregatedInferenceSpec):
    router = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Deployment")
    assert "--disable-worker-overload-protection" in flags(engine(router))


def test_the_gateway_goes_by_requests_in_flight_unless_the_user_says_otherwise(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["router"]["args"] = ["--power-of-two-load-metric", "expected_wait"]
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    router = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Deployment")
    words = router["spec"]["template"]["spec"]["containers"][0]["command"]
    metrics = [words[i + 1] for i, word in enumerate(words) if word == "--power-of-two-load-metric"]
    assert metrics == ["least_requests", "expected_wait"], "the gateway goes by the last one"


def test_a_template_reaches_the_pod(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["decode"]["template"] = {
        "metadata": {"annotations": {"team": "chat"}},
        "spec": {
            "nodeSelector": {"gpu": "h100"},
            "containers": [{"name": "engine", "resources": {"limits": {"rdma/ib": "1"}}}],
        },
    }
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    template = worker_deployment(owner, spec, Role.DECODE, 1)["spec"]["template"]
    assert template["metadata"]["annotations"] == {"team": "chat"}
    assert template["spec"]["nodeSelector"] == {"gpu": "h100"}
    container = template["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"nvidia.com/gpu": "1", "rdma/ib": "1"}
    assert container["image"] == "sglang:v0.5.23"


def test_compiled_caches_outlive_a_container_and_may_stand_on_a_claim(owner: Owner, raw_spec: dict[str, Any]):
    claim = {"name": "cache", "persistentVolumeClaim": {"claimName": "kernels"}}
    raw_spec["decode"]["template"] = {"spec": {"volumes": [claim]}}
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    for role, expected in ((Role.PREFILL, {"name": "cache", "emptyDir": {}}), (Role.DECODE, claim)):
        deployment = worker_deployment(owner, spec, role, 1)
        pod = deployment["spec"]["template"]["spec"]
        assert [volume for volume in pod["volumes"] if volume["name"] == "cache"] == [expected]
        mounts = {mount["name"]: mount["mountPath"] for mount in engine(deployment)["volumeMounts"]}
        assert mounts["cache"] == "/var/cache/dopd"


@pytest.mark.parametrize("secrets", [[], ["registry"]])
def test_pull_secrets(owner: Owner, raw_spec: dict[str, Any], secrets: list[str]):
    raw_spec["engine"]["imagePullSecrets"] = secrets
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    pod = worker_deployment(owner, spec, Role.PREFILL, 1)["spec"]["template"]["spec"]
    assert [s["name"] for s in pod.get("imagePullSecrets", [])] == secrets
