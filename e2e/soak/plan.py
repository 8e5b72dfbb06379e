"""Which fault comes when: drawn from a seed. Pure."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

FIRST_SECONDS = 30.0
"""Before the first fault, so that a run shows what is usual."""
CALM_SECONDS = 900.0
"""That one process of the operator is left alone at the end, so that its memory can be judged."""


class Kind(StrEnum):
    """What goes wrong."""

    OPERATOR_KILL = "operator-kill"
    """kill -9 of the operator, and its pod deleted by force."""
    GATEWAY_DELETE = "gateway-delete"
    """One gateway's pod is deleted."""
    EVICTION = "eviction"
    """One worker is evicted by the API."""
    NODE_DRAIN = "node-drain"
    """`kubectl drain` of one node, gateways included; uncordoned afterwards."""
    ROLLOUT = "rollout"
    """All workers are made anew."""
    PROMETHEUS_RESTART = "prometheus-restart"
    """Its pod is deleted, and all that it knew with it."""
    API_PAUSE = "api-pause"
    """The API server answers nothing for some seconds."""
    ENGINE_KILL = "engine-kill"
    """kill -9 of one engine."""
    BOUNDS = "bounds"
    """The resource gets other bounds."""


@dataclass(frozen=True)
class Trait:
    """What the plan and the count need to know of a kind.

    Attributes:
        weight: how often it is drawn, beside the others.
        usual_seconds: until all is well again, about; the next one is planned that much later.
        ends_operator: whether the operator's process may end by it.
        costs: pattern of the errors of requests that it may cost; "" where it may cost none.
        costs_seconds: how long after its start such a request may end; None: until all is well again.
    """

    weight: int
    usual_seconds: float
    ends_operator: bool = False
    costs: str = ""
    costs_seconds: float | None = None


TRAITS = {
    Kind.OPERATOR_KILL: Trait(2, 30.0, ends_operator=True),
    Kind.GATEWAY_DELETE: Trait(2, 20.0),
    Kind.EVICTION: Trait(3, 25.0),
    Kind.NODE_DRAIN: Trait(1, 45.0),
    Kind.ROLLOUT: Trait(1, 90.0),
    Kind.PROMETHEUS_RESTART: Trait(1, 30.0),
    Kind.API_PAUSE: Trait(1, 40.0, ends_operator=True),
    Kind.ENGINE_KILL: Trait(2, 45.0, costs=r'"error"', costs_seconds=20.0),
    Kind.BOUNDS: Trait(2, 30.0),
}


@dataclass(frozen=True)
class Planned:
    """One fault.

    Attributes:
        at_seconds: after which it begins, since the load began; later where the one before it takes long.
        kind: of it.
        seed: of what it hits.
    """

    at_seconds: float
    kind: Kind
    seed: int


def plan(
    seed: int, minutes: float, *, kinds: Sequence[Kind] = tuple(Kind), settle_seconds: float = 60.0
) -> list[Planned]:
    """The faults of a run, the same for one seed: each kind once in any order, then more by their weights.

    Args:
        seed: of times, order and targets.
        minutes: that the run takes.
        kinds: that may come.
        settle_seconds: from one that is over to the next, at least.
    """
    chance = random.Random(seed)
    once = chance.sample(kinds, len(kinds))
    at, found = FIRST_SECONDS, []
    while fitting := [kind for kind in kinds if fits(kind, at, minutes)]:
        waiting = [kind for kind in once if kind in fitting]
        weights = [TRAITS[kind].weight for kind in fitting]
        kind = waiting[0] if waiting else chance.choices(fitting, weights)[0]
        once = [each for each in once if each is not kind]
        found.append(Planned(round(at, 1), kind, chance.randrange(2**32)))
        at += TRAITS[kind].usual_seconds + settle_seconds + chance.uniform(0.0, settle_seconds / 2)
    return found


def fits(kind: Kind, at_seconds: float, minutes: float) -> bool:
    """Whether a fault that begins then is over in time, and leaves the operator alone for long enough afterwards."""
    over = at_seconds + TRAITS[kind].usual_seconds <= 60 * minutes
    return over and at_seconds <= latest_seconds(kind, minutes)


def latest_seconds(kind: Kind, minutes: float) -> float:
    """When a fault of this kind may begin at the latest, seconds: the second half belongs to one operator.

    In a run that is too short to judge memory it may always.
    """
    end = 60 * minutes
    half_is_long = end / 2 >= CALM_SECONDS
    return end / 2 if TRAITS[kind].ends_operator and half_is_long else end
