"""Rollouts that are hard: no GPU is left in the cluster, the load doubles meanwhile, and an outage is accepted."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any

from e2e.cluster.daemon import docker_session
from e2e.cluster.nodes import GPU_RESOURCE
from e2e.endurance.cap import held, pod_events
from e2e.endurance.field import Field
from e2e.endurance.run import arrivals
from e2e.load import BackgroundLoad, Target
from e2e.load.client import Result
from e2e.load.summary import summarize
from e2e.stack import Stack, wait_for

Json = dict[str, Any]
FILLERS = "gpu-fillers"


def on_a_full_cluster(stack: Stack) -> Json:
    """All GPUs of all nodes are in use: six by workers, the rest by pods of somebody else."""
    ground = Field(stack, "full", gpus=6)
    ground.create((3, 3))
    with fillers(stack):
        return _rolled_out(ground, (3, 3), extra_requests_per_second=0.0)


def while_the_load_doubles(stack: Stack) -> Json:
    """The planner sizes the roles; the load doubles as the rollout begins."""
    ground = Field(stack, "doubling", gpus=6)
    bounds = {"min": 1, "max": 4}
    ground.create((1, 1))
    ground.change(scaling__prefill=bounds, scaling__decode=bounds)
    return _rolled_out(ground, None, extra_requests_per_second=9.0, requests_per_second=9.0, settle_seconds=45.0)


def with_an_accepted_outage(stack: Stack) -> Json:
    """One worker of each role and no GPU beside them: requests are refused for a while, and none is broken off."""
    ground = Field(stack, "outage", gpus=2, rollout__allowOutage=True)
    ground.create((1, 1))
    return _rolled_out(ground, (1, 1), extra_requests_per_second=0.0, outage=True)


def _rolled_out(
    ground: Field,
    workers: tuple[int, int] | None,
    *,
    extra_requests_per_second: float,
    requests_per_second: float = 6.0,
    settle_seconds: float = 5.0,
    outage: bool = False,
) -> Json:
    target = Target(ground.stack.gateway_url, ground.engines.model)
    loads = [BackgroundLoad(target, arrivals(ground.engines, requests_per_second, 1800, 1))]
    if extra_requests_per_second:
        loads.append(BackgroundLoad(target, arrivals(ground.engines, extra_requests_per_second, 1800, 2)))
    loads[0].start()
    wait_for(lambda: len(loads[0].results) >= 10, "the load flows", timeout_seconds=60)
    time.sleep(settle_seconds)
    before, at_first = ground.uids(), _desired(ground)
    for load in loads[1:]:
        load.start()
    ground.new_revision()
    began = time.monotonic()
    ground.until(lambda: not before & ground.uids() and _settled(ground, workers), "all are replaced", 240)
    took = time.monotonic() - began
    time.sleep(settle_seconds)
    at_last = _desired(ground)
    results: list[Result] = [result for load in loads for result in load.stop()]
    with docker_session(ground.stack.cluster.docker_host) as docker:
        most = max(h.gpus for h in held(pod_events(ground.stack, docker), ground.name))
    ground.delete()
    summary = summarize(results)
    refused = [result for result in results if outage and result.status != HTTPStatus.OK]
    refused.sort(key=lambda result: result.at_seconds)
    return {
        "seconds": round(took, 1),
        "workers": f"{at_first[0]}+{at_first[1]} -> {at_last[0]}+{at_last[1]}",
        "requests": summary.requests,
        "failed": summary.failed,
        "truncated": summary.truncated,
        "sent_again": summary.sent_again,
        "first_error": summary.first_error,
        "refused": len(refused),
        "refused_for_seconds": round(refused[-1].at_seconds - refused[0].at_seconds, 1) if refused else 0.0,
        "most_gpus": most,
        "gpus": ground.gpus,
        "passed": summary.ok + len(refused) == summary.requests and most <= ground.gpus,
    }


def _desired(ground: Field) -> tuple[int, int]:
    status: Json = ground.resource.get("status", {})
    return status["prefill"]["desired"], status["decode"]["desired"]


def _settled(ground: Field, workers: tuple[int, int] | None) -> bool:
    return ground.settled(workers or _desired(ground))


@contextmanager
def fillers(stack: Stack) -> Iterator[None]:
    """Every GPU that is free is taken, and given back afterwards."""
    nodes = [n for n in stack.items("/api/v1/nodes") if GPU_RESOURCE in n["status"]["allocatable"]]
    pods = [p for p in stack.items("/api/v1/pods") if p["status"].get("phase") in ("Pending", "Running")]
    try:
        for node in nodes:
            name = node["metadata"]["name"]
            used = sum(_gpus(pod) for pod in pods if pod["spec"].get("nodeName") == name)
            free = int(node["status"]["allocatable"][GPU_RESOURCE]) - used
            if free:
                stack.apply(_filler(name, free))
        stack.kubectl("wait", "--for=condition=Ready", "pods", f"--selector=app={FILLERS}", "--timeout=60s")
        yield
    finally:
        stack.kubectl("delete", "pods", f"--selector=app={FILLERS}", "--grace-period=0", "--force")


def _gpus(pod: Json) -> int:
    containers = pod["spec"]["containers"]
    return sum(int(c.get("resources", {}).get("limits", {}).get(GPU_RESOURCE, 0)) for c in containers)


def _filler(node: str, gpus: int) -> Json:
    container = {
        "name": "filler",
        "image": "dopd.dev/simulator:dev",
        "imagePullPolicy": "Never",
        "command": ["sleep", "infinity"],
        "resources": {"limits": {GPU_RESOURCE: str(gpus)}},
    }
    meta = {"name": f"filler-{node}"[:63], "namespace": "default", "labels": {"app": FILLERS}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"nodeName": node, "containers": [container]}}


SCENARIOS: dict[str, Callable[[Stack], Json]] = {
    "full-cluster": on_a_full_cluster,
    "load-doubles": while_the_load_doubles,
    "outage": with_an_accepted_outage,
}
