"""CPU of a pass over a resource that scales, and of which nothing changes: on a cluster in memory, by its workers.

Three passes of four are at rest; the fourth, a minute later, is a whole one. Figures are the quartile of the quickest
rounds: other work on the machine makes the others slower.

Usage: python operator/benchmarks/rest_pass.py [--workers 2 8 32 128] [--passes 20] [--profile FILE]

An answer of the API server is decoded from its text, as one that came over the network; to make the text is left out.
The operator's own thread is measured: Prometheus is asked, and played, in others. Pods answer without HTTP.
"""

import argparse
import asyncio
import cProfile
import json
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "reconcile"))

import hostile

from dopd.api.names import INSTANCE_LABEL, ROLE_LABEL
from dopd.cluster import kinds
from dopd.cluster.decode import decode
from dopd.cluster.fence import note_write
from dopd.reconcile.kept_lists import KeptLists
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.telemetry.loads import LoadReader
from dopd.telemetry.prometheus import Servers
from e2e.scale.parts import Client
from e2e.scale.series import Played
from e2e.scale.sizes import profile

Json = dict[str, Any]
RESOURCES = 8
"""That share a Prometheus, as resources do."""
SETTLING_PASSES = 8
PERIOD_SECONDS = 15.0
IDLE = {"loads": [hostile.RANK]}


class Cluster(hostile.MemoryCluster):
    """Answers with what a text says, that is kept until the object changes."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = Counter[tuple[str, str]]()
        self.asked = 0
        self.lists: KeptLists | None = None
        self._texts: dict[tuple[str, str, str], tuple[str, bytes]] = {}

    async def get(self, kind: kinds.Kind, namespace: str, name: str) -> Json | None:
        """See Kubernetes."""
        self.asked += 1
        key = (kind.kind, namespace, name)
        return decode(self._text(key)) if key in self.objects else None

    async def list(self, kind: kinds.Kind, namespace: str | None = None, selector: str = "", *_: Any) -> list[Json]:
        """See Kubernetes."""
        self.asked += 1
        wanted = dict([selector.split("=")]) if selector else {}
        found = [
            self._text(key)
            for key, item in self.objects.items()
            if key[0] == kind.kind
            and key[1] == namespace
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]
        return decode(b"[" + b",".join(found) + b"]")

    def put(self, kind: kinds.Kind, namespace: str, name: str, /, **body: Any) -> Json:
        """An object is written, and a watch tells of it."""
        note_write()
        self.writes[namespace, kind.plural] += 1
        stored = super().put(kind, namespace, name, **body)
        if self.lists is not None:
            self.lists.changed(Key(namespace, stored["metadata"].get("labels", {}).get(INSTANCE_LABEL, name)), kind)
        return stored

    def _text(self, key: tuple[str, str, str]) -> bytes:
        version = self.objects[key]["metadata"]["resourceVersion"]
        known = self._texts.get(key)
        if known is None or known[0] != version:
            known = self._texts[key] = (version, json.dumps(self.objects[key]).encode())
        return known[1]


class Pods:
    """A gateway that lists all workers, and idle engines."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def get_json(self, pod: Json, port: int, path: str, query: Any = None) -> Any:
        """A list of workers, or a load."""
        if path != "/workers":
            return IDLE
        where = pod["metadata"]["namespace"]
        pods = [one for (kind, of, _), one in self._cluster.objects.items() if (kind, of) == (kinds.POD.kind, where)]
        labels = [(one["status"]["podIP"], one["metadata"]["labels"]) for one in pods]
        listed = [(ip, role[ROLE_LABEL]) for ip, role in labels if ROLE_LABEL in role]
        return {"workers": [{"url": f"http://{ip}:30000", "worker_type": role} for ip, role in listed]}

    async def get_text(self, pod: Json, port: int, path: str) -> str:
        """An engine without a plugin."""
        return ""

    async def post_json(self, *_: Any) -> tuple[int, Any]:
        """Nothing is done."""
        return 200, {}

    async def write_json(self, *_: Any) -> tuple[int, Any]:
        """Nothing is done."""
        return 200, {}


async def measured(workers: int, passes: int, profiler: cProfile.Profile | None) -> tuple[float, float, float]:
    """Seconds of CPU of a pass at rest and of a whole one, and writes in one."""
    cluster, each = Cluster(), max(1, workers // 2)
    keys = [Key(f"team-{number:03d}", "m") for number in range(RESOURCES)]
    for key in keys:
        cluster.put(kinds.PROFILE, key.namespace, "p", spec={**profile()["spec"], "model": "m"})
        cluster.add_resource(*key, each, "http://played", mode="Auto", forecast={"bin": "60s", "history": "2h"})
        spec = cluster.objects[kinds.INFERENCE.kind, *key]["spec"]  # what makes no other revision of it
        spec["slo"] = {"ttftSeconds": 2.0, "itlSeconds": 0.05}
        spec["scaling"] |= {role: {"min": each, "max": each} for role in ("prefill", "decode")}
    client, passed = Client(Played(keys, each)), [0.0]
    start = time.time()
    cluster.lists = KeptLists(cluster, lambda: passed[0])  # type: ignore[arg-type]
    reconciler = Reconciler(
        cluster,  # type: ignore[arg-type]
        Pods(cluster),  # type: ignore[arg-type]
        loads=LoadReader(Servers(lambda _: client)),
        now=lambda: datetime.fromtimestamp(start + passed[0], UTC),
        monotonic=lambda: passed[0],
        lists=cluster.lists,
    )

    async def one() -> None:
        passed[0] += PERIOD_SECONDS
        client.now_seconds = start + passed[0]
        await asyncio.gather(*map(reconciler.reconcile, keys))

    for _ in range(SETTLING_PASSES):
        await one()
    wrote, at_rest, whole = cluster.writes.total(), list[float](), list[float]()
    if profiler:
        profiler.enable()
    for _ in range(passes):
        asked, began = cluster.asked, time.thread_time()
        await one()
        (at_rest if cluster.asked == asked else whole).append(time.thread_time() - began)
    if profiler:
        profiler.disable()
    return _least(at_rest) / len(keys), _least(whole) / len(keys), (cluster.writes.total() - wrote) / passes / len(keys)


def _least(spent: list[float]) -> float:
    return sorted(spent)[len(spent) // 4] if spent else float("nan")


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 8, 32, 128])
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--profile", type=Path)
    options = parser.parse_args()
    print("| workers | CPU of a pass at rest, ms | of a whole one, ms | writes in a pass |\n|---|---|---|---|")
    for workers in options.workers:
        profiler = cProfile.Profile(time.thread_time) if options.profile else None
        rest, whole, writes = asyncio.run(measured(workers, options.passes, profiler))
        print(f"| {workers} | {rest * 1000:.2f} | {whole * 1000:.2f} | {writes:.2f} |")
        if profiler:
            profiler.dump_stats(str(options.profile))


if __name__ == "__main__":
    main()
