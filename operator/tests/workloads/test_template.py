"""The operator's defaults beside the user's choices: the pod stays one that Kubernetes takes."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner, Targets, child_manifests
from dopd.workloads.engines import worker_template
from dopd.workloads.refusal import Refusal


@pytest.fixture
def decode(owner: Owner, raw_spec: dict[str, Any]):
    """The decode pod of a template."""

    def pod(template: dict[str, Any], **engine: Any) -> dict[str, Any]:
        raw_spec["decode"]["template"] = template
        raw_spec["engine"].update(engine)
        spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
        made: dict[str, Any] = worker_template(owner, spec, Role.DECODE)["spec"]
        return made

    return pod


@pytest.fixture
def router(owner: Owner, raw_spec: dict[str, Any]):
    """The gateway's pod of a template."""

    def pod(template: dict[str, Any]) -> dict[str, Any]:
        raw_spec["router"]["template"] = template
        spec = DisaggregatedInferenceSpec.model_validate(raw_spec)
        deployment = next(c for c in child_manifests(owner, spec, Targets(1, 1)) if c["kind"] == "Deployment")
        made: dict[str, Any] = deployment["spec"]["template"]["spec"]
        return made

    return pod


def engine(**fields: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "engine", **fields}]}}


@pytest.mark.parametrize(
    "context",
    [{"privileged": True}, {"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, {"capabilities": {"add": ["SYS_ADMIN"]}}],
)
def test_a_choice_that_needs_escalation_takes_our_default_away(decode, context: dict[str, Any]):
    assert decode(engine(securityContext=context))["containers"][0]["securityContext"] == context


def test_two_choices_of_the_user_are_left_as_they_are(decode):
    context = {"privileged": True, "allowPrivilegeEscalation": False}
    assert decode(engine(securityContext=context))["containers"][0]["securityContext"] == context


def test_other_capabilities_leave_our_default(decode):
    context = decode(engine(securityContext={"capabilities": {"add": ["IPC_LOCK"]}}))["containers"][0][
        "securityContext"
    ]
    assert context == {"allowPrivilegeEscalation": False, "capabilities": {"add": ["IPC_LOCK"]}}


@pytest.mark.parametrize("place", ["pod", "container"])
def test_root_in_the_gateway_is_root(router, place: str):
    context = {"runAsUser": 0}
    of_pod = {"securityContext": context} if place == "pod" else {}
    of_container = {"securityContext": context} if place == "container" else {}
    made = router({"spec": {**of_pod, "containers": [{"name": "router", **of_container}]}})
    told = made["containers"][0]["securityContext"]
    assert "runAsNonRoot" not in told
    assert told.get("runAsUser", 0) == 0


def test_a_port_name_of_the_user_stands_for_the_users_port(decode):
    pod = decode(engine(ports=[{"name": "http", "containerPort": 8080}]))
    container = pod["containers"][0]
    assert container["ports"] == [{"containerPort": 30000}, {"name": "http", "containerPort": 8080}]
    assert {container[probe]["httpGet"]["port"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")} == {
        30000
    }


@pytest.mark.parametrize(
    ("grace", "hook"), [(600, {"sleep": {"seconds": 5}}), (3, {"sleep": {"seconds": 3}}), (0, None)]
)
def test_the_pause_before_a_stop_fits_the_users_grace_period(decode, grace: int, hook: dict[str, Any] | None):
    pod = decode({"spec": {"terminationGracePeriodSeconds": grace}})
    assert pod["containers"][0]["lifecycle"].get("preStop") == hook


def test_own_shared_memory_takes_the_place_of_ours(decode):
    own = {"name": "dshm", "emptyDir": {"medium": "Memory"}}
    template = engine(volumeMounts=[{"name": "dshm", "mountPath": "/dev/shm"}])
    template["spec"]["volumes"] = [own]
    pod = decode(template)
    assert [volume["name"] for volume in pod["volumes"]] == ["cache", "dshm"]


def test_own_addresses_take_the_place_of_ours(decode):
    pod = decode(engine(), env=[{"name": "SGLANG_HOST_IP", "value": "10.0.0.9"}])
    addresses = [entry for entry in pod["containers"][0]["env"] if entry["name"] == "SGLANG_HOST_IP"]
    assert addresses == [{"name": "SGLANG_HOST_IP", "value": "10.0.0.9"}]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (engine(command=["sh"]), ["containers[engine].command", "spec.engine.args or spec.decode.args"]),
        (engine(command=None), ["containers[engine].command", "leave it out"]),
        (engine(args=["--log-level", "info", "--tp=8"]), ["engine].args", "'--tp=8'", "parallelism.tensor"]),
        (engine(ports=None), ["containers[engine].ports", "30000"]),
        ({"spec": {"containers": None}}, ["spec.decode.template.spec.containers", "takes container engine away"]),
        ({"metadata": {"labels": {"dopd.dev/role": "prefill"}}}, ["labels[dopd.dev/role]", "operator's own"]),
        ({"metadata": {"labels": {"dopd.dev/pool": None}}}, ["labels[dopd.dev/pool]", "operator's own"]),
        ({"metadata": None}, ["labels[", "operator's own"]),
        (engine(resources={"limits": {"nvidia.com/gpu": 8}}), ["limits[nvidia.com/gpu]", "gpus, 1"]),
    ],
)
def test_what_the_operator_needs_as_it_is_is_refused_by_name(decode, template: dict[str, Any], words: list[str]):
    with pytest.raises(Refusal) as caught:
        decode(template)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    "env", [None, [{"name": "DOPD_API_KEY", "value": "mine"}], [{"name": "DOPD_API_KEY", "valueFrom": None}]]
)
def test_the_key_stays_the_one_that_the_spec_names(decode, raw_spec: dict[str, Any], env: Any):
    raw_spec["apiKey"] = {"name": "llama-key"}
    with pytest.raises(Refusal, match=r"containers\[engine\]\.env\[DOPD_API_KEY\]: is set by spec\.apiKey"):
        decode(engine(env=env))
    assert decode(engine(env=[{"name": "HOME", "value": "/tmp"}]))["containers"]


def test_a_variable_that_is_there_twice_is_refused_by_name(decode):
    with pytest.raises(Refusal, match=r"spec\.engine\.env\[A\]: is there twice"):
        decode(engine(), env=[{"name": "A", "value": "1"}, {"name": "A", "value": "2"}])
