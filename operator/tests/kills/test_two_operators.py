"""Two operators act on one resource at once, each from a look that the other makes old.

It is a mistake, and does no harm: the end is that of one operator, the cap holds, no worker is released before it is
idle, and each role serves throughout.
"""

import asyncio
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.reconcile.queue import Key

from .api import NAMESPACE, Json, MemoryApi
from .scenarios import CAP, SCENARIOS, Scenario, spec
from .test_every_write import PROFILE, QUIET_PASSES, serving, to_the_end
from .world import NAME, World

MOST_TICKS = 300


class Interleaved(MemoryApi):
    """One that answers a list, and lets the other operator look before the one that asked can act."""

    async def list(self, *arguments: Any, **options: Any) -> list[Json]:
        found = await super().list(*arguments, **options)
        await asyncio.sleep(0)
        return found


@pytest.mark.parametrize("name", ["deploy", "scale-up", "scale-down", "rebalance", "rollout", "eviction"])
async def test_two_operators_at_once_end_where_one_does(name: str):
    scenario: Scenario = SCENARIOS[name]
    world = World(Interleaved(), CAP)
    world.api.put(kinds.PROFILE, {"metadata": {"name": "p"}, "spec": PROFILE})
    if scenario.start:
        world.create(**spec(*scenario.start, **(scenario.others or {})))
        await to_the_end(world)
    scenario.change(world)
    operators, quiet = (world.operator(), world.operator()), 0
    while quiet < QUIET_PASSES and world.tick < MOST_TICKS:
        before = len(world.api.writes)
        await asyncio.gather(*(operator.reconcile(Key(NAMESPACE, NAME)) for operator in operators))
        world.pass_time()
        quiet = quiet + 1 if len(world.api.writes) == before and world.settled() else 0
        assert not scenario.start or all(any(world.listed(pod) for pod in world.pods(role)) for role in Role)
        assert "NameTaken" not in str(world.api.objects[kinds.INFERENCE.kind, NAME].get("status"))
    assert not world.violations
    assert serving(world) == scenario.end
    assert world.settled()
