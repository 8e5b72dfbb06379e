"""Several operators at once, each for its shards, with the chart's rights on a real API server."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from dopd.cluster.shards import OF_LABEL
from e2e.cluster.controlplane import ControlPlane

from .chart import grant
from .operator_process import OperatorProcess
from .resources import connect, eventually, expected_children, get, inference
from .test_doctor import doctor

SHARDS = 4
WITHIN_SECONDS = 60.0
NAMES = [f"m{number}" for number in range(5)]


def held(api: httpx.Client, namespace: str) -> Counter[str]:
    leases = [one for one in get(api, namespace, kinds.LEASE) if OF_LABEL in one["metadata"].get("labels", {})]
    return Counter(one["spec"]["holderIdentity"] for one in leases if one["spec"]["holderIdentity"])


@pytest.mark.timeout(240)
def test_operators_share_resources_and_take_over_from_each_other(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, tmp_path: Path
):
    grant(plane, namespace, **{"watchNamespaces[0]": namespace, "shards": str(SHARDS)})
    kubeconfig = plane.service_account_kubeconfig(namespace, "dopd")
    here = f"--namespace={namespace}"
    options = ("--namespace", namespace, "--shards", str(SHARDS), "--lease-seconds", "4")
    operators = [
        OperatorProcess(kubeconfig, tmp_path / f"{name}.log", *options, lease_namespace=namespace) for name in "ab"
    ]
    alone = OperatorProcess(kubeconfig, tmp_path / "alone.log", "--namespace", namespace, lease_namespace=namespace)

    def all_have(prefill: int) -> bool:
        return expected_children(api, namespace, {name: (prefill, 1) for name in NAMES})

    def scale(prefill: int) -> None:
        for name in NAMES:
            patch = json.dumps({"spec": {"prefill": {"replicas": prefill}}})
            plane.kubectl("patch", f"pdi/{name}", here, "--type=merge", "--patch", patch)

    try:
        for operator in operators:
            operator.start()
        eventually(lambda: sorted(held(api, namespace).values()) == [2, 2], "equal shares", WITHIN_SECONDS)
        for name in NAMES:
            plane.kubectl("apply", here, "--filename=-", stdin=inference(name, 1, 1))
        eventually(lambda: all_have(1), "the children of all", WITHIN_SECONDS)
        status, lines = doctor(kubeconfig, here, "--lease-namespace", namespace)
        assert status == 0, lines
        assert f"{SHARDS} shards are held by 2 processes" in lines["operator: shards"]
        operators[0].kill()
        scale(2)
        eventually(lambda: all_have(2), "the other one does the work of both", WITHIN_SECONDS)
        assert list(held(api, namespace).values()) == [SHARDS]
        alone.start()  # of another layout: it waits for as long as shards are held
        assert operators[1].stop() == 0
        assert held(api, namespace) == {}
        _, lines = doctor(kubeconfig, here, "--lease-namespace", namespace)
        assert "nobody acts for dopd-shard-0, dopd-shard-1" in lines["operator: shards"]
        scale(1)
        eventually(lambda: all_have(1), "one without shards does the work of all", WITHIN_SECONDS)
    finally:
        for operator in (*operators, alone):
            operator.kill()
    refused = [line for line in _requests(plane, namespace) if line["annotations"].get(_DECISION) != "allow"]
    assert [(line["verb"], line["requestURI"]) for line in refused] == []


_DECISION = "authorization.k8s.io/decision"


def _requests(plane: ControlPlane, namespace: str) -> list[dict[str, Any]]:
    lines = map(json.loads, plane.audit_log.read_text().splitlines())
    return [line for line in lines if line["user"]["username"].endswith(f":{namespace}:dopd")]


def test_the_chart_grants_the_leases_of_its_shards_alone(plane: ControlPlane, crds: None, namespace: str):
    grant(plane, namespace, **{"watchNamespaces[0]": namespace, "shards": str(SHARDS)})

    def may(verb: str, name: str) -> bool:
        where = {"namespace": namespace, "verb": verb, "group": kinds.LEASE.group, "resource": "leases", "name": name}
        body = {"spec": {"resourceAttributes": where}}
        with connect(plane.service_account_kubeconfig(namespace, "dopd")) as dopd:
            answer = dopd.post("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", json=body)
        return bool(answer.json()["status"]["allowed"])

    assert all(may("update", name) for name in ("dopd", "dopd-shard-0", "dopd-shard-3"))
    assert not may("update", "dopd-shard-4")
    assert may("list", "")
    assert not may("delete", "dopd-shard-0")
