"""Load as work: how many workers of each role a request a second keeps busy, and how much that varies."""

from dataclasses import dataclass
from math import floor, log10, sqrt

from dopd.perf import EngineModel
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives
from dopd.planning.sizing import Load

DIGITS = 3
"""Lengths that agree to so many digits cost the same: a history of weeks has few others."""


@dataclass(frozen=True)
class RequestWork:
    """The work of requests of some lengths for one role.

    Attributes:
        busy_workers: that one request a second keeps busy, before queueing and rounding.
        squared_cv: variance of the work of a request over its squared mean.
    """

    busy_workers: float
    squared_cv: float

    def noise_share(self, requests: float) -> float:
        """Standard deviation of a load that was measured on so many requests, as a share of the load; 0 for none."""
        return sqrt((1 + self.squared_cv) / requests) if requests else 0.0


class Work:
    """The work of requests on one engine under some objectives.

    Args:
        model: performance of one engine.
        objectives: latency objectives, which limit what a decode worker runs at once.
    """

    def __init__(self, model: EngineModel, objectives: Objectives) -> None:
        self.model, self.objectives = model, objectives
        self._known: dict[Demand, PerRole[RequestWork]] = {}

    def of_request(self, demand: Demand) -> PerRole[RequestWork]:
        """The work of a request of the demand's lengths."""
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
            self._known[key] = PerRole(
                RequestWork(load.prefill.busy_workers, load.prefill.squared_cv),
                RequestWork(load.decode.busy_workers, key.output_tokens_squared_cv),
            )
        return self._known[key]


def _rounded(value: float) -> float:
    return round(value, DIGITS - 1 - floor(log10(value))) if value > 0 else 0.0
