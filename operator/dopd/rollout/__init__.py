"""Which pod goes when: scale-down, flip, rebalance, rollout, eviction, replacement as steps from what is there. Pure.

The state lives in the pods: their labels and annotations, what the gateways list, what the engines report. Each pass
looks at all of it and says what to write next, so the operator may die between any two writes.
"""

from dopd.rollout.domains import domain_move
from dopd.rollout.flip import NO_FLIPS, Act, Flips, Turn, next_act
from dopd.rollout.gateways import Gateway, plan_gateways
from dopd.rollout.move import Side, move
from dopd.rollout.paired import PairedStep, paired_move
from dopd.rollout.pool import Goal, PoolStep, pool_step
from dopd.rollout.repair import Door, Repair, repair
from dopd.rollout.worker import Worker, available

__all__ = [
    "NO_FLIPS",
    "Act",
    "Door",
    "Flips",
    "Gateway",
    "Goal",
    "PairedStep",
    "PoolStep",
    "Repair",
    "Side",
    "Turn",
    "Worker",
    "available",
    "domain_move",
    "move",
    "next_act",
    "paired_move",
    "plan_gateways",
    "pool_step",
    "repair",
]
