"""What the chart gives to people, and what its policy takes from templates, on a real API server."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import yaml

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .admission import INFERENCE, changed, missing_words, send
from .chart import aggregated, as_list, render
from .resources import eventually

PREFIX = "registry.example.com/"
NARROW = {"spec.engine.image": f"{PREFIX}sglang:v0.5.23", "spec.router.image": f"{PREFIX}smg:1.13.0"}

Json = dict[str, Any]
Judge = Callable[[Json], httpx.Response]


def pod(*, container: Json | None = None, **spec: Any) -> Json:
    """Changes: a template of the prefill workers with something in it."""
    containers = {"containers": [{"name": "engine", **container}]} if container else {}
    return {"spec.prefill.template": {"spec": {**containers, **spec}}}


@pytest.fixture(scope="module")
def judge(plane: ControlPlane, api: httpx.Client, crds: None) -> Iterator[Judge]:
    """Asks the API server about the usual resource with changes, while the policy holds."""
    values = {"templatePolicy.enabled": "true", "templatePolicy.imagePrefixes[0]": PREFIX}
    policy = [m for m in render("default", **values) if m["kind"].startswith("ValidatingAdmissionPolicy")]
    plane.kubectl("apply", "--filename=-", stdin=as_list(policy))

    def ask(changes: Json) -> httpx.Response:
        return send(api, kinds.INFERENCE, changed(INFERENCE, {**NARROW, **changes}))

    try:
        eventually(lambda: ask({"spec.engine.image": "elsewhere/x:1"}).status_code == 422, "the policy holds")
        yield ask
    finally:
        plane.kubectl("delete", "--filename=-", stdin=as_list(policy))
        eventually(lambda: ask({"spec.engine.image": "elsewhere/x:1"}).status_code == 201, "the policy is gone")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        pod(nodeSelector={"a": "b"}, tolerations=[{"operator": "Exists"}]),
        pod(container={"securityContext": {"privileged": False, "capabilities": {"add": ["IPC_LOCK"]}}}),
        pod(container={"securityContext": None, "image": f"{PREFIX}other:1"}),
        pod(volumes=[{"name": "a", "persistentVolumeClaim": {"claimName": "a"}}], hostNetwork=False),
        {"spec.decode.template": {"metadata": {"labels": {"a": "b"}}}},
    ],
)
def test_the_policy_lets_through_what_is_harmless(judge: Judge, changes: Json):
    answer = judge(changes)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"spec.engine.image": "lmsysorg/sglang:v0.5.23"}, ["an image begins with none of", PREFIX]),
        ({"spec.router.image": "registry.example.com.evil.org/smg:1"}, ["an image begins with none of"]),
        (pod(container={"image": "elsewhere/x:1"}), ["an image begins with none of"]),
        (pod(initContainers=[{"name": "a", "image": "elsewhere/x:1"}]), ["an image begins with none of"]),
        (pod(container={"securityContext": {"privileged": True}}), ["privileged", "remove"]),
        (
            pod(initContainers=[{"name": "a", "image": f"{PREFIX}a:1", "securityContext": {"privileged": True}}]),
            ["privileged", "remove"],
        ),
        (pod(container={"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}), ["other than IPC_LOCK"]),
        (pod(hostNetwork=True), ["the network of the node"]),
        (pod(container={"ports": [{"containerPort": 5, "hostPort": 5}]}), ["the network of the node"]),
        (pod(hostPID=True), ["hostPID"]),
        (pod(hostIPC=True), ["hostIPC"]),
        (pod(volumes=[{"name": "a", "hostPath": {"path": "/"}}]), ["files of the node", "hostPath"]),
        (pod(serviceAccountName="admin"), ["service account"]),
        (pod(automountServiceAccountToken=True), ["service account"]),
        ({"spec.router.template": {"spec": {"hostNetwork": True}}}, ["the network of the node"]),
        ({"spec.decode.template": {"spec": {"hostNetwork": True}}}, ["the network of the node"]),
    ],
)
def test_the_policy_refuses_what_reaches_for_the_node(judge: Judge, changes: Json, words: list[str]):
    assert not missing_words(judge(changes), words)


def policy_of(**values: str) -> list[Json]:
    manifests = render("here", **{"templatePolicy.enabled": "true", **values})
    (policy,) = [m for m in manifests if m["kind"] == "ValidatingAdmissionPolicy"]
    validations: list[Json] = policy["spec"]["validations"]
    return validations


def test_each_permission_takes_its_rule_away():
    names = ("Privileged", "HostNetwork", "HostNamespaces", "HostPath", "ServiceAccounts")
    counts = [len(policy_of(**{f"templatePolicy.allow{name}": "true"})) for name in names]
    assert counts == [len(policy_of()) - 1] * len(names)


def test_there_is_no_policy_by_default():
    assert [m for m in render("here") if "Admission" in m["kind"]] == []


RIGHTS = {
    "view": {"get", "list", "watch"},
    "edit": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
    "admin": {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
}


def test_kubernetes_own_roles_take_the_resources_in(plane: ControlPlane, crds: None, namespace: str):
    roles = [m for m in render(namespace) if aggregated(m)]
    plane.kubectl("apply", "--filename=-", stdin=as_list(roles))
    try:
        for role, verbs in RIGHTS.items():

            def held(role: str = role) -> set[str]:
                rules = json.loads(plane.kubectl("get", "clusterrole", role, "--output=json"))["rules"]
                return {
                    verb for rule in rules if "disaggregatedinferences" in rule["resources"] for verb in rule["verbs"]
                }

            eventually(lambda held=held, verbs=verbs: held() == verbs, f"{role} has {verbs}")  # type: ignore[misc]
    finally:
        plane.kubectl("delete", "--filename=-", stdin=as_list(roles))


@pytest.mark.parametrize(
    ("values", "made"),
    [({}, 2), ({"watchNamespaces[0]": "a"}, 0), ({"watchNamespaces[0]": "a", "userRoles.enabled": "true"}, 2),
     ({"userRoles.enabled": "false"}, 0)],
)  # fmt: skip
def test_where_roles_for_people_are_made(values: dict[str, str], made: int):
    assert len([m for m in render("here", **values) if aggregated(m)]) == made


def test_people_may_not_write_status():
    rules = [rule for m in render("here") if aggregated(m) for rule in m["rules"]]
    assert {resource for rule in rules for resource in rule["resources"]} == {
        "disaggregatedinferences",
        "engineprofiles",
        "gpupools",
        "workerscales",
        "workerscales/scale",
    }


def test_the_operator_may_read_the_secrets_that_are_named_and_no_other():
    values = {"apiKeySecrets[0]": "llama-key"}
    roles = [m for m in render("here", **values) if m["kind"] == "ClusterRole" and not aggregated(m)]
    (rule,) = [rule for role in roles for rule in role["rules"] if "secrets" in rule["resources"]]
    assert rule == {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["llama-key"], "verbs": ["get"]}
    assert "secrets" not in yaml.safe_dump([m for m in render("here") if m["kind"] == "ClusterRole"])
