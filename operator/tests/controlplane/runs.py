"""One resource against a real API server, brought on its way pass by pass on machines that are played."""

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx
import pytest
from kubernetes.aio import client, config

from dopd.cluster import Kubernetes, kinds
from dopd.reconcile.queue import Key
from dopd.reconcile.reconciler import Reconciler
from e2e.cluster.controlplane import ControlPlane

from .cluster import MERGE, Cluster
from .resources import inference

Json = dict[str, Any]
GPUS = 4


class Run:
    """One resource m, brought on its way pass by pass; what must hold is looked at after each.

    Attributes:
        fewest_serving: workers of each role that must answer after each pass.
        most_gpus: that workers may hold.
        later_seconds: how far the operator's clocks are ahead: time that is let pass at once.
    """

    def __init__(self, plane: ControlPlane, api: httpx.Client, cluster: Cluster, kubernetes: Kubernetes) -> None:
        self.plane, self.api, self.cluster, self._kubernetes = plane, api, cluster, kubernetes
        self.later_seconds = 0.0
        self.restart()
        self.fewest_serving = 0
        self.most_gpus = GPUS

    def restart(self) -> None:
        """The operator begins anew, with nothing remembered."""
        self._reconciler = Reconciler(
            self._kubernetes,
            self.cluster,  # type: ignore[arg-type]
            now=lambda: datetime.now(UTC) + timedelta(seconds=self.later_seconds),
            monotonic=lambda: time.monotonic() + self.later_seconds,
        )

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
            assert len(made_from) <= 1, "no request is shared by two revisions"

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


Kind = TypeVar("Kind", bound=Run)


@asynccontextmanager
async def running(plane: ControlPlane, api: httpx.Client, cluster: Cluster, kind: type[Kind]) -> AsyncIterator[Kind]:
    """A run with a connection of its own; cluster and connection are closed afterwards."""
    configuration = client.Configuration()
    await config.load_kube_config(str(plane.kubeconfig), client_configuration=configuration)
    kubernetes = Kubernetes(client.ApiClient(configuration))
    yield kind(plane, api, cluster, kubernetes)
    cluster.close()
    await kubernetes.close()


def create(run: Run, prefill: int | None, decode: int | None, **spec: Any) -> None:
    """A resource m; no number of workers where a scaler says it."""
    manifest = json.loads(inference("m", prefill, decode, **spec))
    answer = run.api.post(kinds.INFERENCE.path(run.cluster.namespace), json=manifest)
    assert answer.status_code == 201, answer.text
