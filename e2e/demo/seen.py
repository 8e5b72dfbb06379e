"""What can be seen of a resource at one moment: in its status, its pods, and the operator's metrics. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dopd.api.names import POOL_LABEL, Role

Json = dict[str, Any]

DEMAND = "dopd_demand_requests_per_second"
FORECAST = "dopd_planned_requests_per_second"
LEAD = "dopd_lead_seconds"


@dataclass(frozen=True)
class Workers:
    """Workers of one role at one moment."""

    desired: int
    ready: int
    starting: int
    draining: int

    @classmethod
    def of(cls, status: Json) -> "Workers":
        """Read `status.prefill` or `status.decode`."""
        return cls(status["desired"], status["ready"], status.get("starting", 0), status.get("draining", 0))

    @property
    def present(self) -> int:
        """Workers that the operator counts, in whatever state."""
        return self.ready + self.starting + self.draining


@dataclass(frozen=True)
class Load:
    """The load as the operator sees it, requests per second of the clock.

    Attributes:
        demand: now; None while it is not known.
        forecast: planned for: the greatest load expected until a decision of now takes effect; None before the first.
        lead_seconds: from a start to a worker that serves, by role, as measured.
    """

    demand: float | None = None
    forecast: float | None = None
    lead_seconds: Mapping[Role, float] = field(default_factory=dict)

    @classmethod
    def query(cls, name: str) -> str:
        """The PromQL of a resource's load."""
        return f'{{__name__=~"{DEMAND}|{FORECAST}|{LEAD}",inference="{name}"}}'

    @classmethod
    def of(cls, answer: Sequence[Json]) -> "Load":
        """Read Prometheus' answer to `query`."""
        demand: float | None = None
        forecasts: list[float] = []
        leads: dict[Role, float] = {}
        for series in answer:
            labels, value = series["metric"], float(series["value"][1])
            if value != value:  # the operator's way of saying unknown
                continue
            if labels["__name__"] == DEMAND:
                demand = value
            elif labels["__name__"] == LEAD:
                leads[Role(labels["role"])] = value
            else:
                forecasts.append(value)
        return cls(demand, max(forecasts, default=None), leads)


@dataclass(frozen=True)
class Sample:
    """One look.

    Attributes:
        at_seconds: since the load began.
        prefill: prefill workers.
        decode: decode workers.
        gpus: held by pods, until they are gone.
        load: as the operator sees it.
    """

    at_seconds: float
    prefill: Workers
    decode: Workers
    gpus: int
    load: Load = Load()


@dataclass(frozen=True)
class SeenDecision:
    """A change of the target.

    Attributes:
        at_seconds: when it was first seen, since the load began; a second late at most.
        before: workers before, prefill+decode.
        to: workers after, prefill+decode.
        reason: why, in one word.
        message: why, with the numbers.
    """

    at_seconds: float
    before: str
    to: str
    reason: str
    message: str

    @property
    def target(self) -> tuple[int, int]:
        """Prefill and decode workers decided on."""
        prefill, decode = map(int, self.to.split("+"))
        return prefill, decode


def held_gpus(pods: Sequence[Json], gpus_of_worker: Mapping[Role, int]) -> int:
    """GPUs of all workers that have a node, those that are being deleted included."""
    pools = [pod["metadata"]["labels"].get(POOL_LABEL) for pod in pods if pod["spec"].get("nodeName")]
    return sum(gpus_of_worker[Role(pool)] for pool in pools if pool in tuple(Role))
