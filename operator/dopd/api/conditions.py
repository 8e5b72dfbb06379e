"""The conditions that the operator reports, and their reasons. Closed: docs, metrics and Events use them."""

from collections.abc import Mapping
from enum import StrEnum


class ConditionType(StrEnum):
    """Conditions of a DisaggregatedInference.

    The reconciler of the acting operator sets them all, on every pass: when anything around the resource changes, and
    once a minute. While no operator acts they stay as they were. A condition that does not apply is absent.
    """

    READY = "Ready"
    """True: the gateway answers and knows at least one prefill and one decode worker, so a request is served; or, with
    reason Asleep, no worker runs since spec.scaling.idle wants it so.
    False: the reason names the first thing in the way and the message its remedy. Always present."""

    SPEC_HONORED = "SpecHonored"
    """True: all of the spec is acted on. False: the spec asks for what this cluster has not the means for (workers on
    several nodes without LeaderWorkerSets); the message says what. Present while the spec can be read."""

    WORKERS_AVAILABLE = "WorkersAvailable"
    """True: every worker that should serve does. False: some start, drain or can not run; the message says what.
    Requests may be served all the same. Present while the spec can be read."""

    ROLLED_OUT = "RolledOut"
    """True: every worker is made from what the spec says. False: some are not yet; the message counts them, and the
    reason tells whether the rollout moves. Present while the spec can be read."""

    ROUTER_IN_SYNC = "RouterInSync"
    """True: every gateway pod lists exactly the workers that should serve. False: it lists others, which passes within
    seconds after a change. Unknown: a gateway pod did not answer. Present while the spec can be read."""

    TOPOLOGY_HONORED = "TopologyHonored"
    """True: prefill and decode workers that share requests are within one domain of spec.topology. False: a worker
    finds no place there, or is yet to move there; the message says which. Absent without spec.topology."""

    SCHEDULING_ACTIVE = "SchedulingActive"
    """True: the prefill workers compute prompts in the order that spec.scheduling asks for, by dopd's plugin or by the
    engine's own best policy. False: they do not, and serve all the same; the message names worker and cause. Unknown:
    none has told yet. Absent with policy EngineDefault."""

    RECONCILED = "Reconciled"
    """True: the last pass of the operator did all that it meant to. False: a part of it failed, and the rest was done;
    the message names each part, which is tried again with growing pauses. Always present."""

    PROFILE_FOUND = "ProfileFound"
    """True: each role has an EngineProfile that can be planned with, by its own profileRef or by that of spec.scaling.
    False: one has not; the last target is held. Present in the modes Auto and Advise."""

    PROFILE_MATCHES = "ProfileMatches"
    """True: the profiles are of the workers that they plan for, as far as that is known: GPUs of a worker, model, type
    of GPU. False: they are of others, so the plan may be wrong by a factor; it is acted on all the same. Present in the
    modes Auto and Advise once a profile is found."""

    METRICS_AVAILABLE = "MetricsAvailable"
    """True: Prometheus answered every query of the last plan. False: a query failed, so the last target is held; the
    message holds the query. Present in the modes Auto and Advise once a profile is found."""

    FORECAST_TRUSTED = "ForecastTrusted"
    """True: the plan rests on the forecast. False: it rests on the load as observed, since history is short or the
    forecast was worse than the last value. Present in the modes Auto and Advise once a profile is found."""

    GPUS_GRANTED = "GpusGranted"
    """True: the GpuPool grants the GPUs of all workers that are wanted. False: it grants fewer, for now or for good;
    the message says who has them. Present with spec.gpuPool."""

    BUDGET_LIMITED = "BudgetLimited"
    """True: a bound (max, ratio, GPU budget, GpuPool) keeps the target below what the load needs. False: none does.
    Present in the modes Auto and Advise once a profile is found."""


class ConditionReason(StrEnum):
    """Why a condition has its status. Closed, so that alerts can match it."""

    AS_EXPECTED = "AsExpected"
    """All is well."""

    ASLEEP = "Asleep"
    """No request came for as long as spec.scaling.idle says, so no worker runs: as the spec wants it. The next request
    is answered with 503 and Retry-After, and starts workers."""

    INVALID_SPEC = "InvalidSpec"
    """The stored spec can not be read, since it was stored under the schema of another version. Apply it anew."""

    NOT_ACTED_ON = "NotActedOn"
    """A field is without effect here, for want of what the message names. Install that, or remove the field."""

    STARTING = "Starting"
    """Workers or gateways are starting, and nothing is known to be wrong. Wait."""

    DRAINING = "Draining"
    """Workers finish their last requests before they leave. Wait; spec.scaling.behavior.drainDeadline bounds it."""

    CHANGING_ROLE = "ChangingRole"
    """Workers change from one role to the other. Wait some seconds; Events of the resource tell of trouble."""

    ROLLING_OUT = "RollingOut"
    """Workers are being replaced, one after the other. Wait."""

    ROLLOUT_HELD = "RolloutHeld"
    """New workers do not come up, so no further old one leaves. Correct the spec, or what the workers need; the message
    names them and what is wrong. spec.rollout.onFailure RollBack would have gone back."""

    ROLLED_BACK = "RolledBack"
    """New workers did not come up, and the workers are those of the revision before. Correct the spec."""

    NO_SPARE_GPU = "NoSpareGpu"
    """There are no GPUs for the first new worker of a role beside the old ones that must serve, so nothing is replaced.
    Raise spec.scaling.gpuBudget.max or free GPUs, raise spec.rollout.maxUnavailable of a role, or set
    spec.rollout.allowOutage. The message says which of these helps."""

    ROLLOUT_OUTAGE = "RolloutOutage"
    """The last old workers leave before their successors serve, since there are no GPUs beside them, and
    spec.rollout.allowOutage accepts it. Requests fail until a prefill and a decode worker of the new revision serve.
    Wait."""

    ADOPTING = "Adopting"
    """Workers that a Deployment of an earlier version made are being taken over. Wait."""

    DOMAIN_FULL = "DomainFull"
    """A domain has no room for a worker that should be in it. Free GPUs in it, raise its gpus, list another one in
    spec.topology.domains, or set spec.topology.policy to Preferred."""
    PARTIAL_GROUP = "PartialGroup"
    """A worker of several nodes has not all of its pods yet. Wait; if it lasts, look at the controller of
    LeaderWorkerSets, which makes them. After spec.rollout.pendingDeadline it is given back."""

    UNSCHEDULABLE = "Unschedulable"
    """A pod fits no node. Free or add nodes with the GPUs that a worker requests, or lower the number of workers."""

    QUEUED = "Queued"
    """A queue, such as Kueue's, has not let a pod in. It counts in the budget and keeps its place until it is; it is
    cancelled if it is not wanted any more. Look at the queue that the pod is in."""

    IMAGE_PULL = "ImagePull"
    """An image can not be pulled. Correct its name, or spec.engine.imagePullSecrets."""

    CRASHING = "Crashing"
    """A container ends again and again. Read its log: the message holds the command."""

    CONFIG = "ContainerConfig"
    """A container can not be created, mostly for want of a Secret, a ConfigMap or a volume. Create what is missing."""

    PORT_TAKEN = "PortTaken"
    """spec.router.service.nodePort belongs to another Service. Choose another, or leave it out."""

    SPEC_REFUSED = "SpecRefused"
    """A part of the spec can not become a pod, such as a template that says a variable twice. Correct the field that
    the message names; what ran before goes on."""

    CHILD_REFUSED = "ChildRefused"
    """The API server refuses a child or its pods (quota, admission policy, a fault in a template). Do what the message
    says."""

    NO_LEADER_WORKER_SETS = "LeaderWorkerSetsMissing"
    """spec.prefill.nodes or spec.decode.nodes is above 1, and the cluster has no LeaderWorkerSets
    (leaderworkerset.x-k8s.io/v1). Install them, or set nodes to 1; what ran before goes on."""
    QUOTA_EXCEEDED = "QuotaExceeded"
    """A ResourceQuota of the namespace has no room for a further pod; what there is serves on. Raise the quota that the
    message names, or lower max or gpuBudget.max, so that plans stay within it."""

    NAME_TAKEN = "NameTaken"
    """An object of a child's name exists and belongs to someone else. Delete or rename it, or rename the resource."""

    API_FAILED = "ApiServerFailed"
    """The API server did not answer in time, with an error of its own, or refused what the operator needs for its work.
    Wait; if it lasts, look at the API server and at the operator's rights."""

    PASS_FAILED = "PassFailed"
    """The operator met an error that it does not know. Read its log, and report it."""

    ROUTER_UNAVAILABLE = "RouterUnavailable"
    """There is no gateway pod yet. Wait; if it lasts, look at the Deployment of the gateway."""

    NO_PREFILL = "NoPrefillWorker"
    """There is no prefill worker yet. Wait; if it lasts, look at condition Reconciled."""

    NO_DECODE = "NoDecodeWorker"
    """There is no decode worker yet. Wait; if it lasts, look at condition Reconciled."""

    NOT_REGISTERED = "NotRegistered"
    """A gateway and the workers that should serve do not agree yet. Wait: after 10 s it is RouterOutOfSync."""

    ROUTER_OUT_OF_SYNC = "RouterOutOfSync"
    """A gateway has listed other workers than those that should serve for longer than a change takes: it lost an event,
    can not reach a worker, or somebody writes to its control plane. The operator replaces it by one that reads the pods
    anew; to do it at once, delete the gateway's pod that is named. If it stays, read its log: the gateway can not reach
    the worker."""

    API_KEY_UNREADABLE = "ApiKeyUnreadable"
    """The operator can not read the key of spec.apiKey, so neither gateways nor engines answer it. Create the Secret,
    or let the operator read it: chart value apiKeySecrets."""

    ROUTER_UNREACHABLE = "RouterUnreachable"
    """The operator can not reach a gateway pod. Look for a NetworkPolicy between them."""

    PLUGIN_ORDERS = "PluginOrders"
    """dopd's plugin orders the prompts on every prefill worker that answers. All is well."""

    ENGINE_POLICY = "EnginePolicy"
    """The image has no plugin of dopd, and SGLang's own shortest-prefill-first orders the prompts. Use an image with
    the plugin, if objectives, late prompts or several unfinished prompts matter."""

    ENGINE_ORDER = "EngineOrder"
    """The image has no plugin of dopd, and the engine's own order is left as it is. The message says why; use an image
    with the plugin or a tag that names SGLang's version, or set spec.scheduling.policy to EngineDefault."""

    FALLBACK = "Fallback"
    """The plugin met an error or an SGLang that it does not know, and gave the order back to the engine. Read the log
    of the worker that the message names."""

    OLD_SETTINGS = "OldSettings"
    """A worker still orders by the policy before. Wait a minute; the kubelet brings the settings."""

    NOT_SEEN = "NotSeen"
    """No prefill worker has told its order. Wait until one is ready; if it lasts, look for a NetworkPolicy between the
    operator and the workers."""

    NO_PROFILE = "NoProfile"
    """There is no EngineProfile of that name, or it can not be planned with. Apply it, or correct the name."""

    OTHER_WORKERS = "OtherWorkers"
    """The profile is of another model, of another number or type of GPUs. Measure or estimate one of these workers, or
    name another profile."""

    NO_PROMETHEUS = "NoPrometheus"
    """Nobody said where the load is read. Set spec.telemetry.prometheusURL or the chart's prometheusURL."""

    QUERY_FAILED = "QueryFailed"
    """Prometheus did not answer in time, or with an error. Try the query of the message; see Telemetry."""

    NOT_SCRAPED = "NotScraped"
    """Prometheus has no recent samples of the gateway. Scrape its pods, often enough; see Telemetry."""

    NO_SERIES = "NoSeries"
    """One side counts requests and the other has no series to tell of them: engines that the gateway sends to, or the
    gateway itself. Try the query of the message; after a start it passes with the first requests that finish."""

    NOT_A_NUMBER = "NotANumber"
    """Prometheus answered with NaN or an infinity where a rate should be. Look at what rewrites the series."""

    DUPLICATE_SERIES = "DuplicateSeries"
    """Each request would be counted more than once. Scrape each pod once, or deduplicate (Thanos: dedup=true)."""

    CLOCK_SKEW = "ClockSkew"
    """The clocks of the operator and of Prometheus differ, so neither's times can be used. Set them by NTP."""

    METRICS_UNAVAILABLE = "MetricsUnavailable"
    """The load could not be read, so there is nothing to judge; see MetricsAvailable."""

    FORECAST_PENDING = "ForecastPending"
    """The forecast is being made from the history, which takes a second for each resource after the operator started;
    or it can not be made, and the message says why. Wait; if it lasts, look at the operator's log and memory."""

    SHORT_HISTORY = "ShortHistory"
    """There is too little history to judge the forecast. Wait."""

    STALE_HISTORY = "StaleHistory"
    """The newest sample is too old to forecast from. Look at what Prometheus scrapes."""

    WORSE_THAN_LAST_VALUE = "WorseThanLastValue"
    """The forecast was no better than the last value of late. Nothing to do: it is trusted again when it is."""

    BANDS_MISS = "BandsMiss"
    """The load left the forecast's bands more often than they promise. Nothing to do: they widen."""

    LIMITED = "Limited"
    """A bound of spec.scaling is lower than the load needs. Raise it, or accept the latency."""

    POOL_LIMITED = "PoolLimited"
    """The GpuPool gives fewer GPUs than are wanted: others come first, or its max is reached. Wait, or ask the admin of
    the pool for a guarantee, a priority or more GPUs; the message names who has them."""

    HAND_OVER = "HandOver"
    """The GPUs are given, and others drain them still. Wait; spec.scaling.behavior.drainDeadline of theirs bounds
    it."""

    NO_POOL = "NoPool"
    """There is no GpuPool of that name, or it can not be read. What was granted last holds. Apply it, or correct
    spec.gpuPool.name."""

    NOT_A_MEMBER = "NotAMember"
    """No entry of the GpuPool is about this namespace or this resource, so it gets no GPU beyond those that it has. Ask
    the admin of the pool for one."""

    OTHER_GPU_TYPE = "OtherGpuType"
    """Workers ask for GPUs that the GpuPool has not, so it gives none. Correct gpuResource or the nodeSelector in the
    template of the role, or name another pool; the message says what is asked for."""


class PoolReason(StrEnum):
    """Why condition Satisfied of a GpuPool has its status."""

    AS_EXPECTED = "AsExpected"
    """Every member has what it wants."""

    DENIED = "Denied"
    """Some members get fewer GPUs than they want; the message says which, how many, and who has them. Nothing to do
    where priorities and guarantees are meant; else change them, or raise gpus."""

    OVER_CAP = "OverCap"
    """Members hold more GPUs than gpus says: it was lowered, or they came with more. They drain, those of the lowest
    priority first. Wait; if it lasts, look at what drains."""


_PODS = (
    ConditionReason.PARTIAL_GROUP,
    ConditionReason.UNSCHEDULABLE,
    ConditionReason.QUEUED,
    ConditionReason.IMAGE_PULL,
    ConditionReason.CONFIG,
    ConditionReason.CRASHING,
)
_CHILDREN = (
    ConditionReason.SPEC_REFUSED,
    ConditionReason.CHILD_REFUSED,
    ConditionReason.NO_LEADER_WORKER_SETS,
    ConditionReason.QUOTA_EXCEEDED,
    ConditionReason.NAME_TAKEN,
    ConditionReason.PORT_TAKEN,
)

REASONS: Mapping[ConditionType, tuple[ConditionReason, ...]] = {
    ConditionType.READY: (
        ConditionReason.ASLEEP,
        ConditionReason.INVALID_SPEC,
        *_CHILDREN,
        *_PODS,
        ConditionReason.STARTING,
        ConditionReason.NO_PREFILL,
        ConditionReason.NO_DECODE,
        ConditionReason.ROUTER_UNAVAILABLE,
        ConditionReason.NOT_REGISTERED,
    ),
    ConditionType.SPEC_HONORED: (ConditionReason.NOT_ACTED_ON,),
    ConditionType.TOPOLOGY_HONORED: (ConditionReason.DOMAIN_FULL, ConditionReason.ROLLING_OUT),
    ConditionType.WORKERS_AVAILABLE: (
        *_CHILDREN,
        *_PODS,
        ConditionReason.STARTING,
        ConditionReason.DRAINING,
        ConditionReason.CHANGING_ROLE,
    ),
    ConditionType.ROLLED_OUT: (
        ConditionReason.ROLLING_OUT,
        ConditionReason.ROLLOUT_HELD,
        ConditionReason.ROLLED_BACK,
        ConditionReason.NO_SPARE_GPU,
        ConditionReason.ROLLOUT_OUTAGE,
        ConditionReason.ADOPTING,
        *_CHILDREN,
    ),
    ConditionType.ROUTER_IN_SYNC: (
        ConditionReason.NOT_REGISTERED,
        ConditionReason.ROUTER_OUT_OF_SYNC,
        ConditionReason.ROUTER_UNREACHABLE,
        ConditionReason.API_KEY_UNREADABLE,
    ),
    ConditionType.SCHEDULING_ACTIVE: (
        ConditionReason.PLUGIN_ORDERS,
        ConditionReason.ENGINE_POLICY,
        ConditionReason.ENGINE_ORDER,
        ConditionReason.FALLBACK,
        ConditionReason.OLD_SETTINGS,
        ConditionReason.NOT_SEEN,
    ),
    ConditionType.RECONCILED: (*_CHILDREN, ConditionReason.API_FAILED, ConditionReason.PASS_FAILED),
    ConditionType.PROFILE_FOUND: (ConditionReason.NO_PROFILE,),
    ConditionType.PROFILE_MATCHES: (ConditionReason.OTHER_WORKERS,),
    ConditionType.METRICS_AVAILABLE: (
        ConditionReason.STARTING,
        ConditionReason.NO_PROMETHEUS,
        ConditionReason.QUERY_FAILED,
        ConditionReason.NOT_SCRAPED,
        ConditionReason.NO_SERIES,
        ConditionReason.NOT_A_NUMBER,
        ConditionReason.DUPLICATE_SERIES,
        ConditionReason.CLOCK_SKEW,
    ),
    ConditionType.FORECAST_TRUSTED: (
        ConditionReason.METRICS_UNAVAILABLE,
        ConditionReason.FORECAST_PENDING,
        ConditionReason.SHORT_HISTORY,
        ConditionReason.STALE_HISTORY,
        ConditionReason.WORSE_THAN_LAST_VALUE,
        ConditionReason.BANDS_MISS,
    ),
    ConditionType.GPUS_GRANTED: (
        ConditionReason.POOL_LIMITED,
        ConditionReason.HAND_OVER,
        ConditionReason.NO_POOL,
        ConditionReason.NOT_A_MEMBER,
        ConditionReason.OTHER_GPU_TYPE,
        ConditionReason.API_FAILED,
    ),
    ConditionType.BUDGET_LIMITED: (ConditionReason.LIMITED,),
}
"""Reasons that each condition can have, beside AsExpected."""


class ConditionStatus(StrEnum):
    """Kubernetes' three values."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"
