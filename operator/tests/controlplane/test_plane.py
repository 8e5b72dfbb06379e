"""The control plane that the other tests of this folder rely on."""

import json

import pytest

from e2e.cluster.controlplane import ControlPlane
from e2e.cluster.errors import ClusterError

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: sleeper}
spec:
  replicas: 2
  selector: {matchLabels: {app: sleeper}}
  template:
    metadata: {labels: {app: sleeper}}
    spec: {containers: [{name: sleeper, image: never.pulled/sleeper}]}
"""


def test_a_deployment_makes_pods(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=DEPLOYMENT)
    plane.kubectl(
        "wait", f"--namespace={namespace}", "--for=jsonpath={.status.replicas}=2", "deployment/sleeper", "--timeout=20s"
    )
    pods = json.loads(plane.kubectl("get", "pods", f"--namespace={namespace}", "--output=json"))["items"]
    assert [pod["status"]["phase"] for pod in pods] == ["Pending", "Pending"]


def test_a_service_account_may_do_only_what_rbac_grants(plane: ControlPlane, namespace: str) -> None:
    kubeconfig = plane.service_account_kubeconfig(namespace, "reader")
    as_reader = ("--kubeconfig", str(kubeconfig), f"--namespace={namespace}")
    with pytest.raises(ClusterError, match="Forbidden"):
        plane.kubectl("get", "pods", *as_reader)
    plane.kubectl(
        "create", "rolebinding", "reader", f"--namespace={namespace}", "--clusterrole=view",
        f"--serviceaccount={namespace}:reader",
    )  # fmt: skip
    assert plane.kubectl("get", "pods", "--output=name", *as_reader) == ""


def test_data_survives_a_killed_api_server(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "configmap", "kept", f"--namespace={namespace}")
    plane.kill("kube-apiserver")
    plane.start("kube-apiserver")
    plane.wait_ready()
    assert "kept" in plane.kubectl("get", "configmaps", f"--namespace={namespace}", "--output=name")


def test_the_audit_log_names_who_wrote(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("create", "configmap", "audited", f"--namespace={namespace}")
    events = [json.loads(line) for line in plane.audit_log.read_text().splitlines()]
    writers = {
        event["user"]["username"]
        for event in events
        if event["verb"] == "create" and event.get("objectRef", {}).get("name") == "audited"
    }
    assert writers == {"admin"}
