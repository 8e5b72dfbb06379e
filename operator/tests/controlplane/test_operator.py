"""The operator as a process against a real API server: it converges whatever happens to it."""

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .operator_process import OperatorProcess
from .resources import children, eventually, expected_children, get, inference, workers

KILLS = 20


@pytest.fixture
def operator(plane: ControlPlane, crds: None, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    process = OperatorProcess(plane.kubeconfig, tmp_path / "operator.log", "--namespace", namespace)
    process.start()
    yield process
    process.kill()


def apply(plane: ControlPlane, namespace: str, manifest: str) -> None:
    plane.kubectl("apply", f"--namespace={namespace}", "--filename=-", stdin=manifest)


def test_a_resource_gets_its_children_and_a_status(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m", 2, 3))
    eventually(lambda: expected_children(api, namespace, {"m": (2, 3)}), "the children of m")
    row = plane.kubectl("get", "pdi", "m", f"--namespace={namespace}", "--no-headers").split()
    assert row[:6] == ["m", "2/0", "3/0", "0:0", "Static", "False"]


def test_drift_is_repaired_and_deleted_children_come_back(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    here = f"--namespace={namespace}"
    plane.kubectl("scale", "deployment/m-router", "--replicas=7", here)
    plane.kubectl("delete", "service/m-router", here)
    plane.kubectl("delete", "pod", "--selector=dopd.dev/pool=decode", here)
    plane.kubectl("label", "poddisruptionbudget/m-prefill", "dopd.dev/pool=other", "--overwrite", here)

    def repaired() -> bool:
        there = children(api, namespace)
        pool = there["PodDisruptionBudget/m-prefill"]["metadata"]["labels"]["dopd.dev/pool"]
        router = there["Deployment/m-router"]["spec"]["replicas"]
        return (pool, router) == ("prefill", 1) and expected_children(api, namespace, {"m": (1, 1)})

    eventually(repaired, "drift repaired")


def test_a_deleted_resource_takes_its_children_along_while_the_operator_is_down(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    operator.kill()
    plane.kubectl("delete", "pdi/m", f"--namespace={namespace}", "--timeout=10s")
    eventually(lambda: not children(api, namespace), "no child is left")


def test_a_resource_that_is_deleted_and_created_again_gets_children_of_its_own(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    for count in (1, 2, 3):
        apply(plane, namespace, inference("m", count, count))
        eventually(lambda count=count: expected_children(api, namespace, {"m": (count, count)}), f"round {count}")
        plane.kubectl("delete", "pdi/m", f"--namespace={namespace}", "--wait=false")
    eventually(lambda: not children(api, namespace), "no child is left")


def test_the_child_of_a_stranger_is_reported_and_left_alone(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    here = f"--namespace={namespace}"
    plane.kubectl("create", "service", "clusterip", "m-router", "--tcp=80", here)
    apply(plane, namespace, inference("m"))

    def reported() -> bool:
        conditions = get(api, namespace, kinds.INFERENCE)[0].get("status", {}).get("conditions", [])
        return any(c["reason"] == "NameTaken" and "Service m-router" in c["message"] for c in conditions)

    eventually(reported, "NameTaken")
    service = json.loads(plane.kubectl("get", "service/m-router", here, "--output=json"))
    assert "ownerReferences" not in service["metadata"]
    plane.kubectl("delete", "service/m-router", here)
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "recovery", 75)


def test_a_changed_objective_reaches_the_workers_and_replaces_none(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m", slo={"ttftSeconds": 2}))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    before = {pod["metadata"]["uid"] for pod in workers(api, namespace)}

    def told() -> dict[str, Any]:
        settings: dict[str, Any] = json.loads(
            children(api, namespace)["ConfigMap/m-prefill"]["data"]["scheduling.json"]
        )
        return settings

    assert (told()["ttftSeconds"], told()["policy"]) == (2, "on-time-first")
    scheduling = {"policy": "ShortestFirst", "lateShare": 0.1}
    apply(plane, namespace, inference("m", slo={"ttftSeconds": 1}, scheduling=scheduling))
    eventually(lambda: (told()["ttftSeconds"], told()["policy"]) == (1, "shortest-first"), "the new settings")
    assert {pod["metadata"]["uid"] for pod in workers(api, namespace)} == before
    plane.kubectl("delete", "configmap/m-prefill", f"--namespace={namespace}")
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the settings come back")


@pytest.mark.timeout(120)
def test_nothing_is_written_while_nothing_changes(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    time.sleep(3)
    before = _writes(plane)
    time.sleep(20)
    written = _writes(plane)[len(before) :]
    assert [w for w in written if w["objectRef"]["resource"] != "leases"] == []
    assert any(w["objectRef"]["resource"] == "leases" for w in written), "the audit log sees the operator"


def _writes(plane: ControlPlane) -> list[dict]:
    lines = map(json.loads, plane.audit_log.read_text().splitlines())
    return [
        line
        for line in lines
        if line["verb"] in ("create", "update", "patch", "delete")
        and line["stage"] == "ResponseComplete"
        and "kube-controller-manager" not in line.get("userAgent", "")
        and "kubectl" not in line.get("userAgent", "")
        and "kube-apiserver" not in line.get("userAgent", "")
    ]


@pytest.mark.timeout(600)
def test_killed_at_random_it_converges_each_time(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    """Resources are created, changed and deleted while the operator is killed and started again."""
    chance = random.Random(20)
    here = f"--namespace={namespace}"
    wanted: dict[str, tuple[int, int]] = {}
    for kill in range(KILLS):
        for _ in range(chance.randint(1, 3)):
            name = chance.choice(("a", "b", "c"))
            if name in wanted and chance.random() < 0.4:
                plane.kubectl("delete", f"pdi/{name}", here, "--wait=false")
                del wanted[name]
            else:
                wanted[name] = (chance.randint(1, 3), chance.randint(1, 3))
                apply(plane, namespace, inference(name, *wanted[name]))
        time.sleep(chance.uniform(0.0, 3.0))
        operator.kill()
        operator.start()
        eventually(lambda: expected_children(api, namespace, wanted), f"after kill {kill}: {wanted}")
    owners = {item["metadata"]["uid"] for item in get(api, namespace, kinds.INFERENCE)}
    for name, child in children(api, namespace).items():
        references = {owner["uid"] for owner in child["metadata"]["ownerReferences"]}
        assert len(references) == 1, f"{name} has one owner"
        assert references <= owners, f"{name} belongs to a resource that exists"


def test_a_stop_waits_for_nothing_and_gives_the_lease_away(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess
):
    apply(plane, namespace, inference("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    assert operator.stop() == 0
    lease = api.get(kinds.LEASE.path("default", "dopd")).raise_for_status().json()
    assert lease["spec"]["holderIdentity"] == ""
    log = operator.log.read_text()
    assert "Traceback" not in log
    assert "asked to stop" in log
    assert "Operator is stopping" not in log, "kopf's own stop waits five seconds for whatever runs beside it"


def test_of_two_operators_one_acts_and_the_other_takes_over(
    plane: ControlPlane, api: httpx.Client, namespace: str, operator: OperatorProcess, tmp_path: Path
):
    apply(plane, namespace, inference("m"))
    eventually(lambda: expected_children(api, namespace, {"m": (1, 1)}), "the children of m")
    second = OperatorProcess(plane.kubeconfig, tmp_path / "second.log", "--namespace", namespace)
    second.start()
    try:
        time.sleep(4)
        assert "holds lease" not in second.log.read_text()
        assert operator.stop() == 0
        eventually(lambda: "holds lease" in second.log.read_text(), "the second takes over")
        apply(plane, namespace, inference("m", 2, 2))
        eventually(lambda: expected_children(api, namespace, {"m": (2, 2)}), "the second acts")
    finally:
        second.kill()
