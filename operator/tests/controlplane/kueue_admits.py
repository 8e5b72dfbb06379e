"""A real Kueue lets workers of dopd in and preempts them (`make kueue`).

Not run with the other tests: the first build of Kueue takes a quarter of an hour.
"""

import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.cluster.kueue import kueue

from .cluster import MERGE, Cluster
from .resources import eventually
from .runs import GPUS, Run, create, running

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(600)
APIS = "/apis/kueue.x-k8s.io/v1beta2"
QUEUE = {"kueue.x-k8s.io/queue-name": "models"}
GATE = "kueue.x-k8s.io/admission"
TEMPLATE = {"metadata": {"labels": QUEUE}}


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    """One of its own: the webhooks of Kueue are asked about all pods."""
    with control_plane() as running:
        yield running


@pytest.fixture(scope="session")
def log(plane: ControlPlane) -> Iterator[Path]:
    """Kueue, and its log."""
    with kueue(plane) as path:
        yield path


class Queued(Run):
    """A resource m whose workers go through a queue.

    Attributes:
        quota_gpus: of the queue.
    """

    quota_gpus = 0

    def set_quota(self, gpus: int) -> None:
        """So many GPUs for all pods of the queue."""
        self.quota_gpus = gpus
        quota = {"name": "nvidia.com/gpu", "nominalQuota": str(gpus)}
        queue = {
            "apiVersion": "kueue.x-k8s.io/v1beta2",
            "kind": "ClusterQueue",
            "metadata": {"name": self.cluster.namespace},
            "spec": {
                "namespaceSelector": {},
                "preemption": {"withinClusterQueue": "LowerPriority"},
                "resourceGroups": [
                    {"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": "any", "resources": [quota]}]}
                ],
            },
        }
        self.plane.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(queue))

    async def until(self, what: str, check: Any, passes: int = 200, *, restarts: bool = False) -> None:
        def looked() -> bool:
            time.sleep(0.2)
            return bool(check())

        await super().until(what, looked, passes, restarts=restarts)

    def look_at_gateways(self) -> None:
        super().look_at_gateways()
        assert self.let_in() <= self.quota_gpus, "the queue's quota holds"

    def let_in(self) -> int:
        """GPUs of workers that the queue has let in."""
        return sum(not gated(pod) for pod in self.cluster.workers() if "deletionTimestamp" not in pod["metadata"])


def gated(pod: Json) -> bool:
    return any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", []))


@pytest.fixture
async def queued(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, log: Path
) -> AsyncIterator[Queued]:
    async with running(plane, api, Cluster(api, namespace, 2 * GPUS), Queued) as one:
        objects = [
            {"kind": "ResourceFlavor", "metadata": {"name": "any"}},
            {
                "kind": "LocalQueue",
                "metadata": {"name": "models", "namespace": namespace},
                "spec": {"clusterQueue": namespace},
            },
            {"kind": "WorkloadPriorityClass", "metadata": {"name": "urgent"}, "value": 1000},
        ]
        items = [{"apiVersion": "kueue.x-k8s.io/v1beta2", **one} for one in objects]
        listed = {"apiVersion": "v1", "kind": "List", "items": items}
        plane.kubectl("apply", "--server-side", "--filename=-", stdin=json.dumps(listed))
        yield one


async def test_workers_are_let_in_within_the_quota_of_their_queue(queued: Queued, log: Path):
    queued.set_quota(1)
    create(queued, 1, 1, prefill={"gpus": 1, "replicas": 1, "template": TEMPLATE}, decode={"gpus": 1, "replicas": 1, "template": TEMPLATE})
    await queued.until("it is told", lambda: queued.condition("WorkersAvailable")["reason"] == "Queued")
    print(json.dumps([p for p in queued.cluster.workers()][:1], indent=1))
    print(json.dumps(queued.api.get(f"{APIS}/namespaces/{queued.cluster.namespace}/workloads").json(), indent=1))
    print(log.read_text()[-4000:])
    queued.set_quota(2)
    await queued.until("both serve", lambda: queued.settled(1, 1))
