"""A real Kueue lets workers of dopd in and preempts them (`make kueue`).

Not run with the other tests: the first build of Kueue takes a quarter of an hour.
"""

import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane, control_plane
from e2e.cluster.kueue import kueue

from .cluster import Cluster
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

    def apply(self, *objects: Json) -> None:
        """Objects of Kueue, made or changed."""
        items = [{"apiVersion": "kueue.x-k8s.io/v1beta2", **one} for one in objects]
        listed = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        self.plane.kubectl("apply", "--server-side", "--filename=-", stdin=listed)

    def set_quota(self, gpus: int) -> None:
        """So many GPUs for all pods of the queue."""
        self.quota_gpus = gpus
        quota = {"name": "nvidia.com/gpu", "nominalQuota": str(gpus)}
        group = {"coveredResources": ["nvidia.com/gpu"], "flavors": [{"name": "any", "resources": [quota]}]}
        spec = {
            "namespaceSelector": {},
            "preemption": {"withinClusterQueue": "LowerPriority"},
            "resourceGroups": [group],
        }
        self.apply({"kind": "ClusterQueue", "metadata": {"name": self.cluster.namespace}, "spec": spec})

    async def until(self, what: str, check: Callable[[], bool], passes: int = 200, *, restarts: bool = False) -> None:
        """As of any run, with time for Kueue between the passes."""

        def looked() -> bool:
            time.sleep(0.2)
            return check()

        await super().until(what, looked, passes, restarts=restarts)

    def look_at_gateways(self) -> None:
        super().look_at_gateways()
        assert self.let_in() <= self.quota_gpus, "the quota of the queue holds"

    def reserved(self) -> int:
        """GPUs that the queue has given away."""
        queue = self.api.get(f"{APIS}/clusterqueues/{self.cluster.namespace}").raise_for_status().json()
        [flavor] = queue["status"]["flavorsReservation"]
        return int(flavor["resources"][0]["total"])

    def leaving(self) -> list[Json]:
        """Workers that are being deleted."""
        return [pod for pod in self.cluster.workers() if "deletionTimestamp" in pod["metadata"]]

    def let_in(self) -> int:
        """GPUs of pods that the queue has let in, and that do not leave."""
        of_queue = [pod for pod in self.cluster.pods() if QUEUE.items() <= pod["metadata"]["labels"].items()]
        return sum(not gated(pod) and "deletionTimestamp" not in pod["metadata"] for pod in of_queue)


def gated(pod: Json) -> bool:
    return any(gate["name"] == GATE for gate in pod["spec"].get("schedulingGates", []))


def urgent() -> Json:
    """A pod of a job that goes before all workers."""
    labels = {**QUEUE, "kueue.x-k8s.io/priority-class": "urgent", "dopd.dev/pool": "none"}
    container = {
        "name": "job",
        "command": ["job"],
        "image": "never.pulled/job",
        "resources": {"limits": {"nvidia.com/gpu": "1"}},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "urgent", "labels": labels},
        "spec": {"containers": [container]},
    }


def local_queue(name: str, namespace: str) -> Json:
    """A queue of a namespace, on the ClusterQueue of the same name as the namespace."""
    meta = {"name": name, "namespace": namespace}
    return {"kind": "LocalQueue", "metadata": meta, "spec": {"clusterQueue": namespace}}


@pytest.fixture
async def queued(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, log: Path
) -> AsyncIterator[Queued]:
    async with running(plane, api, Cluster(api, namespace, 2 * GPUS), Queued) as one:
        one.apply(
            {"kind": "ResourceFlavor", "metadata": {"name": "any"}},
            {"kind": "WorkloadPriorityClass", "metadata": {"name": "urgent"}, "value": 1000},
            local_queue("models", namespace),
        )
        yield one


def serve(run: Queued, prefill: int, decode: int) -> None:
    """A resource m whose workers have the label of the queue."""
    create(run, prefill, decode)
    run.change(prefill={"template": TEMPLATE}, decode={"template": TEMPLATE})


async def test_workers_are_let_in_within_the_quota_of_their_queue(queued: Queued):
    queued.set_quota(1)
    serve(queued, 1, 1)
    await queued.until("it is told", lambda: queued.condition("WorkersAvailable")["reason"] == "Queued")
    assert GATE in queued.condition("WorkersAvailable")["message"]
    await queued.until("one is let in", lambda: queued.let_in() == 1)
    assert queued.condition("Ready")["status"] == "False"
    queued.set_quota(2)
    await queued.until("both serve", lambda: queued.settled(1, 1))

    before, queued.fewest_serving = queued.uids(), 1
    queued.change(decode={"replicas": 3})
    await queued.until("it is told", lambda: queued.condition("WorkersAvailable")["reason"] == "Queued")
    for _ in range(5):
        await queued.until("who serves goes on", lambda: before <= queued.uids() and queued.let_in() == 2)
    assert queued.condition("Ready")["status"] == "True"
    queued.set_quota(4)
    await queued.until("the others follow", lambda: queued.settled(1, 3))
    assert before <= queued.uids()

    queued.change(decode={"replicas": 1})
    await queued.until("two drain and leave", lambda: queued.settled(1, 1))
    eventually(lambda: queued.reserved() == 2, "the queue has their GPUs back")


async def test_a_rollout_goes_on_in_a_full_queue(queued: Queued):
    queued.set_quota(4)
    serve(queued, 2, 2)
    await queued.until("all serve", lambda: queued.settled(2, 2))
    before, queued.fewest_serving = queued.uids(), 1
    queued.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await queued.until("all are replaced", lambda: queued.settled(2, 2) and not before & queued.uids())


async def test_a_rollout_of_single_workers_waits_for_the_queue_and_nobody_leaves(queued: Queued):
    queued.set_quota(2)
    serve(queued, 1, 1)
    await queued.until("both serve", lambda: queued.settled(1, 1))
    before, queued.fewest_serving = queued.uids(), 1
    surge = {"maxSurgeGPUs": 1}
    queued.change(engine={"args": ["--chunked-prefill-size", "4096"]}, rollout={"prefill": surge, "decode": surge})
    await queued.until("it is told", lambda: queued.condition("WorkersAvailable")["reason"] == "Queued")
    for _ in range(5):
        await queued.until("who serves stays", lambda: before <= queued.uids())
    assert queued.condition("Ready")["status"] == "True"
    queued.set_quota(4)
    await queued.until("both are replaced", lambda: queued.settled(1, 1) and not before & queued.uids())


async def test_a_preempted_worker_is_deleted_and_its_successor_waits(queued: Queued):
    queued.set_quota(2)
    serve(queued, 1, 1)
    await queued.until("both serve", lambda: queued.settled(1, 1))
    before, path = queued.uids(), kinds.POD.path(queued.cluster.namespace)
    queued.api.post(path, json=urgent()).raise_for_status()
    eventually(lambda: len(queued.leaving()) == 1, "one is preempted")
    eventually(lambda: not gated(queued.api.get(f"{path}/urgent").json()), "the other pod is let in")
    eventually(lambda: "finalizers" not in queued.leaving()[0]["metadata"], "nothing else holds the worker")
    [worker] = queued.leaving()
    assert worker["metadata"]["labels"]["dopd.dev/serving"] == "true", "nobody drained it"
    assert worker["metadata"]["deletionGracePeriodSeconds"] == worker["spec"]["terminationGracePeriodSeconds"] > 60
    assert queued.reserved() == 2, "its GPU is given away while it still has it"

    await queued.until("its successor waits", lambda: queued.condition("WorkersAvailable")["reason"] == "Queued")
    assert len(before & queued.uids()) == 1
    assert queued.condition("Ready")["status"] == "False"
    queued.api.delete(f"{path}/urgent").raise_for_status()
    await queued.until("both serve again", lambda: queued.settled(1, 1))


async def test_the_default_queue_of_a_namespace_takes_workers_and_gateways(queued: Queued):
    queued.set_quota(2)
    queued.apply(local_queue("default", queued.cluster.namespace))
    path = f"{APIS}/namespaces/{queued.cluster.namespace}/localqueues/default"

    def active() -> bool:
        found = queued.api.get(path).json().get("status", {}).get("conditions", [])
        return any(c["type"] == "Active" and c["status"] == "True" for c in found)

    eventually(active, "Kueue knows the queue")
    create(queued, 1, 1)
    await queued.until("both serve", lambda: queued.settled(1, 1))
    names = {pod["metadata"]["labels"].get("kueue.x-k8s.io/queue-name") for pod in queued.cluster.pods()}
    assert names == {"default"}
    assert queued.cluster.gateways()
