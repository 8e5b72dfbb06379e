"""Load as work: how many workers of each role a request a second keeps busy, and how much that varies."""

from dataclasses import dataclass
from math import floor, log10, sqrt

from dopd.perf import EngineModel
from dopd.planning.demand import Demand
from dopd.planning.per_role import PerRole
from dopd.planning.policy import Objectives
from dopd.planning.queueing import DecodeLoad
from dopd.planning.sizing import Load

DIGITS = 3
"""Lengths that agree to so many digits cost the same: a history of weeks has few others."""


@dataclass(frozen=True)
class RequestWork:
    """The work of requests of some lengths for one role.

    Attributes:
        busy_workers: that one request a second keeps busy, before queueing and rounding.
        squared_cv: variance of the work of a request over its squared mean.
        drain_seconds: what a worker that is given no more may take until it is idle, where nobody measured it.
    """

    busy_workers: float
    squared_cv: float
    drain_seconds: float = 0.0

    def noise_share(self, requests: float) -> float:
        """Standard deviation of a load that was measured on so many requests, as a share of the load; 0 for none."""
        return sqrt((1 + self.squared_cv) / requests) if requests else 0.0


def of_both(work: PerRole[RequestWork]) -> RequestWork:
    """The work of a request for both roles together, whose lengths of prompt and answer tell nothing of each other."""
    busy = sum(role.busy_workers for role in work)
    variance = sum(role.squared_cv * role.busy_workers**2 for role in work)
    return RequestWork(busy, variance / busy**2 if busy**2 else 0.0)


def _last_answer_seconds(load: DecodeLoad, squared_cv: float) -> float:
    """Until the last of the answers that a full worker runs has ended.

    An answer that is met while it runs has (1 + c^2) / 2 of the mean left, and of n whose rests are exponential the
    last ends after 1 + 1/2 + ... + 1/n times that.
    """
    batch = load.batch_limit
    rest_seconds = load.steps * load.step_seconds(batch) * (1 + squared_cv) / 2
    return rest_seconds * sum(1 / n for n in range(1, batch + 1))


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
            cv = key.output_tokens_squared_cv
            self._known[key] = PerRole(
                RequestWork(load.prefill.busy_workers, load.prefill.squared_cv, load.feasible.ttft_seconds),
                RequestWork(load.decode.busy_workers, cv, _last_answer_seconds(load.decode, cv)),
            )
        return self._known[key]


def _rounded(value: float) -> float:
    return round(value, DIGITS - 1 - floor(log10(value))) if value > 0 else 0.0
