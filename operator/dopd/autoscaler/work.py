"""Load as work: how many workers of each role a request a second keeps busy."""

from math import floor, log10

from dopd.perf import EngineModel
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives
from dopd.planning.sizing import Load

DIGITS = 3
"""Lengths that agree to so many digits cost the same: a history of weeks has few others."""


class Work:
    """The work of requests on one engine under some objectives.

    Args:
        model: performance of one engine.
        objectives: latency objectives, which limit what a decode worker runs at once.
    """

    def __init__(self, model: EngineModel, objectives: Objectives) -> None:
        self.model, self.objectives = model, objectives
        self._known: dict[Demand, PerRole[float]] = {}

    def of(self, demand: Demand) -> PerRole[float]:
        """Workers that a demand keeps busy, before queueing and rounding."""
        one = self.of_one(demand)
        return one.map(lambda busy: busy * demand.requests_per_second)

    def of_one(self, demand: Demand) -> PerRole[float]:
        """The same for one request a second of these lengths."""
        second = demand.output_tokens_second_moment
        key = Demand(
            1.0,
            _rounded(demand.input_tokens),
            _rounded(demand.input_tokens_second_moment),
            _rounded(demand.output_tokens),
            round(demand.uncached_share, DIGITS),
            None if second is None else _rounded(second),
        )
        if key not in self._known:
            load = Load.of(key, self.model, self.objectives)
            self._known[key] = PerRole(load.prefill.busy_workers, load.decode.busy_workers)
        return self._known[key]


def _rounded(value: float) -> float:
    return round(value, DIGITS - 1 - floor(log10(value))) if value > 0 else 0.0
