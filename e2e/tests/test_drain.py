"""A worker leaves in order, whoever sends it away: first out of the gateway, then what it runs, then its pod."""

from datetime import datetime
from typing import Any

import httpx

from e2e.cluster.daemon import docker_session
from e2e.load import Schedule
from e2e.stack import OPERATOR_NAMESPACE, Stack, wait_for
from e2e.tests.audit import Write, writes
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.losses import none_lost
from e2e.tests.resources import GATEWAY_NODE_PORT, changed, static

Json = dict[str, Any]
OPERATOR_USER = f"system:serviceaccount:{OPERATOR_NAMESPACE}:dopd"
LOAD = Schedule.steady(requests_per_second=6, seconds=200, input_tokens=200, output_tokens=400)


def test_a_smaller_number_of_workers_loses_no_request(stack: Stack, apply: Apply) -> None:
    resource = static("drain", prefill=2, decode=3, node_port=GATEWAY_NODE_PORT)
    name = apply(resource)
    until_ready(stack, name)
    start = datetime.now().astimezone()
    with none_lost(stack, LOAD):
        stack.apply(changed(resource, {"prefill__replicas": 1, "decode__replicas": 1}))
        wait_for(lambda: _present(stack, name) == (1, 1), "one worker of each role is left", timeout_seconds=90)
    done = _writes(stack, start)
    deleted = [w for w in done if (w.user, w.verb, w.resource) == (OPERATOR_USER, "delete", "pods")]
    assert len(deleted) == 3
    for write in deleted:
        before = [w for w in done if (w.verb, w.name, w.user) == ("patch", write.name, OPERATOR_USER)]
        assert before, f"{write.name} went without its label gone first"
        assert before[0].at < write.at


def test_a_rollout_takes_no_gpu_more_and_loses_no_request(stack: Stack, apply: Apply) -> None:
    resource = static("roll", prefill=2, decode=2, node_port=GATEWAY_NODE_PORT)
    name = apply(resource)
    until_ready(stack, name)
    before = uids(stack, name)
    most = 0

    def replaced() -> bool:
        nonlocal most
        most = max(most, len(stack.pods(name, "prefill")) + len(stack.pods(name, "decode")))
        return not before & uids(stack, name) and settled(stack, name)

    with none_lost(stack, LOAD):
        stack.apply(changed(resource, {"engine__env": [{"name": "ROLLED_OUT", "value": "1"}]}))
        wait_for(replaced, "all workers are of the new revision", timeout_seconds=170)
    assert most == 4, "a successor starts when the GPU of the one before is free"
    for path in ("/workers", "/get_loads"):
        assert httpx.get(f"{stack.gateway_url}{path}", trust_env=False).status_code == 401, "no client's affair"


def test_a_deleted_pod_an_eviction_and_a_node_drain_lose_no_request(stack: Stack, apply: Apply) -> None:
    name = apply(static("evict", prefill=2, decode=2, node_port=GATEWAY_NODE_PORT))
    until_ready(stack, name)
    wait_for(lambda: settled(stack, name), "all workers serve", timeout_seconds=60)
    with none_lost(stack, LOAD):
        for role in ("decode", "prefill"):
            pod = stack.pods(name, role)[0]["metadata"]["name"]
            _and_settles(stack, name, "delete", "pod", pod, "--wait=false")
        node = stack.pods(name, "decode")[0]["spec"]["nodeName"]
        workers = f"--pod-selector=dopd.dev/instance={name},dopd.dev/pool!=router"
        drain = ("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", workers)
        try:
            _and_settles(stack, name, *drain, "--timeout=100s")
            assert all(pod["spec"]["nodeName"] != node for pod in stack.pods(name, "decode"))
        finally:
            stack.kubectl("uncordon", node)


def _and_settles(stack: Stack, name: str, *disturb: str) -> None:
    before = uids(stack, name)
    stack.kubectl(*disturb)
    wait_for(lambda: not before <= uids(stack, name) and settled(stack, name), "it is replaced", timeout_seconds=90)


def settled(stack: Stack, name: str) -> bool:
    status: Json = (stack.inference(name) or {}).get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions", [])}
    told = all(conditions.get(kind) == "True" for kind in ("RolledOut", "WorkersAvailable", "RouterInSync"))
    return told and _present(stack, name) == tuple(status[role]["desired"] for role in ("prefill", "decode"))


def uids(stack: Stack, name: str) -> set[str]:
    return {pod["metadata"]["uid"] for role in ("prefill", "decode") for pod in stack.pods(name, role)}


def _present(stack: Stack, name: str) -> tuple[int, ...]:
    return tuple(len(stack.pods(name, role)) for role in ("prefill", "decode"))


def _writes(stack: Stack, start: datetime) -> list[Write]:
    with docker_session(stack.cluster.docker_host) as docker:
        return writes(stack.audit_log(docker), since=start)
