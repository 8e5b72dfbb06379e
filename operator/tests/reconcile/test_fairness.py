"""Tenants whose engines and Prometheus misbehave cost the others nothing: the real loop over real sockets."""

import asyncio
from collections import Counter
from typing import Any

import pytest

from dopd.cluster import kinds
from dopd.cluster.podhttp import DirectPodHttp
from dopd.reconcile.passes import work
from dopd.reconcile.queue import Key, KeyQueue
from dopd.reconcile.reconciler import Reconciler
from dopd.replay.profiles import load_profile
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prometheus import Servers
from dopd_forecasting import ProcessExecutor

from .hostile import ByNamespace, MemoryCluster, blanks, brackets, drips, drips_header, endpoints, hangs, honest

VICTIM = Key("victim", "victim")
PASSES, PACE_SECONDS = 8, 0.25


async def passes_of_the_victim(cluster: MemoryCluster, ports: dict[str, int], others: list[Key]) -> Counter[Key]:
    """Passes until the victim, named at its pace, has had some; the others stand in the queue as they do."""
    passes: Counter[Key] = Counter()

    class Counting(Reconciler):
        async def reconcile(self, key: Key) -> float | None:
            delay = await super().reconcile(key)
            passes[key] += 1
            return delay

    http, servers, forecasts = DirectPodHttp(ByNamespace(ports)), Servers(), ProcessExecutor()
    reconciler = Counting(cluster, http, loads=LoadReader(servers), executor_of=forecasts.of)  # type: ignore[arg-type]
    queue = KeyQueue()
    loop = asyncio.create_task(work(reconciler, queue))
    for key in others:
        queue.add(key)
    try:
        await asyncio.sleep(PACE_SECONDS)  # until the others have all begun
        passes.clear()
        while passes[VICTIM] < PASSES:  # however long a pass takes on this machine
            queue.add(VICTIM)
            await asyncio.sleep(PACE_SECONDS)
        kept = passes.copy()
        while told(cluster).get("MetricsAvailable") != "True":  # its first reading takes as long as this machine takes
            queue.add(VICTIM)
            await asyncio.sleep(PACE_SECONDS)
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        servers.close()
        forecasts.shutdown()
        await http.close()
    return kept


def told(cluster: MemoryCluster) -> dict[str, str]:
    """What the victim's conditions say."""
    status = cluster.objects[kinds.INFERENCE.kind, *VICTIM].get("status", {})
    return {one["type"]: one["status"] for one in status.get("conditions", [])}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("same_namespace", [False, True])
async def test_eight_resources_that_hang_and_one_that_keeps_its_pace(same_namespace: bool):
    bad: dict[str, Any] = {
        f"bad{n}": talk for n, talk in enumerate((hangs, drips, drips_header, blanks(64), hangs, drips, hangs, hangs))
    }
    async with endpoints(victim=honest, brackets=brackets(8), **bad) as ports:
        cluster = MemoryCluster()
        profile = load_profile("llama-3.1-8b-h100")
        interval = {"behavior": {"interval": "5s"}}
        cluster.add_resource(*VICTIM, 2, f"http://127.0.0.1:{ports['victim']}", **interval)
        others = []
        for number in range(8):
            name = f"bad{number}"
            key = Key("shared" if same_namespace else name, name)
            others.append(key)
            where = ports["brackets"] if number % 2 else ports[name]
            cluster.add_resource(*key, 20, f"http://127.0.0.1:{where}", **interval)
            ports[key.namespace] = ports[name]
        for namespace in {VICTIM.namespace, *(key.namespace for key in others)}:
            spec = profile.model_dump(mode="json", by_alias=True, exclude_none=True)
            cluster.put(kinds.PROFILE, namespace, "p", spec=spec)
        passes = await passes_of_the_victim(cluster, ports, others)
    assert all(2 * passes[key] <= PASSES for key in others), "who waits for them has no more passes than they have"
