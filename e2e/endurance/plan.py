"""Which disturbance comes when: shuffled by a seed, each from the numbers of workers that it needs. Pure."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

Pair = tuple[int, int]
"""Prefill and decode workers."""


class Kind(StrEnum):
    """What happens to workers that serve."""

    SCALE_DOWN = "scale-down"
    """Fewer workers of one role or of both."""
    REBALANCE = "rebalance"
    """Workers of one role become as many of the other, with no GPU to spare."""
    FLIP = "flip"
    """Running workers of one role become as many of the other: none is started anew."""
    ROLLOUT = "rollout"
    """All workers are made anew, with no GPU to spare."""
    EVICTION = "eviction"
    """One worker is evicted by the API."""
    NODE_DRAIN = "node-drain"
    """`kubectl drain` of one node, gateways included."""


@dataclass(frozen=True)
class Step:
    """One disturbance.

    Attributes:
        kind: of it.
        start: workers that serve before; the driver scales to them first, which may be growth.
        end: workers that serve afterwards.
    """

    kind: Kind
    start: Pair
    end: Pair


def steps(counts: Mapping[Kind, int], *, gpus: int, seed: int) -> list[Step]:
    """A sequence with so many disturbances of each kind, the same for one seed.

    Args:
        counts: how many of each kind.
        gpus: the budget; every worker has one.
        seed: of the order and the numbers of workers.

    Raises:
        ValueError: fewer GPUs than two workers of each role need.
    """
    if gpus < 4:
        raise ValueError(f"gpus is {gpus}; expected at least 4: two workers of each role")
    chance = random.Random(seed)
    kinds = [kind for kind, count in counts.items() for _ in range(count)]
    chance.shuffle(kinds)
    return [_step(kind, gpus, chance) for kind in kinds]


def _step(kind: Kind, gpus: int, chance: random.Random) -> Step:
    prefill = chance.randint(2, gpus - 2)
    full = (prefill, gpus - prefill)
    if kind is Kind.SCALE_DOWN:
        fewer = [(p, d) for p in range(1, full[0] + 1) for d in range(1, full[1] + 1) if (p, d) != full]
        return Step(kind, full, chance.choice(fewer))
    if kind in (Kind.REBALANCE, Kind.FLIP):
        others = [p for p in range(1, gpus) if p != prefill]
        other = chance.choice(others)
        return Step(kind, full, (other, gpus - other))
    return Step(kind, full, full)
