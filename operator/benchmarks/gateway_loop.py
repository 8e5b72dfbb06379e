"""The real gateway in the loop of the replay: SMG chooses the prefill worker, all else is simulated.

SMG knows one stub for each simulated worker. When a prompt arrives in simulated time, it is sent through SMG, and the
stub that gets it is the choice; the stub answers once the simulated worker has prefilled it, so that SMG counts what
is in flight as it would, and reports the simulated queue where SMG asks for it. No time is measured, so a busy machine
falsifies nothing but SMG's own intervals: simulated time runs at most so fast beside SMG's clock, and stands while the
machine does not keep up.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gateway_load import Floats, Load
from gateway_stubs import Gateways

from dopd.api.names import Role
from dopd.replay.cluster import Cluster
from dopd.replay.workers import PrefillWorker, Worker

CATCH_UP_SECONDS = 0.1
"""Simulated time makes up for this much that it was late; what is more is a machine that stood still."""


class Looped(Cluster):
    """The replay's cluster, whose prefill workers a real gateway chooses."""

    def __init__(self, gateways: Gateways, speed: float, *args: Any) -> None:
        super().__init__(*args)
        self._gateways, self._speed = gateways, speed
        self._serving = list(self.serving[Role.PREFILL])
        gateways.workers = self._serving  # type: ignore[assignment]
        self._simulated, self._real = 0.0, time.monotonic()

    def _keep_pace(self) -> None:
        due = self._real + (self.now - self._simulated) / self._speed
        now = time.monotonic()
        if due > now:
            time.sleep(due - now)
        self._real, self._simulated = max(due, now - CATCH_UP_SECONDS), self.now

    def _arrive(self, request: int) -> None:
        self._keep_pace()
        super()._arrive(request)

    def _pick_prefill(self, request: int) -> Worker:
        return self._serving[self._gateways.choose(request)]

    def _pass_done(self, worker: PrefillWorker) -> None:
        self._keep_pace()
        completed = list(worker.batch)
        super()._pass_done(worker)
        self._gateways.finish(completed)


@dataclass(frozen=True)
class Run:
    """A load that is played through the real gateway.

    Attributes:
        speed: most seconds of simulated time in a second of SMG's clock.
    """

    smg: Path
    flags: list[str]
    gateways: int
    load: Load
    order: str
    speed: float

    def __call__(self) -> tuple[Floats, float]:
        """TTFT of each request, seconds, and simulated seconds in a second of SMG's clock."""
        with Gateways(self.smg, self.flags, self.gateways, self.load) as gateways:
            began = time.monotonic()
            cluster = Looped(gateways, self.speed, *self.load.cluster(self.order))
            cluster.run()
            return np.array(cluster.ttft_seconds), cluster.now / (time.monotonic() - began)
