"""Two models that fight for the last GPUs of a pool, against a real API server."""

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from dopd.api.gpupool import MOST_MEMBERS
from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .pooled import Pooled, fight, pooled

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(240)
CAP = 8


@pytest.fixture
def other_namespace(plane: ControlPlane) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    plane.kubectl("create", "namespace", name)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=20s")
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
async def run(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str, other_namespace: str
) -> AsyncIterator[Pooled]:
    async with pooled(plane, api, {"chat": namespace, "batch": other_namespace}, CAP) as one:
        yield one


def member(run: Pooled, name: str, priority: int = 0, guaranteed: int = 0, **others: Any) -> Json:
    said = {"namespace": run.clusters[name].namespace, "priority": priority, **others}
    return {**said, "guaranteed": {"h100": guaranteed}} if guaranteed else said


async def begun(run: Pooled, *, hold: str = "1m") -> None:
    """Chat has the priority, batch is guaranteed half; both serve."""
    run.loads.rates = {"chat": 1.0, "batch": 1.0}
    run.create_pool(member(run, "chat", 10, 2), member(run, "batch", 0, 4), hold=hold)
    for name in run.clusters:
        run.create(name)
    await run.until("both serve", lambda: min(run.serving("chat"), run.serving("batch")) >= 2)


def gpus(run: Pooled, name: str) -> Json:
    return dict(run.row(name)["gpus"][0])


@pytest.mark.parametrize("how", ["one operator", "an operator for each namespace", "restarted before each pass"])
async def test_the_cap_holds_at_each_event_and_nobody_falls_below_its_guarantee(run: Pooled, how: str):
    run.shards = how == "an operator for each namespace"
    run.restart()
    await begun(run)
    denials = set()
    for rates in fight(4, 60):
        run.loads.rates = rates
        await run.passes(1, restarts=how == "restarted before each pass")
        for name in run.clusters:
            row = run.row(name)
            assert gpus(run, name)["held"] <= gpus(run, name)["granted"]
            wanted, share = (row[part]["prefill"] + row[part]["decode"] for part in ("wanted", "share"))
            assert share >= min(wanted, {"chat": 2, "batch": 4}[name])
            if row["message"]:
                denials.add(name)
    assert denials == {"chat", "batch"}, "there was something to fight about"
    assert run.most_ever() == CAP, "and all of it was used at some time, but never more"


async def test_gpus_are_handed_over_by_drain_and_both_are_told(run: Pooled):
    await begun(run)
    run.loads.rates = {"chat": 0.5, "batch": 9.0}
    await run.until(
        "batch has all that chat leaves, beyond its guarantee",
        lambda: CAP - run.held("chat") == run.held("batch") > 4 and run.condition("batch")["reason"] == "PoolLimited",
        passes=60,
    )
    told = f"{run.clusters['chat'].namespace}/chat {run.held('chat')} (priority 10)"
    assert told in run.condition("batch")["message"]
    assert told in run.row("batch")["message"]
    decision = run.resource("batch")["status"]["decisions"][0]
    assert "GpuPool" in decision["limitedBy"]
    assert "wants" in decision["message"]
    assert run.condition("batch", "BudgetLimited")["status"] == "True"
    run.loads.rates = {"chat": 9.0, "batch": 9.0}
    await run.until(
        "chat has all but the guarantee", lambda: run.held("chat") == 4 and run.serving("chat") == 4, passes=60
    )
    assert run.held("batch") == 4, "what it is guaranteed"
    assert run.most_ever() == CAP


async def test_kubectl_shows_the_table(run: Pooled):
    await begun(run)
    await run.passes(2)
    head, row = run.plane.kubectl("get", "gpupools", run.pool).splitlines()
    assert head.split() == ["NAME", "GPUS", "WANTED", "GRANTED", "HELD", "DENIED", "SATISFIED", "AGE"]
    assert row.split()[1] == str(CAP)
    assert row.split()[5:7] == ["0", "True"]
    assert {"guaranteed": 4, "type": "h100"}.items() <= gpus(run, "batch").items()


async def test_a_pool_that_is_gone_moves_nothing_and_one_that_comes_back_goes_on(run: Pooled):
    await begun(run)
    run.loads.rates = {"chat": 9.0, "batch": 9.0}
    await run.until("all is taken", lambda: run.held("chat") + run.held("batch") == CAP, passes=60)
    spec = run.stored["spec"]
    before = {name: run.held(name) for name in run.clusters}
    run.api.delete(kinds.GPU_POOL.path(None, run.pool)).raise_for_status()
    await run.passes(4, restarts=True)
    assert {name: run.held(name) for name in run.clusters} == before
    for name in run.clusters:
        assert run.condition(name)["reason"] == "NoPool"
        assert run.pool in run.condition(name)["message"]
    run.create_pool(*spec["members"], hold=spec["holdTime"])
    await run.until("it is known again", lambda: run.condition("chat")["reason"] != "NoPool", passes=5)
    await run.passes(4)
    assert run.most_ever() == CAP


async def test_a_resource_that_no_entry_is_about_gets_nothing(run: Pooled):
    run.loads.rates = {"chat": 1.0, "batch": 1.0}
    run.create_pool(member(run, "chat", 10))
    for name in run.clusters:
        run.create(name)
    await run.until("chat serves", lambda: run.serving("chat") >= 2)
    assert run.held("batch") == 0
    assert run.condition("batch")["reason"] == "NotAMember"
    assert run.row("batch")["member"] is False
    run.change_pool(members=[member(run, "chat", 10), member(run, "batch")])
    await run.until("it is let in", lambda: run.serving("batch") >= 2)


async def test_a_pool_of_other_gpus_gives_none(run: Pooled):
    run.loads.rates = {"chat": 1.0, "batch": 1.0}
    run.create_pool(member(run, "chat"))
    run.change_pool(gpuTypes=[{"name": "h100", "product": "NVIDIA-H100-80GB-HBM3", "gpus": CAP}])
    del_batch = run.clusters
    run.clusters = {"chat": del_batch["chat"]}
    run.create("chat")
    await run.passes(3)
    assert run.held("chat") == 0
    assert "prefill workers ask for nvidia.com/gpu of any product" in run.condition("chat")["message"]
    run.clusters = del_batch


async def test_a_lowered_cap_is_reached_by_draining_and_no_further_than_the_guarantees(run: Pooled):
    await begun(run)
    run.loads.rates = {"chat": 9.0, "batch": 9.0}
    await run.until("all is taken", lambda: run.held("chat") + run.held("batch") == CAP, passes=60)
    run.change_pool(gpuTypes=[{"name": "h100", "gpus": 6}])
    await run.until("it is reached", lambda: run.held("chat") + run.held("batch") == 6, passes=30)
    assert run.held("batch") >= 4
    assert run.held("chat") >= 2


async def test_gpus_of_a_deleted_resource_count_until_its_pods_are_gone(run: Pooled):
    await begun(run)
    run.loads.rates = {"chat": 9.0, "batch": 9.0}
    await run.until("all is taken", lambda: run.held("chat") + run.held("batch") == CAP, passes=60)
    run.api.delete(kinds.INFERENCE.path(run.clusters["batch"].namespace, "batch")).raise_for_status()
    await run.until("chat takes what is free", lambda: run.held("chat") > 4, passes=30)
    assert run.most_ever() == CAP
    await run.until("the row is gone", lambda: run.row("batch") == {}, passes=10)


async def test_at_rest_nothing_is_written(run: Pooled):
    await begun(run)
    await run.passes(6)
    before = run.stored["metadata"]["resourceVersion"]
    await run.passes(4)
    assert run.stored["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"members": [{"namespace": "a", "guaranteed": {"h100": 9}}]}, "guarantees of a type add up to more"),
        ({"members": [{"namespace": "a", "guaranteed": {"a100": 1}}]}, "names a GPU type in guaranteed or max"),
        ({"members": [{"namespace": "a", "guaranteed": {"h100": 3}, "max": {"h100": 2}}]}, "must not exceed max"),
        ({"members": [{"namespace": "a"}, {"namespace": "b"}, {"namespace": "a"}]}, "twice; remove one"),
        ({"members": [{"namespace": "a"}, *[{"namespace": "a", "name": "m"}] * 2]}, "twice; remove one"),
        ({"holdTime": "2d"}, "must be 1s to 24h"),
    ],
)
def test_what_can_not_be_meant_is_refused(api: httpx.Client, crds: None, spec: Json, words: str):
    answer = asked(api, spec)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["message"]


def asked(api: httpx.Client, spec: Json) -> httpx.Response:
    """What the API server says of a pool of eight GPUs."""
    manifest = {
        "apiVersion": "dopd.dev/v1alpha1",
        "kind": "GpuPool",
        "metadata": {"name": "asked"},
        "spec": {"gpuTypes": [{"name": "h100", "gpus": 8}], **spec},
    }
    return api.post(kinds.GPU_POOL.path(None), params={"dryRun": "All"}, json=manifest)


def test_as_many_members_as_there_may_be_are_compared(api: httpx.Client, crds: None):
    """Each with each, with the longest names: the API server gives a rule so much and no more."""
    names = [{"namespace": "n" * 63, "name": "m" * 44 + f"{k:02}"} for k in range(MOST_MEMBERS)]
    assert asked(api, {"members": names}).status_code == 201
    twice = asked(api, {"members": [*names[:-1], names[0]]})
    assert twice.status_code == 422
    assert "twice; remove one" in twice.json()["message"]
