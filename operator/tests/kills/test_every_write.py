"""The operator's process is killed after every single write of every machine: the end is the same, the cap holds, and
no worker is released before it is idle.

The operator is the real one, pass by pass, on an API server in memory. `make test` looks at one write of eight,
`make kills` at each.
"""

import difflib
import os

import pytest

from dopd.api.names import Role
from dopd.cluster import kinds
from dopd.reconcile.queue import Key

from .api import NAMESPACE, MemoryApi, Write
from .scenarios import CAP, SCENARIOS, Scenario, spec
from .world import NAME, World

TICKS = 120
QUIET_PASSES = 6
"""So many passes without a write, and the operator has come to its end."""
STRIDE = 1 if os.environ.get("EVERY_WRITE") else 8
pytestmark = pytest.mark.timeout(600 if STRIDE == 1 else 60)

PROFILE = {
    "model": "m",
    "gpu": "g",
    "gpus": 1,
    "source": {"origin": "Synthetic", "description": "for tests", "date": "2026-11-24"},
    "prefill": {"points": [{"tokens": 1, "seconds": 0.02}, {"tokens": 1024, "seconds": 0.3}], "chunkTokens": 4096},
    "decode": {
        "points": [
            {"batch": 1, "contextTokens": 1024, "itlSeconds": 0.02},
            {"batch": 16, "contextTokens": 1024, "itlSeconds": 0.03},
        ],
        "kvTokens": 200000,
        "maxRunningRequests": 64,
    },
    "transfer": {"baseSeconds": 0.002, "tokensPerSecond": 1000000},
    "startup": {"prefillSeconds": 3, "decodeSeconds": 4},
}


async def to_the_end(world: World) -> None:
    """An operator starts and acts, pass after pass, until it writes nothing any more."""
    operator, quiet = world.operator(), 0
    for _ in range(TICKS):
        before = len(world.api.writes)
        await operator.reconcile(Key(NAMESPACE, NAME))
        world.pass_time()
        quiet = quiet + 1 if len(world.api.writes) == before and world.settled() else 0
        if quiet >= QUIET_PASSES:
            break
    assert not world.violations


async def each_moment(world: World) -> list[World]:
    """The same; returns the world as it was before the first write and after each: what a killed operator leaves."""
    moments = [world.copied()]

    def wrote(write: Write) -> None:
        world.check(write)
        moments.append(world.copied())

    world.api.after_write = wrote
    await to_the_end(world)
    return [*moments[::STRIDE], moments[-1]]


async def begun(scenario: Scenario) -> World:
    """The world of a scenario, before the change."""
    world = World(MemoryApi(), CAP)
    world.api.put(kinds.PROFILE, {"metadata": {"name": "p"}, "spec": PROFILE})
    if scenario.start:
        world.create(**spec(*scenario.start, **(scenario.others or {})))
        await to_the_end(world)
        assert serving(world) == scenario.start
    world.api.writes.clear()
    return world


def serving(world: World) -> tuple[int, ...]:
    return tuple(len(world.pods(role)) for role in Role)


def differences(world: World, scenario: Scenario, whole: str) -> list[str]:
    """What is not as it would be had nobody killed the operator."""
    if serving(world) == scenario.end and world.settled() and world.state() == whole:
        return []
    return list(difflib.unified_diff(whole.splitlines(), world.state().splitlines(), "expected", "found", n=2))


@pytest.mark.parametrize("name", SCENARIOS)
async def test_killed_after_every_write(name: str):
    scenario = SCENARIOS[name]
    await killed_after_every_write(await begun(scenario), scenario)


async def killed_after_every_write(world: World, scenario: Scenario) -> None:
    """The end is the same after whichever write of a change the operator is killed."""
    scenario.change(world)
    moments = await each_moment(world)
    whole = world.state()
    assert serving(world) == scenario.end
    assert world.settled()
    for count, killed in enumerate(moments):
        last = killed.api.writes[-1:]
        await to_the_end(killed)
        assert not differences(killed, scenario, whole), (
            f"killed after {count} of {len(moments) - 1} writes, the last {last}"
        )


@pytest.mark.parametrize("name", ["rollout", "scale-down", "deploy"])
async def test_deleted_after_every_write(name: str):
    """And the operator is killed at that moment, so nobody but garbage collection tidies up."""
    scenario = SCENARIOS[name]
    world = await begun(scenario)
    scenario.change(world)
    for killed in await each_moment(world):
        done = killed.api.writes[:]
        killed.delete()
        await to_the_end(killed)
        left = [at for at in killed.api.objects if at[0] != kinds.PROFILE.kind]
        assert not left, f"deleted after {len(done)} writes, the last {done[-1:]}"
