"""A scaler of the user's own decides: a real HorizontalPodAutoscaler of the controller manager, and kubectl scale."""

import json
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .cluster import MERGE
from .resources import eventually, inference
from .runs import Run

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)
METRICS = "external.metrics.k8s.io"
SCALING = {"mode": "External", "prefill": {"min": 1, "max": 2}, "decode": {"min": 1, "max": 3}, "gpuBudget": {"max": 4}}


@pytest.fixture
async def external(run: Run) -> Run:
    manifest = json.loads(inference("m", scaling=SCALING))
    for role in ("prefill", "decode"):
        del manifest["spec"][role]["replicas"]
    make(run.api, kinds.INFERENCE.path(run.cluster.namespace), manifest)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    return run


def scale(run: Run, role: str) -> Json:
    found: Json = run.api.get(kinds.WORKER_SCALE.path(run.cluster.namespace, f"m-{role}")).raise_for_status().json()
    return found


def asked(run: Run) -> int:
    return int(scale(run, "decode")["spec"]["workers"])


def make(api: httpx.Client, path: str, manifest: Json) -> None:
    answer = api.post(path, json=manifest)
    assert answer.status_code == 201, answer.text


def change(api: httpx.Client, path: str, patch: Json) -> None:
    api.patch(path, content=json.dumps(patch), headers=MERGE).raise_for_status()


def ask(run: Run, role: str, workers: int) -> None:
    here = f"--namespace={run.cluster.namespace}"
    run.plane.kubectl("scale", f"workerscale/m-{role}", f"--replicas={workers}", here)


async def test_kubectl_scale_moves_a_role_within_its_bounds(external: Run):
    assert scale(external, "decode")["spec"]["workers"] == 1, "what was held, so that nothing moves"
    ask(external, "decode", 9)
    await external.until("three serve", lambda: external.settled(1, 3))
    await external.until("it is told", lambda: external.condition("BudgetLimited")["status"] == "True")
    assert "a scaler asks for 1 prefill and 9 decode workers" in external.condition("BudgetLimited")["message"]
    status = scale(external, "decode")["status"]
    assert status == {"workers": 3, "selector": "dopd.dev/instance=m,dopd.dev/role=decode"}
    assert scale(external, "decode")["spec"]["workers"] == 9, "the number is the scaler's"
    assert external.resource["status"]["decisions"][0]["reason"] == "External"
    ask(external, "decode", 1)
    await external.until("the others drain and go", lambda: external.settled(1, 1))


async def test_another_mode_takes_the_objects_away_and_moves_nothing(external: Run):
    ask(external, "prefill", 2)
    await external.until("two serve", lambda: external.settled(2, 1))
    external.change(
        scaling={"mode": "Paused"}, prefill={"profileRef": {"name": "p"}}, decode={"profileRef": {"name": "p"}}
    )
    path = kinds.WORKER_SCALE.path(external.cluster.namespace, "m-prefill")
    await external.until("they are gone", lambda: external.api.get(path).status_code == 404)
    assert external.settled(2, 1)


@pytest.fixture
def queue_metric(plane: ControlPlane, namespace: str) -> None:
    """What a metrics adapter serves, as a custom resource of the same address: requests that wait."""
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"queue.{METRICS}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, it plays an adapter in a test"},
        },
        "spec": {
            "group": METRICS,
            "scope": "Namespaced",
            "names": {"plural": "queue", "kind": "ExternalMetricValue", "listKind": "ExternalMetricValueList"},
            "versions": [
                {
                    "name": "v1beta1",
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                }
            ],
        },
    }
    plane.kubectl("apply", "--filename=-", stdin=json.dumps(definition))
    plane.kubectl("wait", "--for=condition=Established", f"customresourcedefinition/queue.{METRICS}", "--timeout=20s")


async def test_a_horizontal_pod_autoscaler_drives_decode(external: Run, queue_metric: None, api: httpx.Client):
    here = external.cluster.namespace
    path = f"/apis/{METRICS}/v1beta1/namespaces/{here}/queue"
    value = {
        "apiVersion": f"{METRICS}/v1beta1",
        "kind": "ExternalMetricValue",
        "metadata": {"name": "now"},
        "metricName": "queue",
        "timestamp": "2026-01-01T00:00:00Z",
        "value": "30",
    }
    make(api, path, value)
    metric = {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}
    autoscaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "decode"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "dopd.dev/v1alpha1", "kind": "WorkerScale", "name": "m-decode"},
            "minReplicas": 1,
            "maxReplicas": 3,
            "metrics": [{"type": "External", "external": metric}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 0}},
        },
    }
    autoscalers = f"/apis/autoscaling/v2/namespaces/{here}/horizontalpodautoscalers"
    make(api, autoscalers, autoscaler)
    # The controller manager reads anew which kinds there are every 30 s.
    eventually(lambda: asked(external) == 3, "it asks for three", seconds=60.0)
    await external.until("three decode workers serve", lambda: external.settled(1, 3))
    change(api, f"{path}/now", {"value": "5"})
    eventually(lambda: asked(external) == 1, "it asks for one")
    await external.until("one is left", lambda: external.settled(1, 1))
