"""What a disturbance does to the cluster, by kind: one entry each."""

import random
from collections.abc import Callable

from e2e.cluster.errors import ClusterError
from e2e.endurance.field import ROLES, Field
from e2e.endurance.plan import Kind, Step

DRAIN_SECONDS = 170
REFUSED_SECONDS = 60.0


def _scaled(field: Field, step: Step, _: random.Random) -> set[str]:
    field.scale(step.end)
    return set()


def _rolled_out(field: Field, _: Step, __: random.Random) -> set[str]:
    before = field.uids()
    field.new_revision()
    return before


def _evicted(field: Field, _: Step, chance: random.Random) -> set[str]:
    pod = chance.choice(field.pods(chance.choice(ROLES)))
    name = pod["metadata"]["name"]

    def accepted() -> bool:
        try:
            field.stack.evict(name)
        except ClusterError as error:
            if "disruption budget" not in str(error):
                raise
            return False
        return True

    field.until(accepted, f"the eviction of {name} is let through", REFUSED_SECONDS)
    return {pod["metadata"]["uid"]}


def _node_drained(field: Field, _: Step, chance: random.Random) -> set[str]:
    node = chance.choice(sorted({pod["spec"]["nodeName"] for pod in field.pods()}))
    there = {pod["metadata"]["uid"] for pod in field.pods() if pod["spec"]["nodeName"] == node}
    pods = f"--pod-selector=dopd.dev/instance={field.name}"
    options = ("--ignore-daemonsets", "--delete-emptydir-data", pods, f"--timeout={DRAIN_SECONDS}s")
    try:
        field.stack.kubectl("drain", node, *options, timeout_seconds=DRAIN_SECONDS + 10.0)
    finally:
        field.stack.kubectl("uncordon", node)
    return there


MOVES: dict[Kind, Callable[[Field, Step, random.Random], set[str]]] = {
    Kind.SCALE_DOWN: _scaled,
    Kind.REBALANCE: _scaled,
    Kind.FLIP: _scaled,
    Kind.ROLLOUT: _rolled_out,
    Kind.EVICTION: _evicted,
    Kind.NODE_DRAIN: _node_drained,
}
"""Begins a disturbance; returns the uids of the workers that must be gone when it is over."""
