"""Workers on their way against a real API server: rollouts, evictions, what a Deployment made, and the cap."""

from collections.abc import Callable
from typing import Any

import pytest

from dopd.cluster import kinds

from .audited import workers_over_time
from .cluster import serves
from .resources import eventually, get
from .runs import GPUS, Run, create

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)


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
    of = [(run.cluster.namespace, "m")]
    return max(counted.total() for counted in workers_over_time(run.plane.audit_log, of))


async def test_what_needs_no_restart_causes_none(run: Run):
    create(run, 1, 1)
    await run.until("all serve", lambda: run.settled(1, 1))
    before = run.uids()
    run.change(
        slo={"ttftSeconds": 3}, rollout={"onFailure": "RollBack"}, router={"replicas": 2}, decode={"replicas": 2}
    )
    await run.until("one worker more", lambda: run.settled(1, 2))
    assert before < run.uids()


async def test_the_only_workers_are_replaced_beside_them_where_there_is_room(run: Run):
    create(run, 1, 1)
    await run.until("all serve", lambda: run.settled(1, 1))
    before, run.fewest_serving = run.uids(), 1
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await run.until("all are replaced", lambda: run.settled(1, 1) and not before & run.uids())


@pytest.mark.parametrize("restarts", [False, True], ids=["one operator", "restarted before each pass"])
async def test_with_a_full_budget_both_roles_wait_until_an_outage_is_allowed(run: Run, restarts: bool):
    limits = {"prefill": {"min": 1, "max": 1}, "decode": {"min": 1, "max": 1}, "gpuBudget": {"max": 2}}
    create(run, None, None, scaling={"mode": "External", **limits})
    run.most_gpus = 2
    await run.until("all serve", lambda: run.settled(1, 1))
    before, run.fewest_serving = run.uids(), 1
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    await run.until("it waits", lambda: run.condition("RolledOut")["reason"] == "NoSpareGpu")
    for words in ("raise spec.scaling.gpuBudget.max", "set spec.rollout.allowOutage to true"):
        assert words in run.condition("RolledOut")["message"]
    assert run.uids() == before

    run.fewest_serving = 0
    run.change(rollout={"allowOutage": True})
    await run.until("it is told", lambda: run.condition("RolledOut")["reason"] == "RolloutOutage", passes=3)
    assert "nobody serves until" in run.condition("RolledOut")["message"]
    await run.until("both are replaced", lambda: run.settled(1, 1) and not before & run.uids(), restarts=restarts)
    assert most_pods_at_a_time(run) == 2
    events = run.api.get(kinds.EVENT.path(run.cluster.namespace)).raise_for_status().json()["items"]
    notes = [event.get("note", event.get("message", "")) for event in events if event["reason"] == "RolloutOutage"]
    assert len(notes) == 1, "it is told once"
    assert "spec.rollout.allowOutage accepts it" in notes[0]


async def test_an_accepted_outage_comes_also_where_the_budget_has_room_and_the_cluster_has_not(run: Run):
    limits = {"prefill": {"min": 1, "max": 1}, "decode": {"min": 1, "max": 1}, "gpuBudget": {"max": 4}}
    create(run, None, None, scaling={"mode": "External", **limits}, rollout={"allowOutage": True})
    await run.until("all serve", lambda: run.settled(1, 1))
    run.cluster.gpus, before = 2, run.uids()
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    run.fewest_serving = 1
    await run.until("both wait for a node beside the old ones", lambda: len(run.uids()) == 4)
    run.fewest_serving, run.later_seconds = 0, 601.0
    await run.until("both are replaced", lambda: run.settled(1, 1) and not before & run.uids())


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
