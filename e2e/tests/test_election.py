"""Two operators: one of them acts, or each for its shards."""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from dopd.cluster.shards import OF_LABEL
from e2e.cluster.daemon import docker_session
from e2e.stack import OPERATOR_NAMESPACE, OPERATOR_PODS_PATH, Stack, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.resources import changed, static

LEASES_PATH = f"/apis/coordination.k8s.io/v1/namespaces/{OPERATOR_NAMESPACE}/leases"
LEASE_PATH = f"{LEASES_PATH}/dopd"
MARGIN_SECONDS = 10.0
SHARDS = 4
TAKEN_SECONDS = 30.0
"""Within two durations of a Lease somebody acts for each shard."""


@pytest.fixture
def two_operators(stack: Stack) -> Iterator[None]:
    """The operator with a second replica."""
    stack.change_operator(replicas=2)
    yield
    stack.change_operator(replicas=1)


@pytest.mark.usefixtures("two_operators")
def test_when_the_acting_operator_is_killed_the_other_takes_over(stack: Stack, apply: Apply) -> None:
    resource = static("led", decode=1)
    name = apply(resource)
    until_ready(stack, name)
    lease = _lease(stack)
    leader = _holder(lease)
    kill(stack, leader)
    start = time.monotonic()
    stack.apply(changed(resource, {"decode__replicas": 2}))
    wait_for(
        lambda: _holder(_lease(stack)) not in ("", leader),
        "another operator holds the Lease",
        timeout_seconds=lease["leaseDurationSeconds"] + MARGIN_SECONDS,
    )
    print(f"\ntaken over {time.monotonic() - start:.1f} s after the kill")
    assert until_ready(stack, name)["status"]["decode"]["summary"] == "2/2"


@pytest.fixture
def two_that_act(stack: Stack) -> Iterator[None]:
    """Two operators that act at once, each for its shards."""
    stack.change_operator(replicas=2, shards=SHARDS)
    yield
    stack.change_operator(replicas=1, shards=1)


@pytest.mark.usefixtures("two_that_act")
def test_operators_with_shards_act_at_once_and_take_over_from_each_other(stack: Stack, apply: Apply) -> None:
    wait_for(
        lambda: sorted(_shards(stack).values()) == [SHARDS // 2] * 2,
        "both hold as many shards",
        timeout_seconds=TAKEN_SECONDS + MARGIN_SECONDS,
    )
    resources = [static(f"shard{number}") for number in range(3)]
    names = [apply(resource) for resource in resources]
    for name in names:
        until_ready(stack, name)
    one, other = _shards(stack)
    kill(stack, one)
    start = time.monotonic()
    for resource in resources:
        stack.apply(changed(resource, {"decode__replicas": 2}))
    wait_for(
        lambda: one not in _shards(stack) and _shards(stack).total() == SHARDS,
        "the shards of the dead one are others'",
        timeout_seconds=TAKEN_SECONDS + MARGIN_SECONDS,
    )
    print(f"\nall {SHARDS} shards are held {time.monotonic() - start:.1f} s after the kill, by {[*_shards(stack)]}")
    assert other in _shards(stack)
    for name in names:
        assert until_ready(stack, name)["status"]["decode"]["summary"] == "2/2"


def kill(stack: Stack, pod_name: str) -> None:
    """End an operator without giving it time to give the Lease away, and keep it from coming back under its name."""
    pod = next(p for p in stack.items(OPERATOR_PODS_PATH) if p["metadata"]["name"] == pod_name)
    container = pod["status"]["containerStatuses"][0]["containerID"].removeprefix("containerd://")
    with docker_session(stack.cluster.docker_host) as docker:
        node = pod["spec"]["nodeName"]
        docker.execute(node, "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)
    stack.kubectl("-n", OPERATOR_NAMESPACE, "delete", "pod", pod_name, "--force", "--grace-period=0")


def _shards(stack: Stack) -> Counter[str]:
    """Shards that each operator's pod holds."""
    leases = stack.items(LEASES_PATH, labelSelector=f"{OF_LABEL}=dopd")
    holders = Counter(_holder(lease["spec"]) for lease in leases)
    del holders[""]
    return holders


def _lease(stack: Stack) -> dict[str, Any]:
    spec: dict[str, Any] = (stack.read(LEASE_PATH) or {}).get("spec", {})
    return spec


def _holder(lease: dict[str, Any]) -> str:
    """The pod that acts: the Lease's holder is named by pod and process."""
    return str(lease.get("holderIdentity") or "").rpartition("_")[0]
