"""Workers by domain against a real API server: where pods go, who is paired with whom, what is told."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.revisions import revision_of, worker_pod
from e2e.cluster.controlplane import control_plane

from .cluster import MERGE
from .resources import connect, eventually, get, inference
from .runs import Run, create

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)
RACK = "topology.kubernetes.io/rack"
OF_THREE = {"domainKey": RACK, "domains": [{"name": name, "gpus": 3} for name in ("a", "b")]}


def domain(pod: Json) -> str:
    return str(pod["metadata"]["labels"].get("dopd.dev/domain", ""))


def by_domain(run: Run) -> dict[tuple[str, str], int]:
    return dict(Counter((domain(pod), pod["metadata"]["labels"]["dopd.dev/pool"]) for pod in run.cluster.workers()))


def look(run: Run) -> None:
    """No gateway lists workers of two domains, and each worker is bound to the nodes of its own."""
    for gateway in run.cluster.gateways():
        assert len({domain(pod) for pod in run.cluster.listed(gateway)}) == 1, "no request crosses"
    for pod in run.cluster.workers():
        if domain(pod):
            assert pod["spec"]["nodeSelector"] == {RACK: domain(pod)}


async def test_domains_are_begun_scaled_and_emptied_and_no_request_crosses(run: Run):
    run.cluster.add_gpus(4)
    run.most_gpus = 6
    create(run, 1, 2, topology=OF_THREE)
    await run.until("one domain serves", lambda: run.settled(1, 2))
    assert by_domain(run) == {("a", "prefill"): 1, ("a", "decode"): 2}
    run.fewest_serving = 1

    def settled(prefill: int, decode: int) -> bool:
        look(run)
        return run.settled(prefill, decode)

    run.change(prefill={"replicas": 2}, decode={"replicas": 4})
    await run.until("both serve", lambda: settled(2, 4) and len(run.cluster.gateways()) == 2, restarts=True)
    assert set(by_domain(run).values()) == {1, 2}
    counted = {"prefill": {"desired": 1, "ready": 1}, "decode": {"desired": 2, "ready": 2}}
    told = [{"name": name, **counted} for name in ("a", "b")]
    await run.until("it is told", lambda: run.resource["status"].get("domains") == told)
    assert run.condition("TopologyHonored")["status"] == "True"

    run.change(prefill={"replicas": 3}, decode={"replicas": 6})
    await run.until("it is told", lambda: run.condition("TopologyHonored")["reason"] == "DomainFull")
    assert "2 decode and 1 prefill" in run.condition("TopologyHonored")["message"]
    assert run.settled(2, 4)

    run.change(prefill={"replicas": 1}, decode={"replicas": 2})
    gone = "one domain is left, its gateway first"
    await run.until(gone, lambda: settled(1, 2) and len({name for name, _ in by_domain(run)}) == 1, 200)
    await run.until("its gateway too", lambda: len(run.cluster.gateways()) == 1, 100)


async def test_workers_of_no_domain_move_to_a_list(run: Run):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    run.fewest_serving = 1
    domains = [{"name": "a", "gpus": 4}]
    run.change(topology={"domainKey": RACK, "domains": domains})
    moved = {("a", "prefill"): 2, ("a", "decode"): 2}

    def there() -> bool:
        for gateway in run.cluster.gateways():
            assert len({domain(pod) for pod in run.cluster.listed(gateway)}) == 1
        return run.settled(2, 2) and by_domain(run) == moved

    await run.until("all are in the domain, on their own GPUs", there, 300)


@pytest.fixture(scope="module")
def racks() -> Iterator[httpx.Client]:
    """An API server with a real scheduler, and two racks of two nodes with two GPUs each."""
    with control_plane(controllers=False, scheduler=True) as plane, connect(plane.kubeconfig) as api:
        for number, rack in enumerate("aabb"):
            meta = {"name": f"node-{number}", "labels": {RACK: rack, "kubernetes.io/hostname": f"node-{number}"}}
            node = {"apiVersion": "v1", "kind": "Node", "metadata": meta}
            api.post("/api/v1/nodes", json=node).raise_for_status()
            room = {"cpu": "8", "memory": "64Gi", "pods": "20", "nvidia.com/gpu": "2"}
            ready = [{"type": "Ready", "status": "True"}]
            status = {"status": {"capacity": room, "allocatable": room, "conditions": ready}}
            path = f"/api/v1/nodes/node-{number}"
            api.patch(f"{path}/status", content=json.dumps(status), headers=MERGE).raise_for_status()
            untainted = json.dumps({"spec": {"taints": None}})
            api.patch(path, content=untainted, headers=MERGE).raise_for_status()
        eventually(lambda: api.get("/api/v1/namespaces/default").status_code == 200, "the namespace is there")
        yield api


@pytest.fixture
def pods(racks: httpx.Client) -> Iterator[httpx.Client]:
    yield racks
    racks.request("DELETE", kinds.POD.path("default"), json={"gracePeriodSeconds": 0}).raise_for_status()
    eventually(lambda: not get(racks, "default", kinds.POD), "all pods are gone")


def start(api: httpx.Client, role: Role, name: str, where: str = "", **topology: Any) -> None:
    put(api, role, name, where, topology={"domainKey": RACK, **topology})


def put(api: httpx.Client, role: Role, name: str, where: str = "", **fields: Any) -> None:
    spec = json.loads(inference("m", **fields))["spec"]
    owner = Owner("m", "default", "00000000-0000-0000-0000-000000000000")
    template = worker_template(owner, DisaggregatedInferenceSpec.model_validate(spec), role)
    pod = worker_pod(owner, role, revision_of(owner, role, template), name, 1, where)
    answer = api.post(kinds.POD.path("default"), json=pod)
    assert answer.status_code == 201, answer.text


def racks_of(api: httpx.Client) -> dict[str, str]:
    """Rack by pod; a pod that the scheduler found no node for is "full"."""
    found = {}
    for pod in get(api, "default", kinds.POD):
        node = pod["spec"].get("nodeName")
        reasons = {c.get("reason") for c in pod.get("status", {}).get("conditions", [])}
        if node or "Unschedulable" in reasons:
            found[pod["metadata"]["name"]] = "aabb"[int(node[-1])] if node else "full"
    return found


def test_the_scheduler_puts_all_workers_into_the_rack_of_the_first(pods: httpx.Client):
    for number in range(5):
        start(pods, Role.PREFILL if number % 2 else Role.DECODE, f"w{number}")
    eventually(lambda: len(racks_of(pods)) == 5, "all were tried")
    counts = Counter(racks_of(pods).values())
    assert (counts["full"], sorted(counts.values())) == (1, [1, 4]), "a rack has four GPUs"


def test_a_preference_gives_way_when_the_rack_is_full(pods: httpx.Client):
    for number in range(5):
        start(pods, Role.DECODE, f"w{number}", policy="Preferred")
        eventually(lambda done=number + 1: len(racks_of(pods)) == done, "it was tried")
    assert sorted(Counter(racks_of(pods).values()).values()) == [1, 4]


def test_a_worker_with_a_domain_goes_there(pods: httpx.Client):
    listed = [{"name": name, "gpus": 4} for name in "ab"]
    for number, rack in enumerate("baab"):
        start(pods, Role.PREFILL, f"w{number}", rack, domains=listed)
    eventually(lambda: len(racks_of(pods)) == 4, "all were tried")
    assert racks_of(pods) == {"w0": "b", "w1": "a", "w2": "a", "w3": "b"}


def test_workers_of_a_role_go_to_different_nodes(pods: httpx.Client):
    """Though the scheduler would rather fill the nodes that are free of other work."""
    for number in range(3):
        busy = {"name": "c", "image": "i", "resources": {"requests": {"cpu": "4"}}}
        spec = {"nodeName": f"node-{number}", "containers": [busy]}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"busy-{number}"}, "spec": spec}
        pods.post(kinds.POD.path("default"), json=pod).raise_for_status()
    for role in Role:
        for number in range(2):
            put(pods, role, f"{role}-{number}")
            eventually(lambda name=f"{role}-{number}": name in nodes_of(pods), "it has a node")
    found = nodes_of(pods)
    assert all(found[f"{role}-0"] != found[f"{role}-1"] for role in Role)


def nodes_of(api: httpx.Client) -> dict[str, str]:
    return {p["metadata"]["name"]: node for p in get(api, "default", kinds.POD) if (node := p["spec"].get("nodeName"))}
