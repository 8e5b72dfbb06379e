"""From demand to a bounded, explained number of prefill and decode workers. Pure: no I/O and no clock.

The page docs/planning.md derives the formulas; `queueing` and `sizing` hold them, `bounds` limits the answer, `planner`
decides.
"""

from dopd.planning.bounds import Bound
from dopd.planning.decision import Decision, Forecast, Learnt, Observation, Reason, Workers
from dopd.planning.demand import Demand
from dopd.planning.planner import plan
from dopd.planning.policy import Objectives, Policy, Ratio, RoleBounds
from dopd.planning.sizing import Expected, Load, Size, size

__all__ = [
    "Bound",
    "Decision",
    "Demand",
    "Expected",
    "Forecast",
    "Learnt",
    "Load",
    "Objectives",
    "Observation",
    "Policy",
    "Ratio",
    "Reason",
    "RoleBounds",
    "Size",
    "Workers",
    "plan",
    "size",
]
