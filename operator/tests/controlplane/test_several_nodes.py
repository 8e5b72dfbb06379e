"""Workers of several nodes against a real API server: each group of pods starts, drains, fails and leaves as one."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.workloads import Owner
from dopd.workloads.engines import worker_template
from dopd.workloads.groups import group_pods, worker_group
from dopd.workloads.revisions import revision_of
from e2e.cluster.controlplane import ControlPlane

from .cluster import IDLE, MERGE, Cluster, is_ready
from .leader_worker_sets import DEFINITION, PREFIX, LeaderWorkerSets
from .resources import eventually, get, inference
from .runs import Run, running

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(300)
ROOT = Path(__file__).parents[3]
CAP = 5
RACK = "topology.kubernetes.io/rack"
SCALING = {
    "mode": "External",
    "prefill": {"min": 1, "max": 2},
    "decode": {"min": 1, "max": 3},
    "gpuBudget": {"max": CAP},
}


class GroupRun(Run):
    """A resource whose prefill workers are on two nodes, one GPU each."""

    def __init__(self, *parts: Any) -> None:
        self.late_seconds = 0.0
        super().__init__(*parts)
        self.most_gpus = CAP
        self.sets = LeaderWorkerSets(self.api, self.cluster.namespace)

    def restart(self) -> None:
        """The operator begins anew."""
        self._reconciler = Reconciler(
            self._kubernetes,
            self.cluster,  # type: ignore[arg-type]
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.late_seconds),
            monotonic=lambda: time.monotonic() + self.late_seconds,
        )

    async def until(self, what: str, check: Callable[[], bool], passes: int = 0, *, restarts: bool = False) -> None:
        """Passes of the operator and turns of the cluster until something holds: StatefulSets and the garbage collector
        are real, and take their time."""
        end = time.monotonic() + 120
        while True:
            if restarts:
                self.restart()
            await self._reconciler.reconcile(Key(self.cluster.namespace, "m"))
            self.sets.turn()
            assert self.cluster.held() <= self.most_gpus, "the cap holds at every moment"
            self.cluster.turn()
            for role in ("prefill", "decode"):
                assert len(self.serving(role)) >= self.fewest_serving, f"{role} answers"
            self.look_at_gateways()
            if check():
                return
            if time.monotonic() > end:
                pytest.fail(f"not within two minutes: {what}: {json.dumps(self.resource.get('status'), indent=1)}")
            await asyncio.sleep(0.02)

    def settled(self, prefill: int, decode: int) -> bool:
        there = (len(self.serving("prefill")), len(self.serving("decode")), len(self.cluster.workers()))
        counted = self.resource["status"]["prefill"]["ready"] == prefill
        rolled_out = self.condition("RolledOut")["status"] == "True"
        return there == (prefill, decode, 2 * prefill + decode) and counted and rolled_out

    def groups(self) -> dict[str, Json]:
        """LeaderWorkerSets by name."""
        return {
            item["metadata"]["name"]: item for item in get(self.api, self.cluster.namespace, kinds.LEADER_WORKER_SET)
        }

    def pods_of(self, name: str) -> list[Json]:
        return [p for p in self.cluster.workers() if p["metadata"]["labels"].get(f"{PREFIX}name") == name]

    def ask(self, role: str, workers: int) -> None:
        """What a scaler does."""
        path = kinds.WORKER_SCALE.path(self.cluster.namespace, f"m-{role}")
        patch = {"spec": {"workers": workers}}
        self.api.patch(path, content=json.dumps(patch), headers=MERGE).raise_for_status()

    def end_container(self, pod: Json) -> None:
        """A container of a pod ends, and its node starts it again."""
        status = {**pod["status"]["containerStatuses"][0], "restartCount": 1}
        path = kinds.POD.path(self.cluster.namespace, pod["metadata"]["name"], "status")
        patch = {"status": {"containerStatuses": [status]}}
        self.api.patch(path, content=json.dumps(patch), headers=MERGE).raise_for_status()

    def events(self, reason: str) -> list[str]:
        return [e["note"] for e in get(self.api, self.cluster.namespace, kinds.EVENT) if e["reason"] == reason]


@pytest.fixture(scope="session")
def lws(plane: ControlPlane, api: httpx.Client, crds: None) -> None:
    """LeaderWorkerSets, defined and served."""
    plane.kubectl("apply", f"--filename={DEFINITION}")
    path = kinds.LEADER_WORKER_SET.path(None)
    eventually(lambda: api.get(path).status_code == 200, "LeaderWorkerSets are served")


@pytest.fixture
async def run(plane: ControlPlane, api: httpx.Client, lws: None, namespace: str) -> AsyncIterator[GroupRun]:
    async with running(plane, api, Cluster(api, namespace, CAP), GroupRun) as one:
        yield one


def create(run: GroupRun, **spec: Any) -> None:
    manifest = json.loads(inference("m", **{"scaling": SCALING, **spec}))
    manifest["spec"]["prefill"] = {"gpus": 2, "nodes": 2}
    del manifest["spec"]["decode"]["replicas"]
    answer = run.api.post(kinds.INFERENCE.path(run.cluster.namespace), json=manifest)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("restarts", [False, True], ids=["one operator", "restarted before each pass"])
async def test_a_group_starts_drains_and_leaves_as_one_worker(run: GroupRun, restarts: bool):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1), restarts=restarts)
    run.fewest_serving = 1
    run.ask("prefill", 2)
    await run.until("two groups serve", lambda: run.settled(2, 1), restarts=restarts)
    first, second = sorted(run.groups())
    listed = {p["metadata"]["name"] for p in run.serving("prefill")}
    assert listed == {f"{first}-0", f"{second}-0"}, "the gateway knows leaders alone"
    assert run.resource["status"]["gpus"] == CAP
    budget = run.api.get(kinds.DISRUPTION_BUDGET.path(run.cluster.namespace, "m-prefill")).json()
    assert budget["spec"]["minAvailable"] == 3, "one pod of four may be evicted, and then none more"

    run.ask("prefill", 1)

    def one_is_left() -> bool:
        draining = [s for s in run.groups().values() if "dopd.dev/draining-since" in s["metadata"]["annotations"]]
        assert len(draining) <= 1
        return run.settled(1, 1) and len(run.groups()) == 1

    await run.until("one group drains and leaves", one_is_left, restarts=restarts)
    run.ask("decode", 3)
    await run.until("its GPUs are the other role's", lambda: run.settled(1, 3), restarts=restarts)


def one_group(run: GroupRun) -> tuple[str, list[Json]]:
    (name,) = run.groups()
    return name, run.pods_of(name)


@pytest.mark.parametrize("how", ["its container ends", "it is deleted"])
async def test_a_member_that_fails_takes_the_whole_group_with_it(run: GroupRun, how: str):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    name, before = one_group(run)
    leader, member = sorted(before, key=lambda pod: str(pod["metadata"]["name"]))
    assert member["metadata"]["name"] == f"{name}-0-1"
    if how == "it is deleted":
        run.api.delete(kinds.POD.path(run.cluster.namespace, member["metadata"]["name"])).raise_for_status()
    else:
        run.end_container(member)
    old = {leader["metadata"]["uid"], member["metadata"]["uid"]}
    await run.until("both pods are others, and serve", lambda: run.settled(1, 1) and not old & run.uids())
    assert list(run.groups()) == [name]
    assert run.groups()[name]["metadata"]["annotations"].get("dopd.dev/remade") is None, "it serves again"


async def test_a_leader_that_is_made_anew_in_a_drain_does_not_serve_again(run: GroupRun):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    run.ask("prefill", 2)
    await run.until("two groups serve", lambda: run.settled(2, 1))
    run.cluster.load = {**IDLE, "num_running_reqs": 1}
    run.ask("prefill", 1)

    def drained() -> list[str]:
        return [n for n, s in run.groups().items() if "dopd.dev/draining-since" in s["metadata"]["annotations"]]

    await run.until("one group drains", lambda: bool(drained()) and len(run.serving("prefill")) == 1)
    (name,) = drained()
    run.end_container(run.pods_of(name)[0])
    served: list[str] = []

    def gone() -> bool:
        served.extend(p["metadata"]["labels"][f"{PREFIX}name"] for p in run.serving("prefill"))
        return name not in run.groups()

    await run.until("it is gone", gone)
    assert name not in served


async def test_half_a_group_is_given_back_and_the_missing_pod_named(run: GroupRun):
    run.cluster.gpus = 2
    create(run, rollout={"pendingDeadline": "10m"})

    def half() -> bool:
        bound = [pod for pod in run.cluster.workers() if pod["spec"].get("nodeName")]
        return len(bound) == 2 and len(run.cluster.workers()) == 3

    await run.until("there is no GPU for one of the pods", half)
    name, pods = one_group(run)
    (homeless,) = (pod["metadata"]["name"] for pod in pods if not pod["spec"].get("nodeName"))
    await run.until("nothing is given back yet", lambda: run.resource["status"]["prefill"]["starting"] == 1)
    assert not run.events("GroupGivenBack")
    run.late_seconds = 601.0
    await run.until("the group is given back whole", lambda: not run.groups() and len(run.cluster.workers()) == 1)
    notes = run.events("GroupGivenBack")
    assert len(notes) == 1, notes
    (note,) = notes
    assert note.startswith(f"worker {name} is given back")
    assert homeless in note


async def test_groups_are_rolled_out_one_after_the_other_within_the_cap(run: GroupRun):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    run.ask("prefill", 2)
    await run.until("two groups serve", lambda: run.settled(2, 1))
    decode = {pod["metadata"]["uid"] for pod in run.serving("decode")}
    before, run.fewest_serving = run.uids() - decode, 1
    run.change(prefill={"template": {"metadata": {"annotations": {"a": "b"}}}})
    await run.until("all groups are replaced", lambda: run.settled(2, 1) and not before & run.uids())
    assert decode <= run.uids()


async def test_groups_are_divided_over_domains_and_each_stays_whole_in_one(run: GroupRun):
    def domains(pods: list[Json]) -> set[str]:
        return {pod["metadata"]["labels"].get("dopd.dev/domain", "") for pod in pods}

    run.cluster.add_gpus(1)
    run.most_gpus = 6
    scaling = SCALING | {"gpuBudget": {"max": 6}}
    topology = {"domainKey": RACK, "domains": [{"name": name, "gpus": 3} for name in ("a", "b")]}
    create(run, topology=topology, scaling=scaling)
    await run.until("one domain serves", lambda: run.settled(1, 1))
    assert domains(run.cluster.workers()) == {"a"}
    run.ask("prefill", 2)
    run.ask("decode", 2)
    await run.until("both serve", lambda: run.settled(2, 2), restarts=True)
    assert {tuple(domains(run.pods_of(name))) for name in run.groups()} == {("a",), ("b",)}
    for pod in run.cluster.workers():
        assert {pod["spec"]["nodeSelector"][RACK]} == domains([pod])
    for gateway in run.cluster.gateways():
        assert len(domains(run.cluster.listed(gateway))) == 1, "no request crosses"

    (name,) = (name for name in run.groups() if domains(run.pods_of(name)) == {"a"})
    before = {pod["metadata"]["uid"] for pod in run.pods_of(name)}
    run.end_container(run.pods_of(name)[-1])

    def anew() -> bool:
        pods = run.pods_of(name)
        return run.settled(2, 2) and not before & {pod["metadata"]["uid"] for pod in pods} and domains(pods) == {"a"}

    await run.until("a group that is made anew stays in its domain", anew)
    run.ask("prefill", 1)
    run.ask("decode", 1)
    await run.until("one domain is emptied", lambda: run.settled(1, 1) and len(domains(run.cluster.workers())) == 1)


async def test_pods_of_a_group_get_numbers_addresses_and_probes(run: GroupRun):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    name, pods = one_group(run)
    for pod in pods:
        container = pod["spec"]["containers"][0]
        command = container["command"]
        assert command[command.index("--nnodes") :][:6] == [
            *("--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)"),
            *("--dist-init-addr", "$(LWS_LEADER_ADDRESS):20000"),
        ]
        leads = pod["metadata"]["name"] == f"{name}-0"
        assert container["readinessProbe"]["httpGet"]["path"] == ("/ready" if leads else "/health")
        assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert is_ready(pod)


def test_the_sample_its_pods_and_its_sets_are_taken(api: httpx.Client, lws: None):
    resource = yaml.safe_load((ROOT / "config" / "samples" / "several-nodes" / "inference.yaml").read_text())
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    spec = DisaggregatedInferenceSpec.model_validate(resource["spec"])
    owner = Owner(resource["metadata"]["name"], "default", "0a0a0a0a-0000-0000-0000-000000000000")
    asked: list[tuple[kinds.Kind, Json]] = [(kinds.INFERENCE, resource)]
    for role in Role:
        revision = revision_of(owner, role, worker_template(owner, spec, role))
        name = f"{owner.child_name(role)}-{revision.name}-0"
        asked += [(kinds.POD, pod) for pod in group_pods(owner, revision, name)]
        asked.append((kinds.LEADER_WORKER_SET, worker_group(owner, role, revision, name, 16)))
    for kind, manifest in asked:
        answer = api.post(kind.path("default"), params=query, json=manifest)
        assert answer.status_code == 201, f"{kind.kind}: {answer.text}"


async def test_deleting_the_resource_takes_its_groups_along(run: GroupRun, plane: ControlPlane):
    create(run)
    await run.until("one of each serves", lambda: run.settled(1, 1))
    (group,) = run.groups().values()
    assert kinds.controller(group)["uid"] == run.resource["metadata"]["uid"]
    assert kinds.controller(group)["kind"] == "DisaggregatedInference"
