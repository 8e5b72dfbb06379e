"""The operator is killed at every single write of every machine: the end is the same, the cap held, none lost."""

from collections.abc import Callable

import pytest

from .cluster import DEADLINE, Cluster, Want
from .flipping import FlippingCluster

BUDGET = 5
TICKS = 60


def scenarios() -> dict[str, tuple[Callable[[Cluster], None], list[Want]]]:
    """What there is at first, and what is asked for one after the other, ten ticks each."""
    return {
        "scale-down": (lambda c: c.serve(2, 3, requests=2), [Want(1, 1)]),
        "scale-up": (lambda c: c.serve(1, 1), [Want(2, 3)]),
        "rebalance": (lambda c: c.serve(3, 2, requests=1), [Want(2, 3)]),
        "rebalance that is superseded": (lambda c: c.serve(3, 2, requests=4), [Want(1, 4), Want(3, 2)]),
        "rollout": (lambda c: c.serve(2, 3, requests=2), [Want(2, 3, "b")]),
        "rollout of single workers": (lambda c: c.serve(1, 1, requests=2), [Want(1, 1, "b", surge=1)]),
        "rollout that is superseded": (lambda c: c.serve(2, 3), [Want(2, 3, "b"), Want(2, 3, "c")]),
        "rollout while it scales": (lambda c: c.serve(2, 2, requests=1), [Want(2, 2, "b"), Want(1, 3, "b")]),
        "eviction": (evicted, [Want(2, 3)]),
    }


FLIPS: dict[str, tuple[Callable[[Cluster], None], list[Want]]] = {
    "flip": (lambda c: c.serve(1, 3, requests=2), [Want(2, 2)]),
    "flips there and back": (lambda c: c.serve(1, 3, requests=1), [Want(3, 1), Want(1, 3)]),
    "flip that is superseded": (lambda c: c.serve(1, 4, requests=9), [Want(3, 2), Want(1, 4)]),
    "flip and start": (lambda c: c.serve(1, 3), [Want(3, 2)]),
}


def evicted(cluster: Cluster) -> None:
    cluster.serve(2, 3, requests=2)
    cluster.delete(cluster.pools["D"][1])


def played(name: str, kill_at: int | None) -> tuple[Cluster, int]:
    """A scenario with one kill, at the write of that number; returns the number of writes too."""
    begin, wants = (scenarios() | FLIPS)[name]
    cluster, sent = (FlippingCluster if name in FLIPS else Cluster)(gpus=BUDGET, budget=BUDGET), 0
    begin(cluster)
    for tick in range(TICKS):
        want = wants[min(tick // 10, len(wants) - 1)]
        left = None if kill_at is None or kill_at < sent else kill_at - sent
        served = {pod.name: pod.requests for pod in cluster.pods if pod.requests and pod.deleted_at is None}
        sent += cluster.tick(want, left)
        assert cluster.held() <= BUDGET, "\n".join(cluster.lines[-3:])
        for pod in cluster.pods:
            drained = cluster.now - (pod.drained_at if pod.drained_at is not None else cluster.now)
            ours = pod.deleted_at == cluster.now - 1 and pod.name in served
            assert not ours or drained > DEADLINE, f"{pod.name} was deleted at work"
    return cluster, sent


@pytest.mark.parametrize("name", scenarios() | FLIPS)
def test_killed_at_every_write(name: str):
    whole, writes = played(name, None)
    last = (scenarios() | FLIPS)[name][1][-1]
    assert writes > 0
    assert whole.settled(last), "\n".join(whole.lines[-4:])
    for write in range(writes):
        cluster, _ = played(name, write)
        assert cluster.settled(last), f"killed at write {write}\n" + "\n".join(cluster.lines)
