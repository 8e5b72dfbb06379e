"""What endpoints that misbehave cost the operator: its memory, the pace of a resource that is well, the Lease.

Usage: python operator/benchmarks/hostile_endpoints.py [--seconds 40] [--urls 60] [--engines 10]

The operator (its loop, its Lease, its clients) runs in a process of its own against a cluster in memory. One resource,
the victim, is well. The others have engines that answer 512 MiB of zipped blanks, send a byte a second (eight of them),
hang, or answer brackets; and a Prometheus each: of all kinds of these, and one of 60 MiB of brackets. It is measured
alone, beside as many that are well, and beside these. Printed are passes of the victim, its longest pause between two,
renewals of the Lease, the largest resident memory of the operator's process (VmHWM), and the largest sums of the
proportional memory (PSS, looked at each second) of it alone and of it and its process of forecasts together. Before its
first pass it has that of its libraries, and the cluster in memory is part of it, so what the hostile ones cost is the
difference of the last two lines.
"""

import argparse
import asyncio
import itertools
import json
import logging
import multiprocessing
import os
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reconcile"))

import hostile

from dopd.cluster import kinds
from dopd.cluster.election import Election
from dopd.cluster.podhttp import DirectPodHttp
from dopd.cluster.room import Room
from dopd.reconcile.passes import work
from dopd.reconcile.queue import Key, KeyQueue
from dopd.reconcile.reconciler import Reconciler
from dopd.replay.profiles import load_profile
from dopd.telemetry.connection import ConnectionSettings, Connector
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prometheus import Servers
from dopd_forecasting import ProcessExecutor

VICTIM = Key("victim", "victim")
INTERVAL_SECONDS = 5
EVENT_SECONDS = 1.0
"""The victim is named so often, as if its pods changed."""
LEASE_SECONDS = 15.0
KINDS = ("blanks", *("drips",) * 8, "drips_header", "hangs", "brackets")


def serve(ports: Any, well: bool) -> None:
    """A process of endpoints: that of the victim, or the others."""

    async def run() -> None:
        talks = (
            {"victim": hostile.honest}
            if well
            else {
                "blanks": hostile.blanks(512),
                "drips": hostile.drips,
                "drips_header": hostile.drips_header,
                "hangs": hostile.hangs,
                "brackets": hostile.brackets(60),
            }
        )
        async with hostile.endpoints(**talks) as found:
            ports.put(found)
            await asyncio.Event().wait()

    asyncio.run(run())


def operate(ports: dict[str, int], others: int, engines: int, hostile_ones: bool, seconds: float, told: Any) -> None:
    """The process of the operator; `others` resources beside the victim."""
    logging.basicConfig(level=logging.CRITICAL)
    told.put(asyncio.run(_operate(ports, others, engines, hostile_ones, seconds)))


async def _operate(
    ports: dict[str, int], others: int, engines: int, hostile_ones: bool, seconds: float
) -> dict[str, Any]:
    cluster = _Cluster(ports, others, engines, hostile_ones)
    times: list[float] = []
    passes: Counter[Key] = Counter()

    class Counting(Reconciler):
        async def reconcile(self, key: Key) -> float | None:
            delay = await super().reconcile(key)
            passes[key] += 1
            if key == VICTIM:
                times.append(time.monotonic())
            return delay

    room, forecasts = Room(), ProcessExecutor()
    http = DirectPodHttp(hostile.ByNamespace(cluster.ports), room)
    servers = Servers(Connector(ConnectionSettings(), room))
    reconciler = Counting(
        cluster,  # type: ignore[arg-type]
        http,
        loads=LoadReader(servers),
        executor_of=forecasts.of,
    )
    queue = KeyQueue()
    lease = Election(
        cluster,  # type: ignore[arg-type]
        name="dopd",
        namespace="dopd-system",
        identity="benchmark",
        duration_seconds=LEASE_SECONDS,
    )
    base_mib = memory_mib("VmRSS")
    leading = asyncio.create_task(lease.run(lambda: work(reconciler, queue)))
    for key in cluster.keys:
        queue.add(key)
    most_threads, began, own_mib, all_mib = 0, time.monotonic(), 0.0, 0.0
    while time.monotonic() - began < seconds and not leading.done():
        queue.add(VICTIM)
        await asyncio.sleep(EVENT_SECONDS)
        most_threads = max(most_threads, int(_status("Threads")))
        own, others_mib = pss_mib(os.getpid()), pss_mib(forecasts.pid) if forecasts.pid else 0.0
        own_mib, all_mib = max(own_mib, own), max(all_mib, own + others_mib)
    lost = leading.done()
    leading.cancel()
    await asyncio.gather(leading, return_exceptions=True)
    servers.close()
    forecasts.shutdown()
    await http.close()
    times = [began, *times, time.monotonic()]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    conditions = cluster.objects[kinds.INFERENCE.kind, *VICTIM].get(
        "status", {"conditions": [{"type": "MetricsAvailable", "status": "none"}]}
    )["conditions"]
    return {
        "others": f"{others} {'hostile' if hostile_ones else 'well'}" if others else "none",
        "victim_passes": passes[VICTIM],
        "victim_longest_pause_seconds": round(max(gaps), 2),
        "victim_metrics_available": next(
            f"{c['status']} {c.get('message', '')}" for c in conditions if c["type"] == "MetricsAvailable"
        ),
        "passes_of_others": sum(passes.values()) - passes[VICTIM],
        "lease_renewals": cluster.renewals,
        "lease_lost": lost,
        "threads_at_most": most_threads,
        "memory_before_mib": base_mib,
        "memory_without_files_mib": memory_mib("RssAnon"),
        "memory_at_most_mib": memory_mib("VmHWM"),
        "pss_at_most_mib": round(own_mib, 1),
        "pss_with_forecasts_at_most_mib": round(all_mib, 1),
    }


class _Cluster(hostile.MemoryCluster):
    def __init__(self, ports: dict[str, int], others: int, engines: int, hostile_ones: bool) -> None:
        super().__init__()
        self.ports = dict(ports)
        self.renewals = 0
        self.keys = [VICTIM]
        behavior = {"behavior": {"interval": f"{INTERVAL_SECONDS}s"}}
        self.add_resource(*VICTIM, 2, f"http://127.0.0.1:{ports['victim']}", **behavior)
        for number in range(others):
            key = Key(f"tenant-{number}", f"tenant-{number}")
            kind, where = KINDS[number % len(KINDS)], KINDS[-1 - number % len(KINDS)]
            if not hostile_ones:
                kind = where = "victim"
            # A URL of its own for each: the path tells them apart, and the servers do not look at it.
            self.ports[key.namespace] = ports[kind]
            self.keys.append(key)
            self.add_resource(*key, engines, f"http://127.0.0.1:{ports[where]}/{number}", **behavior)
        spec = load_profile("llama-3.1-8b-h100").model_dump(mode="json", by_alias=True, exclude_none=True)
        for key in self.keys:
            self.put(kinds.PROFILE, key.namespace, "p", spec=spec)

    async def request(self, method: str, path: str, *, body: hostile.Json, **others: Any) -> hostile.Json:
        self.renewals += 1
        return await super().request(method, path, body=body, **others)


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))


def memory_mib(field: str) -> float:
    """A figure of this process' memory, MiB."""
    return round(int(_status(field)) / 1024, 1)


def pss_mib(pid: int) -> float:
    """Memory of a process, MiB: what is shared with others counts in parts. 0 of one that has just gone."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("Pss:")), 0.0)


def main() -> None:
    """Run, and print a line of JSON for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--urls", type=int, default=60, help="hostile resources, each with a Prometheus URL of its own")
    parser.add_argument("--engines", type=int, default=10, help="of each role of a hostile resource")
    options = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    found, told = spawn.Queue(), spawn.Queue()
    servers = [spawn.Process(target=serve, args=(found, well), daemon=True) for well in (True, False)]
    for server in servers:
        server.start()
    ports = found.get(timeout=120) | found.get(timeout=120)
    for others, hostile_ones in ((0, False), (options.urls, False), (options.urls, True)):
        operator = spawn.Process(
            target=operate, args=(ports, others, options.engines, hostile_ones, options.seconds, told)
        )
        operator.start()
        print(json.dumps(told.get(timeout=options.seconds + 30)), flush=True)
        operator.join()
    for server in servers:
        server.terminate()


if __name__ == "__main__":
    main()
