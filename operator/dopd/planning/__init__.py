"""From a load to the workers that it needs, within bounds. Pure: no I/O and no clock.

The page docs/planning.md derives the formulas; `queueing` and `sizing` hold them, `bounds` limits the answer.
`dopd.autoscaler` decides which load counts.
"""

from dopd.planning.bounds import Bound
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives, Policy, Ratio, RoleBounds
from dopd.planning.sizing import Expected, Load, Size, size
from dopd.planning.workers import Workers

__all__ = [
    "Bound",
    "Demand",
    "Expected",
    "Load",
    "Objectives",
    "PerRole",
    "Policy",
    "Ratio",
    "RoleBounds",
    "Size",
    "Workers",
    "size",
]
