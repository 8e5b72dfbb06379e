"""Sleep and wake with the real gateway: what its clients get, from the last worker to the first."""

import time
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from dopd.reconcile.reconciler import Reconciler
from e2e.cluster.controlplane import ControlPlane

from ..reconcile.test_scaling import Loads
from .real_gateway import LOOK_SECONDS, Client, Machine
from .runs import GPUS, Run, running
from .test_zero import create_sleeper

pytestmark = pytest.mark.timeout(300)
FASTER = 4.0
"""Seconds of the operator in one: SMG takes five to let a worker go, whoever waits."""
PASSES = 500


class Hastened(Run):
    """A run whose clock is fast, and in which Prometheus knows of no request."""

    def restart(self) -> None:
        began = datetime.now(UTC)
        start = time.monotonic()

        def monotonic() -> float:
            return FASTER * (time.monotonic() - start)

        self._reconciler = Reconciler(
            self._kubernetes,
            self.cluster,  # type: ignore[arg-type]
            prometheus_url="http://prometheus",
            now=lambda: began + timedelta(seconds=monotonic()),
            monotonic=monotonic,
            loads=Loads([0.0]),  # type: ignore[arg-type]
        )

    def look_at_gateways(self) -> None:
        time.sleep(LOOK_SECONDS)


async def test_clients_of_a_sleeper_get_whole_answers_or_503_with_retry_after(
    plane: ControlPlane, api: httpx.Client, crds: None, namespace: str
):
    machine = Machine(api, namespace, GPUS, plane.kubeconfig)
    async with running(plane, api, machine, Hastened) as run, aclosing(machine):
        create_sleeper(api, namespace, after="1m")
        await run.until("one of each serves", lambda: run.settled(1, 1), PASSES)
        assert machine.empty == "404 model_not_found", "a gateway that knows of nobody; else no stand-in is needed"
        await run.until("both have gone", lambda: not machine.workers(), PASSES)
        await run.until("it says so", lambda: run.condition("Ready")["reason"] == "Asleep", PASSES)
        with Client(machine.url) as client:
            await run.until("one of each serves again", lambda: run.settled(1, 1), PASSES)
            await run.until("a request is served", lambda: client.answers[-1:] == ["whole"], PASSES)
            served = len(client.answers)
            await run.until("more are", lambda: len(client.answers) >= served + 10, PASSES)
        assert run.resource["status"]["decisions"][0]["reason"] == "FirstRequest"
        first = client.answers.index("whole")
        assert first > 0
        assert set(client.answers[:first]) == {"503, come again"}
        assert set(client.answers[first:]) == {"whole"}
