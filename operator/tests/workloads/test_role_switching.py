"""Workers that may change their role: both roles are started alike, with a bootstrap port for each turn."""

from typing import Any

import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.refusal import Refusal


def template(
    owner: Owner, raw_spec: dict[str, Any], role: Role, *, alike: bool = True, **engine: Any
) -> dict[str, Any]:
    raw_spec["roleSwitching"] = {"enabled": True}
    raw_spec["decode"]["gpus"] = raw_spec["prefill"]["gpus"]
    if alike:
        raw_spec["decode"].pop("args", None)
    raw_spec["engine"] |= {"image": "lmsysorg/sglang:v0.5.23", **engine}
    return worker_template(owner, DisaggregatedInferenceSpec.model_validate(raw_spec), role)


@pytest.mark.parametrize("role", Role)
def test_a_container_is_started_as_its_label_says(owner: Owner, raw_spec: dict[str, Any], role: Role):
    made = template(owner, raw_spec, role)
    [container] = made["spec"]["containers"]
    words = container["command"]
    assert words[words.index("--disaggregation-mode") + 1] == "$(DOPD_ROLE)"
    [variable] = [each for each in container["env"] if each["name"] == "DOPD_ROLE"]
    assert variable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.labels['dopd.dev/pool']"
    assert made["metadata"]["labels"]["dopd.dev/pool"] == role
    assert made["metadata"]["labels"]["dopd.dev/launched-as"] == role


@pytest.mark.parametrize("role", Role)
def test_it_may_change_its_role_and_has_further_bootstrap_ports(owner: Owner, raw_spec: dict[str, Any], role: Role):
    [container] = template(owner, raw_spec, role)["spec"]["containers"]
    words = container["command"]
    assert words[:2] == ["python3", "-c"]
    assert words[3:9] == ["0.0.0.0", "8998", "64", "python3", "-m", "sglang.launch_server"]
    assert {"--enable-pd-role-switch", "--disable-radix-cache"} < set(words)
    assert words[words.index("--disaggregation-bootstrap-port") + 1] == "8998"
    assert "--schedule-policy" not in words, "an order of prefill alone, with which no decode engine starts"


def test_both_roles_are_started_alike(owner: Owner, raw_spec: dict[str, Any]):
    prefill, decode = (template(owner, raw_spec, role)["spec"]["containers"][0] for role in Role)
    assert prefill == decode


@pytest.mark.parametrize("role", Role)
def test_arguments_of_one_role_alone_are_refused(owner: Owner, raw_spec: dict[str, Any], role: Role):
    raw_spec["decode"]["args"] = ["--max-running-requests", "128"]
    with pytest.raises(Refusal) as refused:
        template(owner, raw_spec, role, alike=False)
    assert refused.value.field == "spec.decode.args"
    assert "'--max-running-requests', '128'" in str(refused.value)
    assert "write them to spec.engine.args" in str(refused.value)
    raw_spec["prefill"]["args"] = raw_spec["decode"]["args"]
    assert "--max-running-requests" in template(owner, raw_spec, role, alike=False)["spec"]["containers"][0]["command"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("env", [{"name": "A", "value": "1"}]), ("image", "lmsysorg/sglang:v0.5.22"), ("envFrom", [{"prefix": "A"}])],
)
def test_what_a_template_gives_to_one_roles_engine_alone_is_refused(
    owner: Owner, raw_spec: dict[str, Any], name: str, value: Any
):
    raw_spec["prefill"]["template"] = {"spec": {"containers": [{"name": "engine", name: value}]}}
    with pytest.raises(Refusal, match="write the same to both") as refused:
        template(owner, raw_spec, Role.PREFILL)
    assert refused.value.field == f"spec.decode.template.spec.containers[engine].{name}"


def test_where_they_run_and_who_stands_beside_them_may_differ(owner: Owner, raw_spec: dict[str, Any]):
    beside = {"nodeSelector": {"a": "b"}, "containers": [{"name": "engine", "resources": {"requests": {"cpu": "1"}}}]}
    raw_spec["prefill"]["template"] = {"spec": {**beside, "containers": [*beside["containers"], {"name": "log"}]}}
    assert template(owner, raw_spec, Role.PREFILL)["spec"]["nodeSelector"] == {"a": "b"}


def test_without_it_nothing_of_this_is_there(owner: Owner, raw_spec: dict[str, Any]):
    raw_spec["roleSwitching"] = {"enabled": False}
    for role in Role:
        made = worker_template(owner, DisaggregatedInferenceSpec.model_validate(raw_spec), role)
        [container] = made["spec"]["containers"]
        assert container["command"][:3] == ["python3", "-m", "sglang.launch_server"]
        assert not {"--enable-pd-role-switch", "--disable-radix-cache"} & set(container["command"])
        assert "dopd.dev/launched-as" not in made["metadata"]["labels"]


@pytest.mark.parametrize(
    ("engine", "ports", "words"),
    [
        ({"image": "lmsysorg/sglang:v0.5.20"}, {}, "needs SGLang 0.5.21 or later"),
        ({}, {"bootstrap": 65500}, "ports 65500 to 65564"),
        ({}, {"engine": 9000, "bootstrap": 8998}, "give ports.engine or ports.bootstrap another one"),
    ],
)
def test_what_can_not_change_its_role_is_refused(
    owner: Owner, raw_spec: dict[str, Any], engine: dict[str, str], ports: dict[str, int], words: str
):
    raw_spec["prefill"]["ports"] = ports
    with pytest.raises(Refusal, match=words):
        template(owner, raw_spec, Role.PREFILL, **engine)


def test_the_variable_of_the_role_is_the_operators(owner: Owner, raw_spec: dict[str, Any]):
    env = [{"name": "DOPD_ROLE", "value": "decode"}]
    for role in Role:
        raw_spec[role]["template"] = {"spec": {"containers": [{"name": "engine", "env": env}]}}
    with pytest.raises(Refusal, match=r"is set by spec\.roleSwitching; leave it out"):
        template(owner, raw_spec, Role.PREFILL)
