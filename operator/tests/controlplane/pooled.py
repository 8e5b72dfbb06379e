"""Two resources in two namespaces that share a GpuPool on a real API server; loads, machines and time are played."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from kubernetes.aio import client, config

from dopd.autoscaler import PastLoad
from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from dopd.telemetry.lengths import Lengths, demand_at
from dopd.telemetry.loads import LoadHistory
from dopd.telemetry.present import LoadNow
from e2e.cluster.controlplane import ControlPlane

from ..kills.test_every_write import PROFILE as OF_KILLS
from .audited import workers_over_time
from .cluster import MERGE, Cluster
from .resources import inference

Json = dict[str, Any]
LENGTHS = Lengths(1000.0, 1_500_000.0, 200.0, 80_000.0, 1.0)
PASS_SECONDS = 15.0
PROFILE: Json = {
    **{part: told for part, told in OF_KILLS.items() if part != "transfer"},
    "model": "demo",
    "startup": {"prefillSeconds": 20, "decodeSeconds": 20},
}
SCALING: Json = {
    "prefill": {"min": 1, "max": 8},
    "decode": {"min": 1, "max": 8},
    "profileRef": {"name": "p"},
    "behavior": {"interval": "15s", "scaleDownStabilization": "30s"},
}


@dataclass
class Loads:
    """Requests per second of each resource, as Prometheus would tell them."""

    rates: dict[str, float] = field(default_factory=dict)
    past: dict[str, list[float]] = field(default_factory=dict)

    async def history(self, _: Any, key: Key, now_seconds: float) -> LoadHistory:
        rates = self.past.setdefault(key.name, [])
        rates.append(self.rates[key.name])
        end = now_seconds // PASS_SECONDS * PASS_SECONDS
        ends = [end - PASS_SECONDS * (len(rates) - 1 - index) for index in range(len(rates))]
        past = tuple(PastLoad(at, PASS_SECONDS, demand_at(rate, LENGTHS)) for at, rate in zip(ends, rates, strict=True))
        return LoadHistory(end, PASS_SECONDS, past, LENGTHS)

    async def now(self, _: Any, key: Key, __: float, **___: Any) -> LoadNow:
        return LoadNow(self.rates[key.name], LENGTHS, None)


@dataclass
class Pooled:
    """Resources that share a pool.

    Attributes:
        clusters: machines of each resource, by its name; each has a namespace of its own.
        pool: name of the GpuPool.
        cap: GPUs of it.
        shards: an operator for each namespace, in place of one for both.
    """

    plane: ControlPlane
    api: httpx.Client
    kubernetes: Kubernetes
    clusters: Mapping[str, Cluster]
    pool: str
    cap: int
    shards: bool = False
    loads: Loads = field(default_factory=Loads)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self._began = datetime.now(UTC).timestamp()
        self.restart()

    def restart(self) -> None:
        """All operators begin anew, with nothing remembered."""
        of_all = self._operator(())
        self.operators = {
            name: self._operator((cluster.namespace,)) if self.shards else of_all
            for name, cluster in self.clusters.items()
        }

    def _operator(self, namespaces: tuple[str, ...]) -> Reconciler:
        return Reconciler(
            self.kubernetes,
            self,  # type: ignore[arg-type]
            "http://prometheus",
            now=lambda: datetime.fromtimestamp(self._began + self.seconds, UTC),
            monotonic=lambda: self._began + self.seconds,
            loads=self.loads,  # type: ignore[arg-type]
            namespaces=namespaces,
        )

    async def get_json(self, pod: Json, *rest: Any) -> Any:
        """What gateways and engines answer."""
        return await self._of(pod).get_json(pod, *rest)

    async def get_text(self, pod: Json, *rest: Any) -> str:
        """Metrics of engines."""
        return await self._of(pod).get_text(pod, *rest)

    def _of(self, pod: Json) -> Cluster:
        return next(c for c in self.clusters.values() if c.namespace == pod["metadata"]["namespace"])

    def create_pool(self, *members: Json, hold: str = "1m") -> None:
        """Make the pool."""
        manifest = {
            "apiVersion": "dopd.dev/v1alpha1",
            "kind": "GpuPool",
            "metadata": {"name": self.pool},
            "spec": {"gpuTypes": [{"name": "h100", "gpus": self.cap}], "members": list(members), "holdTime": hold},
        }
        answer = self.api.post(kinds.GPU_POOL.path(None), json=manifest)
        assert answer.status_code == 201, answer.text

    def create(self, name: str, **spec: Any) -> None:
        """Make a resource that scales, and its profile."""
        namespace = self.clusters[name].namespace
        profile = {
            "apiVersion": "dopd.dev/v1alpha1",
            "kind": "EngineProfile",
            "metadata": {"name": "p"},
            "spec": PROFILE,
        }
        self.api.post(kinds.PROFILE.path(namespace), json=profile)
        manifest = json.loads(inference(name, **{"scaling": SCALING, "gpuPool": {"name": self.pool}, **spec}))
        if manifest["spec"]["scaling"]:
            for role in ("prefill", "decode"):
                del manifest["spec"][role]["replicas"]
        else:
            del manifest["spec"]["scaling"]
        answer = self.api.post(kinds.INFERENCE.path(namespace), json=manifest)
        assert answer.status_code == 201, answer.text

    def resource(self, name: str) -> Json:
        """As stored."""
        found: Json = self.api.get(kinds.INFERENCE.path(self.clusters[name].namespace, name)).raise_for_status().json()
        return found

    def condition(self, name: str, kind: str = "GpusGranted") -> Json:
        """Of a resource."""
        found = self.resource(name).get("status", {}).get("conditions", [])
        return next((c for c in found if c["type"] == kind), {"status": "", "reason": "", "message": ""})

    @property
    def stored(self) -> Json:
        """The pool."""
        found: Json = self.api.get(kinds.GPU_POOL.path(None, self.pool)).raise_for_status().json()
        return found

    def row(self, name: str) -> Json:
        """Of a resource in the ledger; empty where it has none."""
        rows = self.stored.get("status", {}).get("members", [])
        return next((row for row in rows if row["name"] == name), {})

    def change_pool(self, **spec: Any) -> None:
        """By a merge patch."""
        path = kinds.GPU_POOL.path(None, self.pool)
        self.api.patch(path, content=json.dumps({"spec": spec}), headers=MERGE).raise_for_status()

    def held(self, name: str) -> int:
        """GPUs of all workers of a resource, whatever they do."""
        return self.clusters[name].held()

    def serving(self, name: str) -> int:
        """Workers that gateways send to."""
        cluster = self.clusters[name]
        return len({p["metadata"]["uid"] for gateway in cluster.gateways() for p in cluster.listed(gateway)})

    async def passes(self, count: int, *, restarts: bool = False, most: int | None = None) -> None:
        """Passes over all resources at the same time, and turns of their machines."""
        for _ in range(count):
            if restarts:
                self.restart()
            self.seconds += PASS_SECONDS
            turns = [
                self.operators[name].reconcile(Key(cluster.namespace, name)) for name, cluster in self.clusters.items()
            ]
            await asyncio.gather(*turns)
            total = sum(map(self.held, self.clusters))
            assert total <= (self.cap if most is None else most), {name: self.held(name) for name in self.clusters}
            for cluster in self.clusters.values():
                cluster.turn()

    async def until(self, what: str, check: Callable[[], bool], passes: int = 40, **others: Any) -> None:
        """Passes until something holds."""
        for _ in range(passes):
            await self.passes(1, **others)
            if check():
                return
        told = {name: self.condition(name) for name in self.clusters}
        pytest.fail(f"not within {passes} passes: {what}: {told} {json.dumps(self.stored.get('status'), indent=1)}")

    def close(self) -> None:
        """Take machines and pool away."""
        for cluster in self.clusters.values():
            cluster.close()
        self.api.delete(kinds.GPU_POOL.path(None, self.pool))

    def most_ever(self) -> int:
        """The most workers of all resources together at any event of the audit log."""
        of = [(cluster.namespace, name) for name, cluster in self.clusters.items()]
        return max(counted.total() for counted in workers_over_time(self.plane.audit_log, of))


@asynccontextmanager
async def pooled(
    plane: ControlPlane, api: httpx.Client, namespaces: Mapping[str, str], cap: int
) -> AsyncIterator[Pooled]:
    """Resources by name in namespaces of their own, and a pool that is deleted afterwards."""
    configuration = client.Configuration()
    await config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    clusters = {name: Cluster(api, namespace, 64) for name, namespace in namespaces.items()}
    run = Pooled(plane, api, kubernetes, clusters, f"pool-{min(namespaces.values())}", cap)
    yield run
    run.close()
    await kubernetes.close()


def fight(seed: int, passes: int) -> list[dict[str, float]]:
    """Requests per second of chat and batch: each has a busy and a calm time now and then, and both waver."""
    draws, rates, trace = random.Random(seed), {"chat": 1.0, "batch": 1.0}, []
    for step in range(passes):
        for name, every in (("chat", 14), ("batch", 11)):
            if step % every == 0:
                rates[name] = draws.choice([0.5, 1.0, 6.0, 9.0])
        trace.append({name: rate * draws.uniform(0.9, 1.1) for name, rate in rates.items()})
    return trace
