"""The same with workers of several nodes: killed after every write, groups of pods go and come as one worker each.

The prefill workers are on two nodes, one GPU each; numbers of pods, so, are twice those of prefill workers.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from dopd.api.names import Role
from dopd.cluster import kinds

from .api import MemoryApi
from .groups import GroupWorld
from .scenarios import Scenario, bounds
from .scenarios import spec as spec_of_pods
from .test_every_write import PROFILE, STRIDE, killed_after_every_write, serving, to_the_end
from .world import NAME, World

CAP = 6
pytestmark = pytest.mark.timeout(600 if STRIDE == 1 else 60)


def limits(prefill: int, decode: int) -> dict[str, Any]:
    return {**bounds(prefill, decode), "gpuBudget": {"max": CAP}}


def spec(prefill: int, decode: int, nodes: int = 2, **others: Any) -> dict[str, Any]:
    of_role = {"prefill": {"gpus": nodes, "nodes": nodes}, "scaling": limits(prefill, decode)}
    return {**spec_of_pods(prefill, decode), **of_role, **others}


def scaled(prefill: int, decode: int) -> Callable[[World], None]:
    return lambda world: world.change(scaling=limits(prefill, decode))


def member_ends(world: World) -> None:
    assert isinstance(world, GroupWorld)
    world.end_container(Role.PREFILL, leader=False)


def leader_ends_in_a_drain(world: World) -> None:
    assert isinstance(world, GroupWorld)
    scaled(1, 1)(world)
    world.end_container(Role.PREFILL, leader=True)


def onto_one_node(world: World) -> None:
    world.change(prefill={"gpus": 1, "nodes": 1})


SCENARIOS: dict[str, Scenario] = {
    "deploy": Scenario(None, lambda world: world.create(**spec(2, 1)), (4, 1)),
    "scale-up": Scenario((1, 1), scaled(2, 2), (4, 2)),
    "scale-down": Scenario((2, 2), scaled(1, 1), (2, 1)),
    "rebalance": Scenario((2, 2), scaled(1, 4), (2, 4)),
    "back": Scenario((1, 4), scaled(2, 1), (4, 1)),
    "rollout": Scenario((2, 2), lambda world: world.change(engine={"image": "engine:2"}), (4, 2)),
    "a member that ends": Scenario((2, 2), member_ends, (4, 2)),
    "a leader that ends in a drain": Scenario((2, 2), leader_ends_in_a_drain, (2, 1)),
    "an eviction": Scenario((2, 1), lambda world: world.evict(Role.PREFILL), (4, 1)),
    "onto one node": Scenario((2, 2), onto_one_node, (2, 2)),
    "deletion": Scenario((2, 2), World.delete, (0, 0)),
}


async def begun(scenario: Scenario) -> GroupWorld:
    """The world of a scenario, before the change."""
    world = GroupWorld(MemoryApi(), CAP)
    world.api.put(kinds.PROFILE, {"metadata": {"name": "p"}, "spec": PROFILE})
    if scenario.start:
        prefill, decode = scenario.start
        world.create(**spec(prefill, decode))
        await to_the_end(world)
        assert serving(world) == (2 * prefill, decode)
        assert len(world.sets()) == prefill
    world.api.writes.clear()
    return world


@pytest.mark.parametrize("name", SCENARIOS)
async def test_killed_after_every_write(name: str):
    scenario = replace(SCENARIOS[name])
    world = await begun(scenario)
    await killed_after_every_write(world, scenario)


async def test_at_rest_no_worker_is_written_to():
    world = await begun(Scenario((2, 1), World.delete, (4, 1)))
    await to_the_end(world)  # a new operator applies each other child once
    assert not [write for write in world.api.writes if write[1] in (kinds.POD.kind, kinds.LEADER_WORKER_SET.kind)]


async def test_a_member_that_ends_takes_its_group_along_and_no_other():
    world = await begun(Scenario((2, 1), member_ends, (4, 1)))
    before = {pod["metadata"]["uid"]: pod["metadata"]["labels"] for pod in world.pods(Role.PREFILL)}
    member_ends(world)
    await to_the_end(world)
    after = {pod["metadata"]["uid"] for pod in world.pods(Role.PREFILL)}
    gone = [labels for uid, labels in before.items() if uid not in after]
    assert len(gone) == 2
    assert len({labels["leaderworkerset.sigs.k8s.io/name"] for labels in gone}) == 1
    assert len(after) == 4
    status = world.api.objects[kinds.INFERENCE.kind, NAME]["status"]
    assert (status["prefill"]["ready"], status["gpus"]) == (2, 5)
