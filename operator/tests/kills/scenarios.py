"""What happens to a resource: one entry each. A change is of the resource, or what somebody else does to its pods."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from dopd.api.names import Role

from .world import World

CAP = 5
BOTH = {"prefill": {"min": 1, "max": 4}, "decode": {"min": 1, "max": 4}}


def bounds(prefill: int, decode: int) -> dict[str, Any]:
    """spec.scaling that leaves the planner no choice."""
    return {
        "prefill": {"min": prefill, "max": prefill},
        "decode": {"min": decode, "max": decode},
        "gpuBudget": {"max": CAP},
        "profileRef": {"name": "p"},
        "behavior": {"interval": "5s", "scaleDownStabilization": "1s", "drainDeadline": "10m"},
    }


def spec(prefill: int, decode: int, **others: Any) -> dict[str, Any]:
    """The resource at first."""
    return {
        "model": "m",
        "engine": {"image": "engine:1", "args": []},
        "prefill": {"gpus": 1},
        "decode": {"gpus": 1},
        "router": {"image": "smg", "replicas": 1},
        "scaling": bounds(prefill, decode),
        **others,
    }


@dataclass(frozen=True)
class Scenario:
    """One machine of the operator.

    Attributes:
        start: workers that serve at first; None: the resource is not there yet.
        change: what happens.
        end: workers that serve in the end.
        others: fields of the spec beside the usual.
    """

    start: tuple[int, int] | None
    change: Callable[[World], None]
    end: tuple[int, int]
    others: dict[str, Any] | None = None


def _scaled(prefill: int, decode: int) -> Callable[[World], None]:
    return lambda world: world.change(scaling=bounds(prefill, decode))


def _rolled(world: World) -> None:
    world.change(engine={"image": "engine:2"})


def _rolled_and_scaled(world: World) -> None:
    _rolled(world)
    _scaled(3, 1)(world)


def _made_again(world: World) -> None:
    world.delete()
    world.create(**spec(1, 2))


SCENARIOS: dict[str, Scenario] = {
    "deploy": Scenario(None, lambda world: world.create(**spec(2, 2)), (2, 2)),
    "scale-up": Scenario((1, 1), _scaled(2, 3), (2, 3)),
    "scale-down": Scenario((2, 3), _scaled(1, 1), (1, 1)),
    "rebalance": Scenario((3, 2), _scaled(1, 4), (1, 4)),
    "rollout": Scenario((2, 3), _rolled, (2, 3)),
    "rollout of single workers": Scenario((1, 1), _rolled, (1, 1)),
    "rollout with an outage, every GPU in use": Scenario((1, 4), _rolled, (1, 4), {"rollout": {"allowOutage": True}}),
    "rollout while it scales": Scenario((2, 3), _rolled_and_scaled, (3, 1)),
    "rollout that is rolled back": Scenario(
        (2, 3),
        lambda world: world.change(engine={"args": ["--broken"]}),
        (2, 3),
        {"rollout": {"onFailure": "RollBack"}},
    ),
    "eviction": Scenario((2, 3), lambda world: world.evict(Role.DECODE), (2, 3)),
    "a worker that its node ended": Scenario((2, 3), lambda world: world.fail(Role.PREFILL), (2, 3)),
    "a prefill engine that began anew": Scenario(
        (2, 3), lambda world: world.end_engine(Role.PREFILL, noticed=True), (2, 3)
    ),
    "a prefill engine that decode holds for the one before": Scenario(
        (2, 3), lambda world: world.end_engine(Role.PREFILL, noticed=False), (2, 3)
    ),
    "deletion and creation": Scenario((2, 2), _made_again, (1, 2)),
    "deletion": Scenario((2, 3), World.delete, (0, 0)),
}
