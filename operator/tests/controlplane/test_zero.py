"""Zero and back on a real API server: the endpoints that clients reach while no worker runs."""

import asyncio
import io
import json
from contextlib import redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from dopd.api.names import ROUTER_METRICS_PORT
from dopd.cli.main import main
from dopd.cluster import kinds
from dopd.reconcile.reconciler import Reconciler
from e2e.cluster.controlplane import ControlPlane

from ..kills.test_every_write import PROFILE
from ..reconcile.test_scaling import Loads
from .cluster import Cluster
from .resources import eventually, inference
from .runs import GPUS, Run, running

Json = dict[str, Any]
PASS_SECONDS = 10.0
SCALING = {
    "prefill": {"min": 1, "max": 2},
    "decode": {"min": 1, "max": 2},
    "gpuBudget": {"max": GPUS},
    "profileRef": {"name": "p"},
    "behavior": {"interval": "5s", "scaleDownStabilization": "1s"},
}
pytestmark = pytest.mark.timeout(120)


class Counting(Cluster):
    """A cluster whose gateways have counted some requests."""

    counted = 3

    async def write_json(self, *_: Any) -> tuple[int, Any]:
        return 202, {}

    async def get_text(self, pod: Json, port: int, path: str) -> str:
        return f"smg_router_requests_total {self.counted}\n" if port == ROUTER_METRICS_PORT else ""


class Quiet(Run):
    """A run in which ten seconds go by between two passes, and Prometheus knows of no request."""

    def restart(self) -> None:
        self.seconds = 0.0
        began = datetime.now(UTC)

        def now() -> datetime:
            return began + timedelta(seconds=self.monotonic())

        self._reconciler = Reconciler(
            self._kubernetes,
            self.cluster,  # type: ignore[arg-type]
            prometheus_url="http://prometheus",
            now=now,
            monotonic=self.monotonic,
            loads=Loads([0.0]),  # type: ignore[arg-type]
        )

    def monotonic(self) -> float:
        return self.seconds

    def look_at_gateways(self) -> None:
        self.seconds += PASS_SECONDS
        super().look_at_gateways()

    def reached(self) -> list[bool]:
        """Whether clients reach each gateway, as the cluster's own controller says."""
        path = f"/apis/discovery.k8s.io/v1/namespaces/{self.cluster.namespace}/endpointslices"
        slices = self.api.get(path, params={"labelSelector": "kubernetes.io/service-name=m-router"}).json()["items"]
        return [bool(one["conditions"]["ready"]) for found in slices for one in found.get("endpoints") or []]

    def publishes_unready(self) -> bool:
        """Whether the Service leads to gateways that are not ready."""
        service = self.api.get(f"/api/v1/namespaces/{self.cluster.namespace}/services/m-router").json()
        return bool(service["spec"].get("publishNotReadyAddresses"))


async def said(plane: ControlPlane, command: str, namespace: str) -> str:
    """What a command says of resource m, in a thread: it runs a loop of its own."""
    arguments = [command, "m", "--namespace", namespace, "--kubeconfig", str(plane.kubeconfig)]
    out = io.StringIO()
    with redirect_stdout(out):
        assert await asyncio.to_thread(main, arguments) == 0
    return out.getvalue()


def create_sleeper(api: httpx.Client, namespace: str, after: str = "2m") -> None:
    """The resource m, which falls asleep after so long, and its profile."""
    profile = {"apiVersion": kinds.PROFILE.api_version, "kind": kinds.PROFILE.kind, "metadata": {"name": "p"}}
    manifest = json.loads(inference("m", scaling={**SCALING, "idle": {"after": after}}))
    for role in ("prefill", "decode"):
        del manifest["spec"][role]["replicas"]
    for kind, thing in ((kinds.PROFILE, {**profile, "spec": PROFILE}), (kinds.INFERENCE, manifest)):
        answer = api.post(kind.path(namespace), json=thing)
        assert answer.status_code == 201, answer.text


async def test_clients_reach_the_gateway_at_zero_and_the_first_request_brings_both_roles_back(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str
):
    async with running(plane, api, Counting(api, namespace, GPUS), Quiet) as run:
        create_sleeper(api, namespace)
        await run.until("one of each serves", lambda: run.settled(1, 1))
        await run.until("nobody asks", lambda: not run.cluster.workers())
        await run.until("it says so", lambda: run.condition("Ready")["reason"] == "Asleep")
        for command in ("status", "explain"):
            assert "asleep" in await said(plane, command, namespace)
        assert run.cluster.gateways() == [], "the gateway is not ready: it has no workers"
        eventually(lambda: run.reached() == [True], "and clients reach it all the same")
        columns = plane.kubectl("get", "pdi", "m", f"--namespace={namespace}").splitlines()[1].split()
        assert columns[:6] == ["m", "0/0", "0/0", "0:0", "Auto", "True"]
        run.cluster.counted += 1  # type: ignore[attr-defined]
        await run.until("one of each serves again", lambda: run.settled(1, 1))
        assert run.resource["status"]["decisions"][0]["reason"] == "FirstRequest"
        await run.until("it is ready", lambda: run.condition("Ready")["reason"] == "AsExpected")
        assert not run.publishes_unready()
        eventually(lambda: run.reached() == [True], "by its readiness")
