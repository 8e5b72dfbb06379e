"""Transcripts of pools on their way: a reader sees each step, and a change of behaviour is a change of text.

A small model of the cluster plays the ReplicaSet (pods that are not ready first, then the lowest deletion cost), the
scheduler (as many GPUs as there are), the gateway (lets go of a worker two ticks after its label went) and the engines
(each request of a worker ends a tick after the other). Set DOPD_GOLDEN=write to write the files anew.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dopd.planning.pool import Worker, admit_growth, available, pool_step

GOLDEN = Path(__file__).parent / "golden"
START_TICKS, GATEWAY_TICKS, DEADLINE = 3, 2, 20.0


@dataclass
class Pod:
    name: str
    born: int
    node: bool = False
    labelled: bool = True
    ready_at: int | None = None
    drained_at: int | None = None
    requests: int = 0


@dataclass
class Cluster:
    """Two pools on a number of GPUs, one GPU a worker."""

    gpus: int
    budget: int | None = None
    now: int = 0
    pools: dict[str, list[Pod]] = field(default_factory=lambda: {"P": [], "D": []})
    lines: list[str] = field(default_factory=list)

    def serve(self, prefill: int, decode: int, requests: int) -> None:
        for pool, count in (("P", prefill), ("D", decode)):
            self.pools[pool] = [Pod(f"{pool}{i}", 0, True, ready_at=0, requests=requests + i) for i in range(count)]

    def worker(self, pod: Pod) -> Worker:
        ready = pod.ready_at is not None and pod.ready_at <= self.now
        in_gateway = ready and (pod.labelled or self.now - (pod.drained_at or 0) < GATEWAY_TICKS)
        return Worker(
            pod.name,
            pod.labelled,
            ready,
            pod.node,
            pod.born,
            None if pod.drained_at is None else float(pod.drained_at),
            in_gateway,
            pod.requests == 0 if ready else None,
            pod.requests,
        )

    def tick(self, prefill: int, decode: int) -> None:
        looks = {pool: [self.worker(pod) for pod in pods] for pool, pods in self.pools.items()}
        present = (len(looks["P"]), len(looks["D"]))
        usable = (available(looks["P"]), available(looks["D"]))
        admitted = admit_growth((prefill, decode), usable, present, (1, 1), self.budget)
        said = []
        for pool, target in zip("PD", admitted, strict=True):
            step = pool_step(
                looks[pool], target, rolling=False, now_seconds=float(self.now), drain_deadline_seconds=DEADLINE
            )
            said += [f"label {name} on" for name in step.serve]
            said += [f"label {name} off" for name in step.drain]
            said += [f"release {name}" for name in step.release]
            self.act(pool, step.serve, step.drain, step.replicas)
        state = "  ".join(f"{pool}[{' '.join(map(self.show, pods))}]" for pool, pods in self.pools.items())
        self.lines.append(f"{self.now:3d}  want {prefill}+{decode}  {', '.join(said) or '-'}\n     {state}")
        self.now += 1
        for pod in (pod for pods in self.pools.values() for pod in pods):
            pod.requests = max(0, pod.requests - 1) if not pod.labelled else pod.requests
        self.schedule()

    def act(self, pool: str, serve: tuple[str, ...], drain: tuple[str, ...], replicas: int) -> None:
        pods = self.pools[pool]
        for pod in pods:
            if pod.name in serve:
                pod.labelled, pod.drained_at = True, None
            if pod.name in drain:
                pod.labelled, pod.drained_at = False, self.now
        while len(pods) > replicas:
            pods.remove(min(pods, key=lambda pod: (pod.node, self.worker(pod).ready, pod.labelled, -pod.born)))
        while len(pods) < replicas:
            number = self.now * 10 + len(pods)
            pods.append(Pod(f"{pool}{number}", self.now))

    def schedule(self) -> None:
        pods = [pod for pool in self.pools.values() for pod in pool]
        free = self.gpus - sum(pod.node for pod in pods)
        for pod in pods:
            if not pod.node and free > 0:
                pod.node, pod.ready_at, free = True, self.now + START_TICKS, free - 1

    def show(self, pod: Pod) -> str:
        look = self.worker(pod)
        state = "serving" if look.labelled and look.ready else "starting" if pod.node and pod.labelled else "pending"
        if not pod.labelled:
            state = "draining" if look.registered else "drained"
        return f"{pod.name}:{state}" + (f"({pod.requests})" if pod.requests else "")


def scale_down(cluster: Cluster) -> None:
    cluster.serve(1, 3, requests=2)
    for _ in range(8):
        cluster.tick(1, 1)


def rebalance_within_a_budget(cluster: Cluster) -> None:
    cluster.serve(2, 2, requests=1)
    for _ in range(9):
        cluster.tick(1, 3)


def load_comes_back_while_a_worker_drains(cluster: Cluster) -> None:
    cluster.serve(1, 2, requests=3)
    for _ in range(2):
        cluster.tick(1, 1)
    for _ in range(6):
        cluster.tick(1, 2)


def a_start_that_finds_no_node_is_cancelled(cluster: Cluster) -> None:
    cluster.serve(1, 1, requests=0)
    for _ in range(3):
        cluster.tick(1, 4)
    for _ in range(3):
        cluster.tick(1, 2)


SCENARIOS: list[tuple[Callable[[Cluster], None], Cluster]] = [
    (scale_down, Cluster(gpus=8)),
    (rebalance_within_a_budget, Cluster(gpus=8, budget=4)),
    (load_comes_back_while_a_worker_drains, Cluster(gpus=8)),
    (a_start_that_finds_no_node_is_cancelled, Cluster(gpus=3)),
]


@pytest.mark.parametrize(("scenario", "cluster"), SCENARIOS, ids=[scenario.__name__ for scenario, _ in SCENARIOS])
def test_transcript(scenario: Callable[[Cluster], None], cluster: Cluster):
    scenario(cluster)
    path, text = GOLDEN / f"{scenario.__name__}.txt", "\n".join(cluster.lines) + "\n"
    if os.environ.get("DOPD_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()
