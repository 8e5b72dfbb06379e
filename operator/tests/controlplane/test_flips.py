"""Workers that change their role, against a real API server: none is replaced, none is sent what it can not do."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from dopd.cluster import kinds
from e2e.cluster.controlplane import ControlPlane

from .flipping import FlippingCluster
from .runs import GPUS, Run, create, running

Json = dict[str, Any]
pytestmark = pytest.mark.timeout(120)
PASSES = 200


class FlipRun(Run):
    """A resource whose workers may change their role."""

    cluster: FlippingCluster

    def scale(self, prefill: int, decode: int) -> None:
        self.change(prefill={"replicas": prefill}, decode={"replicas": decode})

    async def settles(self, prefill: int, decode: int, *, killed: bool = False) -> None:
        """Passes until so many serve; `killed`: the operator begins anew after each write and each request."""
        seen: Any = None

        def there() -> bool:
            nonlocal seen
            now = self.trace()
            if killed and now != seen:
                self.restart()
            seen = now
            assert not self.cluster.misled, self.cluster.misled
            return self.settled(prefill, decode)

        await self.until(f"{prefill} and {decode} serve", there, passes=PASSES)

    def trace(self) -> Any:
        """What was written to pods and asked of engines."""
        metas = [pod["metadata"] for pod in self.cluster.workers()]
        return [(m["uid"], m["labels"], m.get("annotations")) for m in metas], list(self.cluster.changes)

    def events(self) -> set[str]:
        found = self.api.get(kinds.EVENT.path(self.cluster.namespace)).json()["items"]
        return {event["reason"] for event in found}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass takes some hundredths of a second here, and an engine must be idle for a whole one."""
    monkeypatch.setattr("dopd.rollout.flip.IDLE_SECONDS", 0.1)


@pytest.fixture
async def run(plane: ControlPlane, api: httpx.Client, crds: None, namespace: str) -> AsyncIterator[FlipRun]:
    async with running(plane, api, FlippingCluster(api, namespace, GPUS), FlipRun) as one:
        yield one


async def began(run: FlipRun, prefill: int, decode: int) -> set[str]:
    """All serve; the uids of the workers."""
    create(run, prefill, decode, roleSwitching={"enabled": True})
    await run.settles(prefill, decode)
    run.fewest_serving = 1
    return run.uids()


@pytest.mark.parametrize("killed", [False, True], ids=["one operator", "killed after each write"])
async def test_workers_change_their_role_time_and_again_and_none_is_replaced(run: FlipRun, killed: bool):
    before = await began(run, 1, 3)
    for prefill, decode in ((2, 2), (1, 3), (3, 1), (1, 3)):
        run.scale(prefill, decode)
        await run.settles(prefill, decode, killed=killed)
    assert run.uids() == before
    assert len(run.cluster.changes) == 6
    for pod in run.cluster.workers():
        assert run.cluster.role(pod) == pod["metadata"]["labels"]["dopd.dev/pool"], "metrics are told apart by this"


async def test_status_and_events_tell_of_a_change(run: FlipRun):
    await began(run, 1, 3)
    run.scale(2, 2)
    await run.until("it is told", lambda: run.condition("WorkersAvailable")["reason"] == "ChangingRole")
    assert run.resource["status"]["prefill"]["changing"] == 1
    await run.settles(2, 2)
    await run.until("the status follows", lambda: run.resource["status"]["prefill"]["updated"] == 2)
    assert run.resource["status"]["prefill"]["changing"] == 0
    assert {"RoleChange", "RoleChanged"} <= run.events()


@pytest.mark.parametrize("restorable", [True, False])
async def test_a_refusal_costs_one_worker_and_the_target_is_reached(run: FlipRun, restorable: bool):
    before = await began(run, 1, 3)
    run.cluster.refusal, run.cluster.restorable = "insufficient decode CUDA graph headroom", restorable
    run.most_gpus = GPUS + 1  # fixed numbers have no budget: a start does not wait for the GPU of the one that leaves
    run.scale(2, 2)
    await run.settles(2, 2)
    assert len(run.uids() & before) == 3
    assert ("RoleChangeRefused" if restorable else "EngineReplaced") in run.events()
    run.cluster.refusal = ""
    run.scale(1, 3)
    await run.settles(1, 3)
    assert len(run.uids() & before) == 3


async def test_one_that_is_not_idle_yet_is_asked_again(run: FlipRun):
    before = await began(run, 1, 2)
    run.cluster.refusal = "instance is not idle; drain all requests before switching"
    run.scale(2, 1)
    passes = 0

    def a_while() -> bool:
        nonlocal passes
        passes += 1
        return passes > 40

    await run.until("it was refused", a_while, passes=PASSES)
    run.cluster.refusal = ""
    await run.settles(2, 1)
    assert run.uids() == before


async def test_a_pair_that_does_not_answer_keeps_its_new_half_out(run: FlipRun):
    before = await began(run, 1, 3)
    run.cluster.mute = {pod["metadata"]["uid"] for pod in run.serving("decode")}
    run.scale(2, 2)

    def replaced() -> bool:
        run.cluster.mute &= before
        return bool(before - run.uids())

    await run.until("it is replaced", replaced, passes=PASSES)
    assert {"PairBroken", "EngineReplaced"} <= run.events()
    assert not [pod for pod in run.serving("prefill") if pod["metadata"]["uid"] in run.cluster.mute]


async def test_a_hung_partner_is_to_blame_and_not_the_worker_that_finds_it(run: FlipRun):
    before = await began(run, 1, 3)
    run.scale(2, 2)
    await run.until("one is on its way", lambda: bool(on_their_way(run)))
    [flipping] = on_their_way(run)
    hung = next(pod["metadata"]["uid"] for pod in run.serving("decode") if pod["metadata"]["uid"] != flipping)
    run.cluster.mute = {hung}
    run.most_gpus = GPUS + 1  # fixed numbers have no budget

    def replaced() -> bool:
        return hung not in run.uids() and run.settled(2, 2)

    await run.until("the hung one is replaced", replaced, passes=PASSES)
    assert run.uids() >= before - {hung}, "the one that found it stays"
    assert {"EngineSilent", "EngineReplaced", "RoleChanged"} <= run.events()


def on_their_way(run: FlipRun) -> list[str]:
    pods = [p["metadata"] for p in run.cluster.workers()]
    return [meta["uid"] for meta in pods if "dopd.dev/flip-to" in meta.get("annotations", {})]


async def began_anew(run: FlipRun, *, noticed: bool) -> str:
    """The engine of a prefill worker ends and is there again; uid of its pod."""
    [victim, _] = run.serving("prefill")
    uid = victim["metadata"]["uid"]
    run.cluster.end_engine(victim, noticed=noticed)
    await run.until("its label is gone", lambda: "dopd.dev/role" not in pod_of(run, uid)["metadata"]["labels"])
    assert "EngineBeganAnew" in run.events()
    assert run.resource["status"]["prefill"]["draining"] == 0, "it comes, and does not leave"
    run.cluster.comes_back(pod_of(run, uid))
    return uid


def pod_of(run: FlipRun, uid: str) -> Json:
    return next(pod for pod in run.cluster.workers() if pod["metadata"]["uid"] == uid)


@pytest.mark.parametrize("switching", [False, True])
@pytest.mark.parametrize("noticed", [False, True])
async def test_a_prefill_engine_that_began_anew_serves_once_its_partners_find_it(
    run: FlipRun, switching: bool, noticed: bool
):
    create(run, 2, 2, roleSwitching={"enabled": switching})
    await run.settles(2, 2)
    run.fewest_serving, before = 1, run.uids()
    run.most_gpus = GPUS + 1  # fixed numbers have no budget
    uid = await began_anew(run, noticed=noticed)
    if noticed or switching:  # a fresh bootstrap port is one that nobody knows
        await run.settles(2, 2)
        assert run.uids() == before
    else:
        await run.until("it is replaced", lambda: uid not in run.uids() and run.settled(2, 2), passes=PASSES)
        assert {"PairBroken", "EngineReplaced"} <= run.events()
    assert not run.cluster.misled
    await run.until("all are told to serve", lambda: all(serves_on(pod) for pod in run.cluster.workers()))
    before, events = {pod["metadata"]["uid"]: serves_on(pod) for pod in run.cluster.workers()}, run.events()
    passes = iter(range(5))
    await run.until("five passes more", lambda: next(passes, None) is None)
    assert {pod["metadata"]["uid"]: serves_on(pod) for pod in run.cluster.workers()} == before, "it is proved once"
    assert run.events() == events


def serves_on(pod: Json) -> bool:
    """Whether a worker has both labels, and nothing is to be done with it."""
    meta = pod["metadata"]
    done = not {"dopd.dev/proving", "dopd.dev/flip-to"} & set(meta.get("annotations", {}))
    return done and {"dopd.dev/role", "dopd.dev/serving"} <= set(meta["labels"])


async def test_an_operator_that_begins_anew_goes_on_with_a_proof(run: FlipRun):
    create(run, 2, 2)
    await run.settles(2, 2)
    before = run.uids()
    await began_anew(run, noticed=True)
    run.restart()
    await run.settles(2, 2)
    assert run.uids() == before


async def test_a_rollout_reaches_workers_that_changed_their_role(run: FlipRun):
    await began(run, 1, 3)
    run.scale(2, 2)
    await run.settles(2, 2)
    before = run.uids()
    run.change(engine={"args": ["--chunked-prefill-size", "4096"]})
    check: Callable[[], bool] = lambda: run.settled(2, 2) and not before & run.uids()  # noqa: E731
    await run.until("all are replaced", check, passes=PASSES)
    commands = [json.dumps(pod["spec"]["containers"][0]["command"]) for pod in run.cluster.workers()]
    assert all("4096" in command for command in commands)
