"""The chart: what it renders is accepted, what it grants suffices and is no more."""

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dopd.cluster import kinds
from e2e.cluster import programs
from e2e.cluster.controlplane import ControlPlane

from .operator_process import OperatorProcess
from .resources import connect, eventually, expected_children, inference

CHART = Path(__file__).parents[3] / "charts" / "dopd"
EVERYTHING = {
    "podMonitor.enabled": "true",
    "networkPolicy.enabled": "true",
    "imagePullSecrets[0].name": "registry",
    "priorityClassName": "system-cluster-critical",
    "nodeSelector.pool": "system",
    "podLabels.team": "ml",
    "podAnnotations.note": "x",
    "serviceAccount.annotations.note": "x",
    "tolerations[0].operator": "Exists",
    "topologySpreadConstraints[0].maxSkew": "1",
    "topologySpreadConstraints[0].topologyKey": "zone",
    "topologySpreadConstraints[0].whenUnsatisfiable": "ScheduleAnyway",
}


def render(namespace: str, **values: str) -> list[dict[str, Any]]:
    command = [programs.helm(), "template", "dopd", CHART, "--namespace", namespace]
    command += [f"--set={name}={value}" for name, value in values.items()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def test_what_it_renders_with_everything_on_is_accepted(plane: ControlPlane, namespace: str):
    manifests = render(namespace, **EVERYTHING)
    known = [manifest for manifest in manifests if manifest["kind"] != "PodMonitor"]
    assert len(manifests) - len(known) == 3
    items = json.dumps({"apiVersion": "v1", "kind": "List", "items": known})
    plane.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=items)


def test_pods_are_restricted(plane: ControlPlane, namespace: str):
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    deployment = next(m for m in render(namespace) if m["kind"] == "Deployment")
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x", "namespace": namespace}}
    pod["spec"] = {**deployment["spec"]["template"]["spec"], "serviceAccountName": "default"}
    plane.kubectl("apply", "--dry-run=server", "--filename=-", stdin=json.dumps(pod))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"imgae.tag": "x"}, "imgae"),
        ({"replicas": "two"}, "replicas"),
        ({"watchNamespaces[0]": "Bad_Name"}, "watchNamespaces"),
        ({"prometheusURL": "prometheus:9090"}, "prometheusURL"),
        ({"logFormat": "xml"}, "logFormat"),
    ],
)
def test_a_value_that_is_wrong_is_refused_by_name(values: dict[str, str], message: str):
    command = [programs.helm(), "template", "dopd", CHART, *(f"--set={k}={v}" for k, v in values.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert message in done.stderr


MAY = [
    *(f"{verb} {resource}" for verb in ("get", "list", "watch") for resource in ("pods", "pdi", "engineprofiles")),
    *(f"{verb} deployments.apps" for verb in ("get", "list", "watch", "create", "patch", "delete")),
    *(f"{verb} services" for verb in ("create", "patch", "delete")),
    *("patch pods", "patch pdi/status", "create events.events.k8s.io", "create roles.rbac.authorization.k8s.io"),
]
MAY_NOT = [
    *("get secrets", "list configmaps", "delete pods", "create pods", "patch pdi", "update pdi", "delete pdi"),
    *("patch engineprofiles", "create clusterroles.rbac.authorization.k8s.io", "get nodes", "create pods/exec"),
    *("impersonate users", "list namespaces"),
]


@pytest.mark.parametrize("mode", ["cluster", "namespaced"])
def test_it_may_do_what_it_needs_and_nothing_else(plane: ControlPlane, crds: None, namespace: str, mode: str):
    values = {"watchNamespaces[0]": namespace} if mode == "namespaced" else {}
    install(plane, namespace, **values)
    kubeconfig = plane.service_account_kubeconfig(namespace, "dopd")
    with connect(kubeconfig) as as_dopd:
        assert [what for what in MAY if not allowed(as_dopd, namespace, what)] == []
        assert [what for what in MAY_NOT if allowed(as_dopd, namespace, what)] == []
        assert allowed(as_dopd, "default", "get pods") is (mode == "cluster")


def test_the_operator_runs_with_what_the_chart_grants(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, tmp_path: Path
):
    install(plane, namespace, **{"watchNamespaces[0]": namespace})
    kubeconfig = plane.service_account_kubeconfig(namespace, "dopd")
    operator = OperatorProcess(kubeconfig, tmp_path / "log", "--namespace", namespace, lease_namespace=namespace)
    operator.start()
    try:
        plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=inference("m", 2, 1))
        eventually(lambda: expected_children(api, namespace, {"m": (2, 1)}), "the children of m")
        events = [event["reason"] for event in _events(api, namespace)]
        assert "Starting" in events or "NoPrefillWorker" in events
        plane.kubectl("patch", "pdi/m", f"--namespace={namespace}", "--type=merge", "--patch", _FEWER)
        eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "one prefill worker less")
        assert operator.stop() == 0
        assert "orbidden" not in operator.log.read_text()
    finally:
        operator.kill()


_FEWER = json.dumps({"spec": {"prefill": {"replicas": 1}}})


def _events(api: httpx.Client, namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = api.get(kinds.EVENT.path(namespace)).json()["items"]
    return items


def install(plane: ControlPlane, namespace: str, **values: str) -> None:
    rights = [m for m in render(namespace, **values) if "Role" in m["kind"] or m["kind"] == "ServiceAccount"]
    plane.kubectl("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": rights}))


_GROUPS = {"pdi": ("dopd.dev", "disaggregatedinferences"), "engineprofiles": ("dopd.dev", "engineprofiles")}


def allowed(api: httpx.Client, namespace: str, what: str) -> bool:
    verb, _, target = what.partition(" ")
    name, _, subresource = target.partition("/")
    plural, _, group = name.partition(".")
    group, plural = _GROUPS.get(plural, (group, plural))
    attributes = {"verb": verb, "group": group, "resource": plural, "namespace": namespace}
    if subresource:
        attributes["subresource"] = subresource
    body = {"spec": {"resourceAttributes": attributes}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", **body}
    answer = api.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=review)
    return bool(answer.raise_for_status().json()["status"]["allowed"])
