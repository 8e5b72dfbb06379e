"""What the operator reports on a DisaggregatedInference. Written by the operator alone, read by people and by Argo CD.

Live numbers (load, latency) belong to metrics. Status holds what changes rarely, so that a cluster at rest sees
no writes.
"""

import copy
from typing import Annotated, Any

from pydantic import Field, ValidationError

from dopd.api.base import Model
from dopd.api.conditions import ConditionStatus

LONGEST_MESSAGE = 32768
"""Characters of a condition's message (metav1.Condition)."""


class Condition(Model):
    """One aspect of the resource's state (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Aspect."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=LONGEST_MESSAGE)] = ""
    """Why, for people, with the remedy."""
    last_transition_time: str
    """When status last changed (RFC 3339)."""
    observed_generation: int = 0
    """Generation of the spec that this was computed from."""


class LeadStatus(Model):
    """How long a decision takes to have an effect: P90 of the newest twenty measurements of each part."""

    node_seconds: float
    """From a pod to its node."""
    start_seconds: float
    """From the node to a worker that is ready; the profile's figure until three have started."""
    registration_seconds: float
    """Until a gateway lists it."""
    exit_seconds: float | None = None
    """From the drain of a worker until it is gone; absent until one has gone."""
    drain_seconds: float | None = None
    """From the drain of a worker until it is idle and in no gateway's list; absent until one was seen to be."""


class RoleStatus(Model):
    """Workers of one role."""

    desired: int
    """Target of the last decision, or spec replicas."""
    ready: int
    """Workers that serve."""
    starting: int = 0
    """Workers that do not serve yet."""
    changing: int = 0
    """Of these, workers that change to this role from the other one."""
    draining: int = 0
    """Workers that get nothing new and finish what they run."""
    updated: int = 0
    """Workers that serve and are of the current revision."""
    revision: str = ""
    """Names what workers are made from now: their label dopd.dev/revision."""
    rejected_revision: str | None = None
    """The revision of the spec, where its workers did not come up and were rolled back."""
    lead_time: LeadStatus | None = None
    """How long until a new worker serves, and until one that is drained is gone."""
    summary: str
    """desired/ready, for kubectl get."""


class DomainRoleStatus(Model):
    """Workers of one role in one domain."""

    desired: int
    """Workers that should serve there."""
    ready: int
    """Workers that serve there."""


class DomainStatus(Model):
    """Workers of one KV-transfer domain."""

    name: str
    """Value of the label of its nodes; empty of workers that were started before there was a list of domains."""
    prefill: DomainRoleStatus
    """Its prefill workers."""
    decode: DomainRoleStatus
    """Its decode workers."""


class RatioStatus(Model):
    """Prefill to decode workers."""

    desired: str
    """Of the target, such as 1:3."""
    current: str
    """Of the workers that serve."""


class Load(Model):
    """Load of the model at one time."""

    requests_per_second: float
    """Arrival rate."""
    input_tokens: float
    """Mean prompt length, tokens."""
    output_tokens: float
    """Mean generation length, tokens."""


class LoadStatus(Model):
    """The load as planned with. Rewritten when something in it moved by a tenth, so that a calm resource is not."""

    time: str
    """When it was read (RFC 3339)."""
    demand: Load
    """Load as observed."""
    prefill: Load
    """The greatest load expected of the prefill workers until a decision of now takes effect, which they are planned
    for."""
    decode: Load
    """The same of the decode workers."""


class RolePlanStatus(Model):
    """How the number of one role's workers came about, in workers that each load needs."""

    now: int
    """For what arrives now."""
    peak: int
    """For the greatest load until a decision of now takes effect."""
    backlog: int = 0
    """For what waits in the engines; 0 if nothing does."""
    held: int
    """The most that was needed lately: a worker is given up only after that."""
    decided_by: str
    """Which of these decided: Now, Grown, Forecast, Backlog, Held, or Bound for a bound of the spec."""
    lead_seconds: float
    """How long until a decision of now takes effect."""
    busy_now: float
    """Workers that the load of now keeps busy, before queueing and rounding."""
    busy_peak: float
    """Workers that the greatest load keeps busy."""
    correction: float = 1.0
    """Factor on the times of the profile, as the engines that run were measured."""


class LengthsStatus(Model):
    """How lengths spread, beside the means of the load."""

    input_cv: float
    """Standard deviation of the prompt length over its mean."""
    output_cv: float
    """Standard deviation of the generation length over its mean."""
    uncached_share: float
    """Share of prompt tokens that the prefix cache does not hold."""


class AttainmentStatus(Model):
    """Share of requests within both latency objectives."""

    objective: float
    """As spec.slo asks."""
    expected: float | None = None
    """On the target, under the load that is planned for; absent where a role has no worker."""
    observed: float | None = None
    """Of recent requests; absent while no request tells it."""
    summary: str
    """expected/objective in percent, for kubectl get."""


class PlanStatus(Model):
    """The plan behind the target. Written together with the load, and when the target changes."""

    time: str
    """When it was made (RFC 3339)."""
    target: str
    """Workers, prefill+decode."""
    prefill: RolePlanStatus
    """Loads that were weighed for the prefill workers."""
    decode: RolePlanStatus
    """The same for the decode workers."""
    limited_by: list[str] = []
    """Bounds that changed the answer, in the order in which they were applied."""
    attainment: AttainmentStatus
    """Share of requests on time, expected and observed."""
    ttft_seconds: float | None = None
    """Mean time to first token that is expected on the target; absent where the queue would grow without end."""
    itl_seconds: float | None = None
    """Mean inter-token latency that is expected on the target."""
    lengths: LengthsStatus
    """How lengths spread."""
    on_time_first: bool = False
    """The prefill workers are known to compute prompts in the order OnTimeFirst."""


class DecisionStatus(Model):
    """One change of the target and why."""

    time: str
    """When it was decided (RFC 3339)."""
    from_: Annotated[str, Field(alias="from")]
    """Workers before, prefill+decode."""
    to: str
    """Workers after, prefill+decode."""
    reason: str
    """Why, in one word."""
    message: str
    """Why, with the numbers."""
    limited_by: list[str] = []
    """Bounds that changed the answer, in the order in which they were applied."""
    demand: Load | None = None
    """Load that was planned for."""
    summary: str = ""
    """Change and reason in short, for kubectl get."""


class WorkerPair(Model):
    """Workers of both roles."""

    prefill: int = 0
    """Prefill workers."""
    decode: int = 0
    """Decode workers."""


class GrantStatus(Model):
    """What the GpuPool gave, as it was last read: it holds while the pool can not be read."""

    name: str
    """The GpuPool."""
    wanted: WorkerPair
    """Workers that were asked for."""
    share: WorkerPair
    """Workers that there are to be."""
    types: Annotated[list[str], Field(max_length=2)] = []
    """Types of the GPUs of a prefill and of a decode worker, as the pool calls them."""
    granted: Annotated[dict[str, int], Field(json_schema_extra={"maxProperties": 2})] = {}
    """GPUs by type that the pods may hold."""


class DisaggregatedInferenceStatus(Model):
    """State as the operator sees it."""

    observed_generation: int = 0
    """Generation of the spec that this status was computed from."""
    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Aspects of the state; documented one by one in the reference."""
    prefill: RoleStatus | None = None
    """Prefill workers."""
    decode: RoleStatus | None = None
    """Decode workers."""
    ratio: RatioStatus | None = None
    """Prefill to decode workers."""
    domains: Annotated[list[DomainStatus], Field(max_length=64)] | None = None
    """Workers by domain, where spec.topology lists domains."""
    mode: str | None = None
    """Auto, Advise, Paused, or Static without spec.scaling."""
    endpoint: str | None = None
    """URL of the gateway inside the cluster (OpenAI-compatible)."""
    load: LoadStatus | None = None
    """Load as observed and as forecast."""
    plan: PlanStatus | None = None
    """Why the target is what it is: `dopd explain` reads it. While both roles are at zero (reason Asleep), why it was
    what it was before."""
    gpus: int | None = None
    """GPUs of the workers that are there, whatever they do."""
    gpu_pool: GrantStatus | None = None
    """What the GpuPool gave, with spec.gpuPool."""
    miss_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """How much is dared: the share of lead times in which the load may exceed what is held. Late requests lower it at
    once, calm raises it slowly. A restarted operator goes on from it; written when it moves by a tenth."""
    decisions: Annotated[list[DecisionStatus], Field(max_length=10)] = []
    """Last ten changes of the target, newest first."""


def read_status(stored: Any) -> DisaggregatedInferenceStatus:
    """What can be read of a stored status, which another version may have written; the rest is left out.

    Args:
        stored: JSON of no great depth.
    """
    readable = given = stored if isinstance(stored, dict) else {}
    while True:
        try:
            status = DisaggregatedInferenceStatus.model_validate(readable)
            break
        except ValidationError as error:
            if readable is given:
                readable = copy.deepcopy(given)
            faults = {path for problem in error.errors() for path in _faults(problem)}
            for path in sorted(faults, key=_in_order, reverse=True):  # later items of a list first
                _leave_out(readable, path)
    first = {condition.type: condition for condition in reversed(status.conditions)}
    return status.model_copy(update={"conditions": [c for c in status.conditions if first[c.type] is c]})


_Path = tuple[int | str, ...]


def _faults(problem: Any) -> list[_Path]:
    """What to leave out for one of pydantic's errors: the part itself, what misses a part, the end of a long list."""
    path: _Path = problem["loc"]
    if problem["type"] == "too_long":
        return [(*path, index) for index in range(problem["ctx"]["max_length"], problem["ctx"]["actual_length"])]
    return [path[:-1] if problem["type"] == "missing" else path]


def _in_order(path: _Path) -> list[str]:
    return [f"{part:09d}" if isinstance(part, int) else part for part in path]


def _leave_out(node: Any, path: _Path) -> None:
    *parents, last = path
    for part in parents:
        node = node[part] if _holds(node, part) else None
    if _holds(node, last):
        del node[last]


def _holds(node: Any, part: int | str) -> bool:
    if isinstance(node, list):
        return isinstance(part, int) and part < len(node)
    return isinstance(node, dict) and part in node
