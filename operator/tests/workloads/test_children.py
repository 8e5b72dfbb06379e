"""What a resource becomes in the cluster."""

import json
from dataclasses import replace
from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.pairs import Pair
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.connection import control_key
from dopd.workloads.engines import worker_template
from dopd.workloads.router import Gateway, router_deployment


def flags(container: dict[str, Any]) -> dict[str, str]:
    words = container["command"]
    return {a: b for a, b in zip(words, [*words[1:], ""], strict=True) if a.startswith("--")}


def engine(deployment: dict[str, Any]) -> dict[str, Any]:
    """The first container of a Deployment or of a pod template."""
    spec = deployment["spec"]
    container: dict[str, Any] = spec.get("template", deployment)["spec"]["containers"][0]
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
        ("PodDisruptionBudget", "llama-prefill"),
        ("PodDisruptionBudget", "llama-decode"),
    ]
    for child in children:
        assert child["metadata"]["namespace"] == "serving"
        assert child["metadata"]["ownerReferences"][0]["uid"] == "uid-1"
        json.dumps(child)


def test_a_prefill_worker_is_launched_as_sglang_needs_it(owner: Owner, spec: DisaggregatedInferenceSpec):
    template = worker_template(owner, spec, Role.PREFILL)
    container = engine(template)
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
    template = worker_template(owner, spec, Role.DECODE)
    launched = flags(engine(template))
    assert launched["--disaggregation-mode"] == "decode"
    assert "--disaggregation-bootstrap-port" not in launched
    assert launched["--max-running-requests"] == "128"
    assert "annotations" not in template["metadata"]


@pytest.mark.parametrize(("target", "least"), [(1, 1), (2, 1), (5, 4)])
def test_one_worker_of_a_role_may_be_evicted_at_a_time_and_never_the_last(
    owner: Owner, spec: DisaggregatedInferenceSpec, target: int, least: int
):
    children = child_manifests(owner, spec, Targets(1, target))
    budget = next(c["spec"] for c in children if (c["kind"], c["metadata"]["name"])
                  == ("PodDisruptionBudget", "llama-decode"))  # fmt: skip
    assert budget["minAvailable"] == least
    assert budget["selector"]["matchLabels"] == {
        "dopd.dev/instance": "llama",
        "dopd.dev/role": "decode",
        "dopd.dev/serving": "true",
    }, "one that drains, or that no gateway lists yet, counts on neither side"


def test_the_grace_period_exceeds_the_longest_generation(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["engine"]["terminationGracePeriod"] = "15m"
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    pod = worker_template(owner, spec, Role.DECODE)["spec"]
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
    template = worker_template(owner, spec, Role.DECODE)
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
        template = worker_template(owner, spec, role)
        assert [volume for volume in template["spec"]["volumes"] if volume["name"] == "cache"] == [expected]
        mounts = {mount["name"]: mount["mountPath"] for mount in engine(template)["volumeMounts"]}
        assert mounts["cache"] == "/var/cache/dopd"


@pytest.mark.parametrize("secrets", [[], ["registry"]])
def test_pull_secrets(owner: Owner, raw_spec: dict[str, Any], secrets: list[str]):
    raw_spec["engine"]["imagePullSecrets"] = secrets
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    pod = worker_template(owner, spec, Role.PREFILL)["spec"]
    assert [s["name"] for s in pod.get("imagePullSecrets", [])] == secrets


def role_of(raw_spec: dict[str, Any], role: Role, **fields: Any) -> DisaggregatedInferenceSpec:
    return DisaggregatedInferenceSpec.model_validate({**raw_spec, role: {**raw_spec[role], **fields}})


def test_workers_of_both_roles_can_share_the_network_of_a_node(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["decode"]["ports"] = {"engine": 30001}
    raw_spec["prefill"]["ports"] = {"engine": 30002, "bootstrap": 8999}
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    seen = []
    for role, port in ((Role.PREFILL, 30002), (Role.DECODE, 30001)):
        template = worker_template(owner, spec, role)
        container = template["spec"]["containers"][0]
        assert flags(container)["--port"] == str(port)
        assert container["ports"][0] == {"name": "http", "containerPort": port}, "what PodMonitors go by"
        assert container["readinessProbe"]["httpGet"]["port"] == port
        assert template["metadata"]["annotations"]["smg.ai/worker-ports"] == str(port), "what the gateway goes by"
        seen += [entry["containerPort"] for entry in container["ports"]]
    assert sorted(seen) == [8999, 30001, 30002], "the scheduler tells them apart by it"
    prefill = worker_template(owner, spec, Role.PREFILL)
    assert prefill["metadata"]["annotations"]["sglang.ai/bootstrap-port"] == "8999"
    assert flags(prefill["spec"]["containers"][0])["--disaggregation-bootstrap-port"] == "8999"


def test_the_usual_port_changes_no_pod(owner: Owner, raw_spec: dict[str, Any], spec: DisaggregatedInferenceSpec):
    said = role_of(raw_spec, Role.DECODE, ports={"engine": 30000})
    assert worker_template(owner, said, Role.DECODE) == worker_template(owner, spec, Role.DECODE)


def launched_by(owner: Owner, spec: DisaggregatedInferenceSpec) -> list[dict[str, Any]]:
    """The gateway's Deployment and the templates of the workers."""
    router = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Deployment")
    return [router, *(worker_template(owner, spec, role) for role in Role)]


def test_in_a_cluster_of_ipv6_all_listen_on_ipv6(owner: Owner, raw_spec: dict[str, Any]):
    spec = DisaggregatedInferenceSpec.model_validate({**raw_spec, "ipFamily": "IPv6"})
    launched = [flags(engine(made)) for made in launched_by(owner, spec)]
    assert [found["--host"] for found in launched] == ["::"] * 3
    assert [found["--prometheus-host"] for found in launched if "--prometheus-host" in found] == ["::"]


def test_the_key_of_a_secret_reaches_workers_and_gateway_and_stands_in_no_manifest(
    owner: Owner, raw_spec: dict[str, Any]
):
    spec = DisaggregatedInferenceSpec.model_validate({**raw_spec, "apiKey": {"name": "llama", "key": "k"}})
    for made in launched_by(owner, spec):
        container = engine(made)
        assert flags(container)["--api-key"] == "$(DOPD_API_KEY)"
        reference = {"name": "llama", "key": "k"}
        assert {"name": "DOPD_API_KEY", "valueFrom": {"secretKeyRef": reference}} in container["env"]


@pytest.mark.parametrize(
    ("gpus", "parallelism", "expected"),
    [
        (8, None, {"--tp-size": "8"}),
        (8, {"tensor": 8}, {"--tp-size": "8"}),
        (8, {"pipeline": 2}, {"--tp-size": "4", "--pp-size": "2"}),
        (8, {"data": 4}, {"--tp-size": "2", "--dp-size": "4"}),
        (8, {"tensor": 2, "pipeline": 2, "data": 2}, {"--tp-size": "2", "--pp-size": "2", "--dp-size": "2"}),
        (8, {"data": 8, "dataAttention": True}, {"--tp-size": "8", "--dp-size": "8", "--enable-dp-attention": ""}),
    ],
)
def test_a_worker_spreads_as_it_is_told(
    owner: Owner, raw_spec: dict[str, Any], gpus: int, parallelism: Any, expected: dict[str, str]
):
    spec = role_of(raw_spec, Role.DECODE, gpus=gpus, parallelism=parallelism, args=[])
    launched = flags(engine(worker_template(owner, spec, Role.DECODE)))
    sizes = ("--tp-size", "--pp-size", "--dp-size")
    assert {name: launched[name] for name in sizes if name in launched} == {
        name: value for name, value in expected.items() if name in sizes
    }
    assert ("--enable-dp-attention" in launched) is ("--enable-dp-attention" in expected)


def test_the_service_port_has_the_name_that_a_mesh_asks_for(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["router"]["service"] = {"portName": "http-openai"}
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    (service,) = [c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Service"]
    assert service["spec"]["ports"] == [{"name": "http-openai", "port": 8000, "targetPort": 8000, "protocol": "TCP"}]


def gateway_flags(owner: Owner, spec: DisaggregatedInferenceSpec, **how: Any) -> dict[str, str]:
    return flags(engine(router_deployment(owner, spec, Gateway("llama-router", 1, Pair("p1", "d1")), **how)))


def test_the_control_plane_of_a_gateway_has_a_key_of_its_own(owner: Owner, raw_spec: dict[str, Any]):
    spec = DisaggregatedInferenceSpec.model_validate({**raw_spec, "apiKey": {"name": "llama", "key": "k"}})
    found = gateway_flags(owner, spec)
    assert found["--control-plane-api-keys"] == f"dopd:operator:admin:{control_key(owner)}"
    assert found["--api-key"] == "$(DOPD_API_KEY)"
    assert control_key(owner) != control_key(replace(owner, uid="uid-2")), "of another resource of that name"
    assert "--control-plane-api-keys" not in gateway_flags(owner, spec, closed=False)


def test_the_key_of_a_control_plane_may_stand_in_a_secret(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["router"]["controlKey"] = {"name": "gateways", "key": "admin"}
    spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
    made = router_deployment(owner, spec, Gateway("llama-router", 1))
    assert flags(engine(made))["--control-plane-api-keys"] == "dopd:operator:admin:$(DOPD_CONTROL_KEY)"
    reference = {"secretKeyRef": {"name": "gateways", "key": "admin"}}
    assert {"name": "DOPD_CONTROL_KEY", "valueFrom": reference} in engine(made)["env"]
    assert control_key(owner) not in json.dumps(made)


def test_a_gateway_sends_to_the_workers_of_one_pair_of_revisions_alone(owner: Owner, spec: DisaggregatedInferenceSpec):
    found = [
        router_deployment(owner, spec, Gateway(name, 1, pair))
        for name, pair in (("llama-router", Pair("p1", "d1")), ("llama-router-x", Pair("p2", "d1")))
    ]
    for made, prefill in zip(found, ("p1", "p2"), strict=True):
        words = engine(made)["command"]
        for role, revision in (("prefill", prefill), ("decode", "d1")):
            at = words.index(f"--{role}-selector")
            assert f"dopd.dev/revision={revision}" in words[at + 1 : at + 4]
    service = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Service")
    for made in found:
        labels = made["spec"]["template"]["metadata"]["labels"]
        assert made["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert service["spec"]["selector"].items() <= labels.items(), "clients reach both by one name"
    selectors = [made["spec"]["selector"]["matchLabels"] for made in found]
    assert selectors[0] != selectors[1]


def test_what_a_gateway_serves_ends_before_the_grace_period_does(owner: Owner, spec: DisaggregatedInferenceSpec):
    made = router_deployment(owner, spec, Gateway("llama-router", 1))
    pod = made["spec"]["template"]["spec"]
    notice = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    waits = int(flags(engine(made))["--shutdown-grace-period-secs"])
    assert 180 < waits < pod["terminationGracePeriodSeconds"] - notice


def test_gateways_without_workers_are_reached_where_nobody_else_could_say_503(
    owner: Owner, spec: DisaggregatedInferenceSpec
):
    def service(targets: Targets) -> dict[str, Any]:
        children = child_manifests(owner, spec, targets)
        found: dict[str, Any] = next(child for child in children if child["kind"] == "Service")["spec"]
        return found

    assert "publishNotReadyAddresses" not in service(Targets(1, 1))
    assert service(Targets(0, 0, unready=True))["publishNotReadyAddresses"] is True
