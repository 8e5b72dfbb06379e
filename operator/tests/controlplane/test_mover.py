"""Workers on their way against a real API server: rollouts, evictions, what a Deployment made, and the cap."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, config

from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from e2e.cluster.controlplane import ControlPlane

from .cluster import MERGE, Cluster, serves
from .resources import eventually, get, inference

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)
GPUS = 4


class Run:
    """One resource m, brought on its way pass by pass; what must hold is looked at after each."""

    def __init__(self, plane: ControlPlane, api: httpx.Client, cluster: Cluster, kubernetes: Kubernetes) -> None:
        self.plane, self.api, self.cluster, self._kubernetes = plane, api, cluster, kubernetes
        self.restart()
        self.fewest_serving = 0
        self.most_gpus = GPUS

    def restart(self) -> None:
        """The operator begins anew, with nothing remembered."""
        self._reconciler = Reconciler(self._kubernetes, self.cluster)  # type: ignore[arg-type]

    @property
    def resource(self) -> Json:
        found: Json = self.api.get(kinds.INFERENCE.path(self.cluster.namespace, "m")).raise_for_status().json()
        return found

    def condition(self, kind: str) -> Json:
        found = self.resource.get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {"status": "", "reason": "", "message": ""})

    def change(self, **spec: Any) -> None:
        path = kinds.INFERENCE.path(self.cluster.namespace, "m")
        self.api.patch(path, content=json.dumps({"spec": spec}), headers=MERGE).raise_for_status()

    async def until(self, what: str, check: Callable[[], bool], passes: int = 60, *, restarts: bool = False) -> None:
        """Passes of the operator and turns of the cluster until something holds."""
        for _ in range(passes):
            if restarts:
                self.restart()
            await self._reconciler.reconcile(Key(self.cluster.namespace, "m"))
            assert self.cluster.held() <= self.most_gpus, "the cap holds at every moment"
            self.cluster.turn()
            for role in ("prefill", "decode"):
                assert len(self.serving(role)) >= self.fewest_serving, f"{role} answers"
            self.look_at_gateways()
            if check():
                return
        pytest.fail(f"not within {passes} passes: {what}: {json.dumps(self.resource.get('status'), indent=1)}")

    def look_at_gateways(self) -> None:
        """Clients reach a gateway, and each sends to workers of one spec alone."""
        gateways = self.cluster.gateways()
        assert gateways or not self.fewest_serving, "a gateway answers"
        for gateway in gateways:
            made_from = {(p["spec"]["containers"][0]["image"], _turn(p)) for p in self.cluster.listed(gateway)}
            assert len(made_from) == 1, "no request is shared by two revisions"

    def serving(self, role: str) -> list[Json]:
        """Workers of a role that some gateway sends to."""
        listed = [p for gateway in self.cluster.gateways() for p in self.cluster.listed(gateway)]
        of_role = {p["metadata"]["uid"]: p for p in listed if p["metadata"]["labels"]["dopd.dev/role"] == role}
        return list(of_role.values())

    def settled(self, prefill: int, decode: int) -> bool:
        there = (len(self.serving("prefill")), len(self.serving("decode")), len(self.cluster.workers()))
        return there == (prefill, decode, prefill + decode) and self.condition("RolledOut")["status"] == "True"

    def uids(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.cluster.workers()}


def _turn(pod: Json) -> bool:
    """What tells the workers of one spec from those of the next in these tests, beside the image."""
    return "--chunked-prefill-size" in pod["spec"]["containers"][0]["command"]


@pytest.fixture
async def run(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str) -> AsyncIterator[Run]:
    configuration = client.Configuration()
    await config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    kubernetes, cluster = Kubernetes(client.ApiClient(configuration)), Cluster(api, namespace, 2 * GPUS)
    yield Run(plane, api, cluster, kubernetes)
    cluster.close()
    await kubernetes.close()


def create(run: Run, prefill: int, decode: int, **spec: Any) -> None:
    manifest = json.loads(inference("m", prefill, decode, **spec))
    answer = run.api.post(kinds.INFERENCE.path(run.cluster.namespace), json=manifest)
    assert answer.status_code == 201, answer.text


@pytest.mark.parametrize("restarts", [False, True], ids=["one operator", "restarted before each pass"])
async def test_a_rollout_replaces_one_worker_after_the_other_on_their_own_gpus(run: Run, restarts: bool):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    before, run.fewest_serving = run.uids(), 1
    run.change(engine={"image": "never.pulled/engine:2", "imagePullPolicy": "Never"})
    await run.until("all are replaced", lambda: run.settled(2, 2) and not before & run.uids(), restarts=restarts)
    assert {pod["spec"]["containers"][0]["image"] for pod in run.cluster.workers()} == {"never.pulled/engine:2"}
    await run.until("it is told", lambda: run.resource["status"]["decode"]["updated"] == 2)
    assert most_pods_at_a_time(run) == GPUS


def most_pods_at_a_time(run: Run) -> int:
    """The most workers that were there at a time, as the API server's audit log tells."""
    there: set[str] = set()
    most = 0
    for line in map(json.loads, run.plane.audit_log.read_text().splitlines()):
        target = line.get("objectRef", {})
        if target.get("namespace") != run.cluster.namespace or target.get("resource") != "pods":
            continue
        name, worked = target.get("name", ""), line.get("responseStatus", {}).get("code", 500) < 300
        if (
            line["stage"] != "ResponseComplete"
            or not worked
            or "dryRun" in line["requestURI"]
            or not name.startswith(("m-prefill-", "m-decode-"))
        ):
            continue
        if line["verb"] == "create" and not target.get("subresource"):
            there.add(name)
        if line["verb"] == "delete" and "httpx" in line.get("userAgent", ""):  # the kubelet's last word
            there.discard(name)
        most = max(most, len(there))
    return most


async def test_what_needs_no_restart_causes_none(run: Run):
    create(run, 1, 1)
    await run.until("all serve", lambda: run.settled(1, 1))
    before = run.uids()
    run.change(
        slo={"ttftSeconds": 3}, rollout={"onFailure": "RollBack"}, router={"replicas": 2}, decode={"replicas": 2}
    )
    await run.until("one worker more", lambda: run.settled(1, 2))
    assert before < run.uids()


async def test_the_only_workers_wait_for_a_spare_gpu_unless_an_outage_is_allowed(run: Run):
    create(run, 1, 1)
    await run.until("all serve", lambda: run.settled(1, 1))
    before, run.fewest_serving = run.uids(), 1
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await run.until("all are replaced", lambda: run.settled(1, 1) and not before & run.uids())


async def test_a_revision_that_does_not_come_up_is_held_and_takes_one_worker_of_a_role(run: Run):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    run.fewest_serving = 1
    run.change(engine={"args": ["--broken"]})
    await run.until("it is held", lambda: run.condition("RolledOut")["reason"] == "RolloutHeld")
    assert "ended 3 times" in run.condition("RolledOut")["message"]
    run.change(engine={"args": []})
    await run.until("all is as before", lambda: run.settled(2, 2))


async def test_a_revision_that_does_not_come_up_is_rolled_back_until_the_spec_changes(run: Run):
    create(run, 2, 2, rollout={"onFailure": "RollBack"})
    await run.until("all serve", lambda: run.settled(2, 2))
    run.fewest_serving = 1
    run.change(engine={"args": ["--broken"]})

    def back() -> bool:
        good = [pod for pod in run.cluster.workers() if "--broken" not in pod["spec"]["containers"][0]["command"]]
        rolled_back = run.condition("RolledOut")["reason"] == "RolledBack"
        return rolled_back and len(good) == len(run.cluster.workers()) == 4 and all(map(serves, good))

    await run.until("it is rolled back", back, restarts=True)
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await run.until("the next spec is rolled out", lambda: run.settled(2, 2))
    assert run.resource["status"]["decode"].get("rejectedRevision") is None


async def test_a_template_that_is_refused_costs_no_worker(run: Run):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    before, run.fewest_serving = run.uids(), 2
    run.change(decode={"template": {"spec": {"nodeSelectr": {"a": "b"}}}})
    await run.until("it is told", lambda: run.condition("RolledOut")["reason"] == "ChildRefused")
    assert run.uids() == before


async def test_evictions_take_one_worker_of_a_role_at_a_time_and_never_the_last(run: Run):
    create(run, 1, 2)
    await run.until("all serve", lambda: run.settled(1, 2))

    def allowed(role: str, count: int) -> bool:
        path = kinds.DISRUPTION_BUDGET.path(run.cluster.namespace, f"m-{role}")
        return bool(run.api.get(path).json().get("status", {}).get("disruptionsAllowed") == count)

    await run.until("one decode worker may go", lambda: allowed("decode", 1))
    assert run.cluster.evict(run.serving("prefill")[0]) == 429
    first, second = run.serving("decode")
    assert run.cluster.evict(first) == 201
    assert run.cluster.evict(second) == 429
    await run.until("it is replaced", lambda: run.settled(1, 2))
    assert first["metadata"]["uid"] not in run.uids()
    await run.until("the next one may go", lambda: allowed("decode", 1))
    assert run.cluster.evict(second) == 201


async def test_workers_of_a_deployment_are_taken_over_without_a_restart_and_leave_as_an_old_revision(run: Run):
    create(run, 2, 2)
    owner = {"apiVersion": "dopd.dev/v1alpha1", "kind": "DisaggregatedInference", "name": "m", "controller": True}
    owner["uid"] = run.resource["metadata"]["uid"]
    gateway = ["smg", "launch"]
    for role in ("prefill", "decode"):
        gateway += [f"--{role}-selector", "dopd.dev/instance=m", f"dopd.dev/role={role}"]
    for pool, count in (("prefill", 2), ("decode", 2), ("router", 1)):
        labels = {"app.kubernetes.io/managed-by": "dopd", "dopd.dev/instance": "m", "dopd.dev/pool": pool}
        container: Json = {"name": "router", "image": "never.pulled/smg", "command": gateway}
        told = labels
        if pool != "router":
            container = {"name": "engine", "image": "never.pulled/engine", "command": ["x"]}
            container["resources"] = {"limits": {"nvidia.com/gpu": "1"}, "requests": {"nvidia.com/gpu": "1"}}
            told = {**labels, "dopd.dev/role": pool}
        template = {"metadata": {"labels": told}, "spec": {"containers": [container]}}
        meta = {"name": f"m-{pool}", "labels": labels, "ownerReferences": [owner]}
        spec = {"replicas": count, "selector": {"matchLabels": labels}, "template": template}
        manifest = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
        answer = run.api.post(kinds.DEPLOYMENT.path(run.cluster.namespace), json=manifest)
        assert answer.status_code == 201, answer.text
    eventually(lambda: len(run.cluster.pods()) == 5, "the Deployments' pods")
    for _ in range(3):
        run.cluster.turn()
    before, run.fewest_serving = run.uids(), 1

    def orphaned() -> bool:
        sets = [
            s for s in get(run.api, run.cluster.namespace, kinds.REPLICA_SET) if "-router-" not in s["metadata"]["name"]
        ]
        deployments = [d["metadata"]["name"] for d in get(run.api, run.cluster.namespace, kinds.DEPLOYMENT)]
        return all("-router-" in name for name in sets) and deployments == ["m-router"]

    await run.until("the Deployments are gone", orphaned, passes=200, restarts=True)
    assert before == run.uids(), "they serve on"
    await run.until("all are replaced", lambda: run.settled(2, 2) and not before & run.uids(), passes=100)


FAULTS: dict[str, Callable[[list[Json]], list[Json]]] = {
    "stale entry": lambda rows: [*rows, {"url": "http://10.9.9.9:30000", "worker_type": "decode"}],
    "missing entry": lambda rows: _by_role(rows)[1:],
    "wrong role": lambda rows: [{**_by_role(rows)[0], "worker_type": "prefill"}, *_by_role(rows)[1:]],
    "empty memory": lambda rows: [],
}


def _by_role(rows: list[Json]) -> list[Json]:
    """Decode workers first."""
    return sorted(rows, key=lambda row: str(row["worker_type"]))


async def test_a_gateway_that_lists_others_than_it_should_is_named_and_replaced(
    run: Run, monkeypatch: pytest.MonkeyPatch
):
    create(run, 1, 2)
    await run.until("all serve", lambda: run.settled(1, 2))
    run.fewest_serving = 1
    for name in ("LASTING_SECONDS", "REPAIR_SECONDS"):
        monkeypatch.setattr(f"dopd.reconcile.gateway_watch.{name}", 0.0)
    for what, fault in FAULTS.items():
        (gateway,) = (pod["metadata"]["name"] for pod in run.cluster.gateways())
        run.cluster.faults = {gateway: fault}
        await run.until(what, lambda: run.condition("RouterInSync")["reason"] == "RouterOutOfSync")
        assert gateway in run.condition("RouterInSync")["message"]

        def repaired(wrong: str = gateway) -> bool:
            names = [pod["metadata"]["name"] for pod in run.cluster.gateways()]
            return wrong not in names and len(names) == 1 and run.condition("RouterInSync")["status"] == "True"

        await run.until(f"{what} is repaired", repaired)


async def test_of_two_gateways_that_disagree_the_wrong_one_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch):
    create(run, 1, 2, router={"image": "never.pulled/smg", "imagePullPolicy": "Never", "replicas": 2})
    await run.until("both serve", lambda: run.settled(1, 2) and len(run.cluster.gateways()) == 2)
    run.fewest_serving = 1
    for name in ("LASTING_SECONDS", "REPAIR_SECONDS"):
        monkeypatch.setattr(f"dopd.reconcile.gateway_watch.{name}", 0.0)
    right, wrong = (pod["metadata"]["name"] for pod in run.cluster.gateways())
    run.cluster.faults = {wrong: FAULTS["wrong role"]}

    def repaired() -> bool:
        names = [pod["metadata"]["name"] for pod in run.cluster.gateways()]
        return right in names and wrong not in names and len(names) == 2

    await run.until("the wrong one is replaced", repaired)


async def test_a_change_of_one_role_leaves_the_workers_of_the_other(run: Run):
    create(run, 2, 2)
    await run.until("all serve", lambda: run.settled(2, 2))
    before, run.fewest_serving = {pod["metadata"]["uid"] for pod in run.serving("decode")}, 1
    run.change(prefill={"template": {"metadata": {"annotations": {"a": "b"}}}})
    old = run.uids() - before
    await run.until("prefill is replaced", lambda: run.settled(2, 2) and not old & run.uids())
    assert {pod["metadata"]["uid"] for pod in run.serving("decode")} == before
