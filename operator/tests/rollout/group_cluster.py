"""The small cluster with workers of several nodes, which come one by one: two halves can wait for each other."""

from dataclasses import dataclass, field, replace

from dopd.api.names import Role
from dopd.rollout import Side, Worker

from .cluster import START_TICKS, Cluster, Pod, Want

NODES = 2


@dataclass
class GroupCluster(Cluster):
    """Prefill workers of two nodes with a GPU each; the scheduler gives a node to each in turn.

    Attributes:
        found: nodes that a worker has, by name.
        back: when a worker was given back last; the next one is tried after the same time, as the operator does it.
    """

    found: dict[str, int] = field(default_factory=dict)
    back: int | None = None

    def worker(self, pod: Pod) -> Worker:
        one, found = super().worker(pod), self.found.get(pod.name, 0)
        return replace(one, partial=pod.gpus > 1 and 0 < found < pod.gpus)

    def sides(self, want: Want) -> dict[Role, Side]:
        sides = super().sides(want)
        prefill = sides[Role.PREFILL]
        rested = self.back is None or self.now - self.back >= want.pending_deadline
        sides[Role.PREFILL] = replace(prefill, gpus=NODES, goal=replace(prefill.goal, may_start=rested))
        return sides

    def tick(self, want: Want, writes: int | None = None) -> int:
        if any(step.give_back for step in self.decided(want).values()):
            self.back = self.now
        return super().tick(want, writes)

    def start(self, pool: str, revision: str) -> None:
        super().start(pool, revision)
        self.pools[pool][-1].gpus = NODES if pool == "P" else 1

    def pass_time(self) -> None:
        gpus, self.gpus = self.gpus, 0  # its own scheduler finds nothing
        super().pass_time()
        self.gpus = gpus
        there = {pod.name for pod in self.pods}
        self.found = {name: count for name, count in self.found.items() if name in there}
        waiting = [pod for pod in self.pods if not pod.node and pod.deleted_at is None]
        for _ in range(NODES):
            for pod in waiting:
                if self.found.get(pod.name, 0) < pod.gpus and sum(self.found.values()) < self.gpus:
                    self.found[pod.name] = self.found.get(pod.name, 0) + 1
        for pod in waiting:
            if self.found.get(pod.name, 0) == pod.gpus:
                pod.node, pod.ready_at = True, self.now + START_TICKS

    def show(self, pod: Pod) -> str:
        half = f"/{self.found.get(pod.name, 0)} of {pod.gpus} nodes" if not pod.node else ""
        return super().show(pod) + half
