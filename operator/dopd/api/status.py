"""What the operator reports on a DisaggregatedInference. Written by the operator alone, read by people and by Argo CD.

Live numbers (load, latency) belong to metrics. Status holds what changes rarely, so that a cluster at rest sees
no writes.
"""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Model


class ConditionType(StrEnum):
    """Conditions of a DisaggregatedInference. All are set by the reconciler, on every pass."""

    READY = "Ready"
    """True: the gateway answers and knows at least one prefill and one decode worker, so a request is served.
    False: the reason names the first thing in the way and the message its remedy."""

    SPEC_HONORED = "SpecHonored"
    """False: the spec holds a field that this version accepts and does not act on yet; the message lists them."""

    WORKERS_AVAILABLE = "WorkersAvailable"
    """True: every worker that should serve does. False: some start, drain or can not run; the message says what."""

    METRICS_AVAILABLE = "MetricsAvailable"
    """Only with spec.scaling. False: a query failed, so the last target is held; the message holds the query."""

    FORECAST_TRUSTED = "ForecastTrusted"
    """Only with spec.scaling. False: the plan rests on the observed load, since history is short or the forecast was
    worse than the last value."""

    PROFILE_FOUND = "ProfileFound"
    """Only with spec.scaling. False: spec.scaling.profileRef names no usable EngineProfile; the last target is held."""

    BUDGET_LIMITED = "BudgetLimited"
    """Only with spec.scaling. True: a bound (max, ratio, GPU budget) keeps the target below what the load needs."""

    ROUTER_IN_SYNC = "RouterInSync"
    """False: the workers that every gateway pod lists differ from those that should serve."""


class ConditionReason(StrEnum):
    """Why a condition has its status. Closed, so that alerts can match it."""

    AS_EXPECTED = "AsExpected"
    INVALID_SPEC = "InvalidSpec"
    NOT_ACTED_ON = "NotActedOn"
    STARTING = "Starting"
    UNSCHEDULABLE = "Unschedulable"
    IMAGE_PULL = "ImagePull"
    CRASHING = "Crashing"
    CONFIG = "ContainerConfig"
    PORT_TAKEN = "PortTaken"
    CHILD_REFUSED = "ChildRefused"
    NAME_TAKEN = "NameTaken"
    ROUTER_UNAVAILABLE = "RouterUnavailable"
    NO_PREFILL = "NoPrefillWorker"
    NO_DECODE = "NoDecodeWorker"
    NOT_REGISTERED = "NotRegistered"
    ROUTER_UNREACHABLE = "RouterUnreachable"
    QUERY_FAILED = "QueryFailed"
    NO_PROMETHEUS = "NoPrometheus"
    NO_PROFILE = "NoProfile"
    INVALID_PROFILE = "InvalidProfile"
    SHORT_HISTORY = "ShortHistory"
    WORSE_THAN_LAST_VALUE = "WorseThanLastValue"
    STALE_HISTORY = "StaleHistory"
    BANDS_MISS = "BandsMiss"
    LIMITED = "Limited"
    PAUSED = "Paused"
    ADVISORY = "Advisory"
    DRAINING = "Draining"


class ConditionStatus(StrEnum):
    """Kubernetes' three values."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(Model):
    """One aspect of the resource's state (metav1.Condition)."""

    type: Annotated[str, Field(max_length=316)]
    """Aspect."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, Field(max_length=1024)]
    """Why, in one word."""
    message: Annotated[str, Field(max_length=32768)] = ""
    """Why, for people, with the remedy."""
    last_transition_time: str
    """When status last changed (RFC 3339)."""
    observed_generation: int = 0
    """Generation of the spec that this was computed from."""


class RoleStatus(Model):
    """Workers of one role."""

    desired: int
    """Target of the last decision, or spec replicas."""
    ready: int
    """Workers that serve."""
    starting: int = 0
    """Workers that do not serve yet."""
    draining: int = 0
    """Workers that get nothing new and finish what they run."""
    summary: str
    """desired/ready, for kubectl get."""


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
    mode: str | None = None
    """Auto, Advise, Paused, or Static without spec.scaling."""
    endpoint: str | None = None
    """URL of the gateway inside the cluster (OpenAI-compatible)."""
    decisions: Annotated[list[DecisionStatus], Field(max_length=10)] = []
    """Last ten changes of the target, newest first."""
