"""What is soaked: a resource that the planner sizes, on simulated engines so slow that the day needs all of them."""

import copy
from typing import Any

import yaml

from e2e.endurance.engines import Engines
from e2e.endurance.field import ROLES, Field
from e2e.stack import Stack
from e2e.tests import resources

Json = dict[str, Any]
NAME = "soak"
GPUS = 7
GATEWAYS = 2
BOUNDS = ({"min": 2, "max": 4}, {"min": 2, "max": 4})
"""Of prefill and decode. Two at least: the last worker of a role is never let go by an eviction or a drain."""
OTHER_BOUNDS = (
    BOUNDS,
    ({"min": 2, "max": 3}, {"min": 2, "max": 4}),
    ({"min": 2, "max": 4}, {"min": 2, "max": 3}),
    ({"min": 3, "max": 4}, {"min": 2, "max": 3}),
    ({"min": 2, "max": 3}, {"min": 3, "max": 4}),
)
"""What a change of bounds chooses from."""
HISTORY_SECONDS = 300
"""That the forecaster reads: memory grows until it has that much, and no longer."""
_CORRECTION = 0.5
"""Of the demo's engine: with it the greatest rate of the day needs about four prefill and three decode workers."""


def resource(name: str) -> Json:
    """The resource, in mode Auto with real bounds; workers change their role in no case."""
    return resources.auto(
        name,
        slo={"ttftSeconds": 1.0, "itlSeconds": 0.024},
        scaling__prefill=BOUNDS[0],
        scaling__decode=BOUNDS[1],
        scaling__gpuBudget={"max": GPUS},
        scaling__forecast={"bin": "2s", "history": f"{HISTORY_SECONDS}s"},
    )


def profile_objects() -> list[Json]:
    """The demo's profile for slower engines, and the ConfigMap that the engines read it from."""
    profile, config = copy.deepcopy(resources.profile_objects())
    profile["spec"]["correction"] = _CORRECTION
    config["data"]["profile.yaml"] = yaml.safe_dump(profile)
    return [profile, config]


ENGINES = Engines(
    model=resources.MODEL,
    resource=resource,
    put=lambda stack: stack.apply(*profile_objects()),
    prompt_tokens=(400, 2000),
    answer_tokens=(20, 500),
    settle_seconds=240.0,
)


def ground_on(stack: Stack) -> Field:
    """The resource on a cluster, with the fewest workers of its bounds serving."""
    ground = Field(
        stack,
        NAME,
        gpus=GPUS,
        gateways=GATEWAYS,
        engines=ENGINES,
        scaling__behavior__scaleDownStabilization="20s",
    )
    ground.create((BOUNDS[0]["min"], BOUNDS[1]["min"]))
    set_bounds(ground, BOUNDS)
    return ground


def set_bounds(ground: Field, bounds: tuple[Json, Json]) -> None:
    """Let the planner choose within these bounds of prefill and decode."""
    ground.change(**{f"scaling__{role}": of for role, of in zip(ROLES, bounds, strict=True)})
