"""Several instances that act at once: each resource is one's, and another's as soon as that one is gone."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from dopd.cluster import ApiError, PodHttpError, kinds
from dopd.cluster.client import Kubernetes
from dopd.cluster.fence import fenced, may_write
from dopd.cluster.podhttp import DirectPodHttp
from dopd.cluster.shards import OF_LABEL
from dopd.cluster.shares import Candidate
from dopd.reconcile import metrics
from dopd.reconcile.queue import Key, KeyQueue
from dopd.reconcile.sharded import Sharded

Json = dict[str, Any]
KEYS = [Key("team", f"m-{number}") for number in range(20)]
LEASE_SECONDS, SHARDS = 1.5, 6


class Leases:
    """An API server that has Leases, and refuses a write to another version than the stored one."""

    def __init__(self) -> None:
        self.stored: dict[str, Json] = {}
        self.version, self.hangs = 0, False

    async def get(self, _: kinds.Kind, namespace: str, name: str) -> Json | None:
        await self._answer()
        return self.stored.get(name)

    async def list(self, _: kinds.Kind, namespace: str, selector: str) -> list[Json]:
        await self._answer()
        label, _, value = selector.partition("=")
        return [one for one in self.stored.values() if one["metadata"].get("labels", {}).get(label) == value]

    async def create(self, _: kinds.Kind, body: Json) -> Json:
        await self._answer()
        if body["metadata"]["name"] in self.stored:
            raise ApiError(409, "AlreadyExists", "it is there")
        return self._store(body)

    async def request(self, _: str, path: str, body: Json) -> Json:
        await self._answer()
        stored = self.stored[path.rpartition("/")[2]]
        if stored["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
            raise ApiError(409, "Conflict", "another version")
        return self._store(body)

    async def _answer(self) -> None:
        assert may_write()
        await asyncio.sleep(3600.0 if self.hangs else 0.0)

    def _store(self, body: Json) -> Json:
        self.version += 1
        stored = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}
        self.stored[body["metadata"]["name"]] = stored
        return stored


class Reconciler:
    """Counts passes; each takes a moment, in which nobody else may be at the same resource."""

    def __init__(self, leases: Leases, busy: Counter[Key]) -> None:
        self.kubernetes, self.backlogs, self._busy = leases, self, busy
        self.passes, self.left, self.refused = Counter[Key](), Counter[Key](), 0

    async def run(self, _: Callable[[Key], None]) -> None:
        await asyncio.Event().wait()

    async def reconcile(self, key: Key) -> float:
        self._busy[key] += 1
        try:
            assert self._busy[key] == 1, f"two at {key}"
            await asyncio.sleep(0.01)
            self.refused += not may_write()
            self.passes[key] += 1
        finally:
            self._busy[key] -= 1
        return 0.02

    def leave(self, key: Key) -> None:
        self.left[key] += 1


class Instances:
    """Processes over one API server."""

    def __init__(self) -> None:
        self.leases, self.busy, self.checks = Leases(), Counter[Key](), 0
        self.tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, name: str, leases: Leases | None = None) -> Reconciler:
        reconciler, queue = Reconciler(leases or self.leases, self.busy), KeyQueue()
        candidate = Candidate(name, SHARDS, LEASE_SECONDS)
        sharded = Sharded(reconciler, queue, candidate, "dopd", "here", self._check)  # type: ignore[arg-type]
        for key in KEYS:
            queue.add(key)
        self.tasks[name] = asyncio.create_task(sharded.run())
        return reconciler

    async def stop(self, name: str) -> None:
        task = self.tasks.pop(name)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def holders(self) -> Counter[str]:
        held = (one for one in self.leases.stored.values() if OF_LABEL in one["metadata"].get("labels", {}))
        return Counter(one["spec"]["holderIdentity"] for one in held)

    async def _check(self) -> None:
        self.checks += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.checks -= 1


@asynccontextmanager
async def instances() -> AsyncIterator[Instances]:
    made = Instances()
    try:
        yield made
    finally:
        for name in list(made.tasks):
            await made.stop(name)


async def until(true: Callable[[], bool]) -> None:
    for _ in range(1500):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError


async def everything_is_passed_over(*reconcilers: Reconciler) -> None:
    before = sum((one.passes for one in reconcilers), Counter[Key]())
    await until(lambda: all(sum(one.passes[key] for one in reconcilers) > before[key] + 1 for key in KEYS))


async def test_each_resource_is_one_instances_and_shares_are_equal():
    async with instances() as field:
        first = field.start("first")
        await everything_is_passed_over(first)
        second = field.start("second")
        await until(lambda: field.holders() == {"first": 3, "second": 3})
        await everything_is_passed_over(first, second)
        assert first.left  # what it knew of resources that it gave away
        assert not first.refused
        assert not second.refused
        assert field.checks == 1


async def test_who_stops_gives_away_what_it_holds():
    async with instances() as field:
        first, second = field.start("first"), field.start("second")
        await until(lambda: field.holders() == {"first": 3, "second": 3})
        await field.stop("first")
        assert "first" not in field.holders()
        await everything_is_passed_over(second)
        assert first.left.keys() | second.passes.keys() == set(KEYS)


async def test_who_hears_nothing_of_the_api_server_stops_before_another_begins():
    async with instances() as field:
        cut_off = Leases()
        cut_off.stored = field.leases.stored
        first = field.start("first", cut_off)
        await everything_is_passed_over(first)
        cut_off.hangs = True
        second = field.start("second")
        await everything_is_passed_over(second)
        await until(lambda: field.holders() == {"second": SHARDS})
        passes = first.passes.copy()
        await everything_is_passed_over(second)
        assert first.passes == passes


async def test_an_instance_tells_what_it_holds():
    async with instances() as field:
        await everything_is_passed_over(field.start("first"))
        assert metrics.LEADER._value.get() == 1
        assert [metrics.SHARD_HELD.labels(shard)._value.get() for shard in range(SHARDS)] == [1] * SHARDS
        await field.stop("first")
        assert metrics.LEADER._value.get() == 0
        assert [metrics.SHARD_HELD.labels(shard)._value.get() for shard in range(SHARDS)] == [0] * SHARDS


Write = Callable[[], Awaitable[Any]]


async def test_nothing_is_written_from_behind_the_fence():
    kubernetes, http = Kubernetes(api=None), DirectPodHttp()  # type: ignore[arg-type]
    pod = {"metadata": {"name": "p", "namespace": "team"}, "status": {"podIP": "127.0.0.1"}}
    with fenced(lambda: False):
        task = asyncio.create_task(kubernetes.delete(kinds.POD, "team", "p"))  # begun within it, waited for outside
        with pytest.raises(PodHttpError, match="another operator"):
            await http.post_json(pod, 1, "/", {}, 1.0)
    with pytest.raises(ApiError, match="another operator"):
        await task
    await http.close()
