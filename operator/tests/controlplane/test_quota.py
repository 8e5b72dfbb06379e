"""ResourceQuotas and queues beside dopd, against a real API server: they are named, and what there is serves on."""

import json
from typing import Any

import pytest

from .resources import eventually
from .runs import Run, create

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)


def quota(run: Run, gpus: int) -> None:
    """So many GPUs for all pods of the namespace; in force once the API server's controller has counted."""
    here = run.cluster.namespace
    hard = {"requests.nvidia.com/gpu": str(gpus)}
    manifest = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "gpus"}, "spec": {"hard": hard}}
    run.plane.kubectl("apply", "--filename=-", f"--namespace={here}", stdin=json.dumps(manifest))
    path = f"/api/v1/namespaces/{here}/resourcequotas/gpus"
    eventually(lambda: run.api.get(path).json().get("status", {}).get("hard") == hard, "the quota is in force")


async def test_a_quota_is_named_and_the_other_role_keeps_what_it_has(run: Run):
    create(run, 1, 1)
    await run.until("both serve", lambda: run.settled(1, 1))
    before, run.fewest_serving = run.uids(), 1
    quota(run, 3)
    run.change(decode={"replicas": 3})
    await run.until("it is told", lambda: run.condition("WorkersAvailable")["reason"] == "QuotaExceeded")
    assert "exceeded quota: gpus" in run.condition("WorkersAvailable")["message"]
    assert run.condition("Ready")["status"] == "True", "requests are served"
    assert run.condition("Reconciled")["reason"] == "QuotaExceeded"
    assert len(run.serving("prefill")) == 1
    await run.until("what fits was started", lambda: len(run.serving("decode")) == 2)
    assert before < run.uids()
    quota(run, 4)
    run.restart()  # a refused start is tried again within a minute, or at once by an operator that knows nothing of it
    await run.until("the rest follows", lambda: run.settled(1, 3))


async def test_a_full_quota_does_not_stop_a_rollout_that_needs_no_spare_gpu(run: Run):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    before, run.fewest_serving = run.uids(), 1
    quota(run, 4)
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await run.until("all are replaced", lambda: run.settled(2, 2) and not before & run.uids(), restarts=True)


async def test_without_room_for_any_worker_the_quota_is_what_stands_in_the_way(run: Run):
    quota(run, 1)
    create(run, 1, 1)
    await run.until("it is told", lambda: run.condition("Ready")["reason"] == "QuotaExceeded")
    assert "exceeded quota: gpus" in run.condition("Ready")["message"]


GATE = "kueue.x-k8s.io/admission"


async def test_a_worker_that_a_queue_has_not_let_in_is_named_and_serves_once_it_is(run: Run):
    """The gate is that of Kueue's webhook; the template sets it, and the test lets in (kueue_admits.py: a real one)."""
    create(run, 1, 1)
    await run.until("both serve", lambda: run.settled(1, 1))
    before, run.fewest_serving = run.uids(), 1
    run.change(decode={"replicas": 2, "template": {"spec": {"schedulingGates": [{"name": GATE}]}}})
    await run.until("it is told", lambda: run.condition("WorkersAvailable")["reason"] == "Queued")
    assert GATE in run.condition("WorkersAvailable")["message"]
    assert run.condition("Ready")["status"] == "True"
    assert before <= run.uids(), "who serves stays until a new one does"
    held = run.cluster.held()

    def let_in() -> bool:
        for pod in run.cluster.workers():
            run.cluster.let_in(pod)
        return run.settled(1, 2)

    assert held <= run.most_gpus
    await run.until("all serve", let_in)
