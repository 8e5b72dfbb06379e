"""Which engines the workers of a run are: simulated ones for the mass, real SGLang for the same sequence in small."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from e2e.cluster.images import SGLANG
from e2e.sglang.tests.cluster import resource as real
from e2e.stack import Stack
from e2e.tests import resources as simulated

Json = dict[str, Any]


@dataclass(frozen=True)
class Engines:
    """What a resource of such engines is made from, and what they can bear.

    Attributes:
        model: the name that clients ask for.
        resource: makes a resource in mode Auto, from its name.
        put: puts what it needs on the cluster.
        prompt_tokens: shortest and longest prompt of the load.
        answer_tokens: shortest and longest answer.
        settle_seconds: in which a move of all workers must be over.
    """

    model: str
    resource: Callable[[str], Json]
    put: Callable[[Stack], object]
    prompt_tokens: tuple[int, int]
    answer_tokens: tuple[int, int]
    settle_seconds: float


SIMULATED = Engines(
    model=simulated.MODEL,
    resource=simulated.auto,
    put=lambda stack: stack.apply(*simulated.profile_objects()),
    prompt_tokens=(50, 800),
    answer_tokens=(20, 500),
    settle_seconds=180.0,
)


def _real_resource(name: str) -> Json:
    made = copy.deepcopy(real.resource(SGLANG.reference))
    made["metadata"]["name"] = name
    return made


REAL = Engines(
    model=real.MODEL,
    resource=_real_resource,
    put=real.put,
    prompt_tokens=(16, 128),
    answer_tokens=(16, 96),
    settle_seconds=900.0,  # each engine takes seconds of all cores to import torch; several start at once
)

ENGINES = {"simulated": SIMULATED, "sglang": REAL}
