"""Rules that SMG 1.13.0 lacks, or has for one gateway only, in the replay: what would they be worth?"""

import random
from typing import Any

import numpy as np
from gateway_load import Floats, Load

from dopd.api.names import Role
from dopd.replay.cluster import Cluster
from dopd.replay.workers import PrefillWorker, Worker


class ByLength(Cluster):
    """A worker for each range of lengths, all of equal work: the idea of SMG's bucket, with lengths known before."""

    def __init__(self, load: Load, *args: Any) -> None:
        super().__init__(*args)
        tokens = np.sort(load.trace.input_tokens)
        work = np.cumsum(load.work_seconds(tokens))
        shares = np.arange(1, load.workers) / load.workers
        self._bounds = tokens[np.searchsorted(work, shares * work[-1])]
        self._draw = random.Random(load.seed)

    def _pick_prefill(self, request: int) -> Worker:
        # A length that fills several ranges, as a constant one does, goes to any of their workers.
        first = np.searchsorted(self._bounds, self._inputs[request], "left")
        last = np.searchsorted(self._bounds, self._inputs[request], "right")
        return self.serving[Role.PREFILL][self._draw.randint(int(first), int(last))]


class Strangers(Cluster):
    """Several gateways, each of which knows only what it has sent itself and is not prefilled yet."""

    def __init__(self, load: Load, gateways: int, by_tokens: bool, *args: Any) -> None:
        super().__init__(*args)
        self._by_tokens = by_tokens
        self._sent = [dict.fromkeys(self.serving[Role.PREFILL], 0) for _ in range(gateways)]
        self._of: dict[int, dict[Worker, int]] = {}
        self._draw = random.Random(load.seed)

    def _weight(self, request: int) -> int:
        return self._inputs[request] if self._by_tokens else 1

    def _pick_prefill(self, request: int) -> Worker:
        sent = self._of[request] = self._draw.choice(self._sent)
        chosen = min(sent, key=lambda worker: (sent[worker], self._draw.random()))
        sent[chosen] += self._weight(request)
        return chosen

    def _pass_done(self, worker: PrefillWorker) -> None:
        for request in worker.batch:
            self._of.pop(request)[worker] -= self._weight(request)
        super()._pass_done(worker)


def rules(load: Load, order: str, gateways: int) -> dict[str, Floats]:
    """TTFT of each request under each of them, seconds."""
    settings = load.cluster(order)
    clusters: dict[str, Cluster] = {"by length": ByLength(load, *settings)}
    if gateways > 1:
        clusters[f"least_requests, {gateways} gateways"] = Strangers(load, gateways, False, *settings)
        clusters[f"least_work, {gateways} gateways"] = Strangers(load, gateways, True, *settings)
    for cluster in clusters.values():
        cluster.run()
    return {name: np.array(cluster.ttft_seconds) for name, cluster in clusters.items()}
