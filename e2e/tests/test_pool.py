"""Two models share GPUs: what one has lent it gives back by a drain, under load, and the cap holds at every moment."""

from collections.abc import Iterator
from datetime import datetime
from itertools import chain
from typing import Any

import pytest

from e2e.cluster.daemon import docker_session
from e2e.endurance.cap import Held, held, pod_events
from e2e.load import Schedule
from e2e.stack import Stack, condition, wait_for
from e2e.tests.conftest import Apply, until_ready
from e2e.tests.losses import none_lost
from e2e.tests.resources import GATEWAY_NODE_PORT, replicas, static

Json = dict[str, Any]
GPUS = 4
LOAD = Schedule.steady(requests_per_second=6, seconds=200, input_tokens=200, output_tokens=300)
POOL_PATH = "/apis/dopd.dev/v1alpha1/gpupools/shared"


@pytest.fixture
def pool(stack: Stack) -> Iterator[None]:
    """Four GPUs; each of two models is guaranteed a worker of each role, and the lender comes first beyond that."""
    members = [
        {"namespace": "default", "name": name, "priority": priority, "guaranteed": {"any": 2}}
        for name, priority in (("lender", 10), ("owner", 0))
    ]
    spec = {"gpuTypes": [{"name": "any", "gpus": GPUS}], "members": members}
    stack.apply({"apiVersion": "dopd.dev/v1alpha1", "kind": "GpuPool", "metadata": {"name": "shared"}, "spec": spec})
    yield
    stack.kubectl("delete", "gpupool", "shared", "--ignore-not-found")


def most_held(held_by: list[list[Held]]) -> int:
    """The most GPUs that several resources held together after any event."""
    now = [0] * len(held_by)
    most = 0
    for _, of, gpus in sorted(chain.from_iterable(((h.at, n, h.gpus) for h in one) for n, one in enumerate(held_by))):
        now[of] = gpus
        most = max(most, sum(now))
    return most


def test_lent_gpus_come_back_by_a_drain_and_the_cap_holds(stack: Stack, apply: Apply, pool: None) -> None:
    began = datetime.now().astimezone()
    lender = static("lender", prefill=2, decode=2, node_port=GATEWAY_NODE_PORT, gpuPool__name="shared")
    apply(lender)
    until_ready(stack, "lender")
    with none_lost(stack, LOAD):
        apply(static("owner", prefill=1, decode=1, gpuPool__name="shared"))
        until_ready(stack, "owner")
        wait_for(
            lambda: replicas(stack, "lender") == (1, 1), "the lender has what it is guaranteed", timeout_seconds=60
        )
        told = condition(stack.inference("lender"), "GpusGranted")
        assert (told["status"], told["reason"]) == ("False", "PoolLimited")
        assert "default/owner" in told["message"]
        stack.kubectl("delete", "pdi", "owner")
        wait_for(lambda: replicas(stack, "lender") == (2, 2), "they are lent again", timeout_seconds=90)
        until_ready(stack, "lender")
    row = {member["name"]: member for member in (stack.read(POOL_PATH) or {})["status"]["members"]}
    assert "lender" in row
    with docker_session(stack.cluster.docker_host) as docker:
        events = [
            e for e in pod_events(stack, docker) if datetime.fromisoformat(e["requestReceivedTimestamp"]) >= began
        ]
    of_each = [list(held(events, name)) for name in ("lender", "owner")]
    assert all(of_each), "both had workers"
    assert most_held(of_each) <= GPUS
