"""DisaggregatedInference: what a user writes to serve one model with prefill and decode on separate GPUs.

`spec` belongs to its author (Git): the operator never writes it, and the schema sets no default, so what is stored is
what was applied. Defaults live here, in one place, and are named in the field descriptions.
"""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from dopd.api.base import Duration, Model, Rule, Within, cel, cel_milliseconds, seconds
from dopd.api.events import ForecastEvent
from dopd.api.limits import Bounds, GpuBudget, Schedule
from dopd.api.names import Role
from dopd.api.rollout import Rollout
from dopd.api.router import Router
from dopd.api.scheduling import Scheduling
from dopd.api.secrets import SecretKey
from dopd.api.topology import Topology
from dopd.api.workers import Engine, GpuPoolRef, ProfileRef, RoleSpec


class IpFamily(StrEnum):
    """Kind of addresses, as a Service names it."""

    IPV4 = "IPv4"
    IPV6 = "IPv6"


class RoleSwitching(Model):
    """Whether a running worker may change its role: it serves in the other one within seconds, without a restart."""

    enabled: bool
    """Allow flips. Needs SGLang 0.5.21 or later, equal gpus, nodes and parallelism of both roles, and transfer backend
    mooncake, mooncake_tcp or mori. Workers then run without a prefix cache."""


class Slo(Model):
    """The latency objectives that the number of workers must meet."""

    ttft_seconds: Annotated[
        float, Field(ge=0.001, le=120, json_schema_extra={"hint": "the unit is seconds, and 1500 ms are 1.5"})
    ] = 1.5
    """Time to first token, as the client sees it, seconds."""
    itl_seconds: Annotated[
        float, Field(ge=0.0001, le=5, json_schema_extra={"hint": "the unit is seconds, and 50 ms are 0.05"})
    ] = 0.05
    """Time between output tokens, seconds."""
    attainment: Annotated[float, Field(ge=0.5, le=0.9999, json_schema_extra={"hint": "99 % are 0.99"})] = 0.99
    """Share of requests that must meet both."""


class ScalingMode(StrEnum):
    """Who moves the number of workers."""

    AUTO = "Auto"
    ADVISE = "Advise"
    PAUSED = "Paused"
    EXTERNAL = "External"


RATIO_PATTERN = r"^[1-9][0-9]{0,2}:[1-9][0-9]{0,2}$"
RatioText = Annotated[
    str,
    Field(
        pattern=RATIO_PATTERN,
        max_length=7,
        json_schema_extra={"expected": "prefill:decode, each 1 to 999, such as 1:4 or 3:2"},
    ),
]


class RatioBand(Model):
    """Allowed range of prefill workers to decode workers."""

    rules = (
        Rule(
            f"![self.min, self.max].all(ratio, ratio.matches('{RATIO_PATTERN}'))"  # said by the fields themselves
            " || int(self.min.split(':')[0]) * int(self.max.split(':')[1])"
            " <= int(self.max.split(':')[0]) * int(self.min.split(':')[1])",
            "min must not exceed max (both are prefill:decode); lower min or raise max",
            ".min",
        ),
    )

    min: RatioText
    """Fewest prefill workers for each decode worker, such as 1:4."""
    max: RatioText
    """Most prefill workers for each decode worker, such as 4:1."""


MOST_BINS = 50_000
"""Of a history: a month in bins of a minute."""
LONGEST_HISTORY_SECONDS = 28 * 86_400.0
"""Unless somebody asks for more: four weeks tell a weekly season from chance."""
_BIN = cel_milliseconds("(has(self.bin) ? self.bin : '60s')")
_HISTORY = cel_milliseconds("self.history")


class ForecastSpec(Model):
    """How the load is forecast."""

    rules = (
        Rule(
            f"!has(self.history) || {_BIN} * 2 <= {_HISTORY}",
            "must be at most half of history (default of bin: 60s); lower bin, or raise history",
            ".bin",
        ),
        Rule(
            f"!has(self.history) || {_BIN} * {MOST_BINS} >= {_HISTORY}",
            f"must be at most {MOST_BINS} bins long (default of bin: 60s); raise bin, or lower history",
            ".history",
        ),
    )

    bin: Annotated[Duration, Within("1s", "1h")] = "60s"
    """Width of the bins that history is read in; what is older than two days of minutes comes in ten times as wide
    ones."""
    history: Annotated[Duration, Within("1m", "60d")] | None = None
    """How far back Prometheus is read; if absent, as far as it goes, up to four weeks (and 50000 bins)."""
    events: Annotated[
        list[ForecastEvent],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """What will change the load and stands in no history: a launch, a sale, a holiday."""

    @property
    def history_seconds(self) -> float:
        """How far back Prometheus is read."""
        if self.history is not None:
            return seconds(self.history)
        return min(LONGEST_HISTORY_SECONDS, MOST_BINS * seconds(self.bin))


class Behavior(Model):
    """How fast decisions follow each other."""

    interval: Annotated[Duration, Within("1s", "10m")] = "15s"
    """Time between two readings of the load, each followed by a plan."""
    queue_interval: Annotated[Duration, Within("500ms", "1m")] = "2s"
    """Time between two looks at what waits in the engines; a plan follows at once when that needs more workers."""
    scale_down_stabilization: Annotated[Duration, Within("1s", "24h")] | None = None
    """A worker is given up only when nothing needed it for so long. If absent, as long as a new worker of the role
    takes to serve, and 60s at least."""
    max_step: Annotated[int, Field(ge=1, le=1000)] = 8
    """Most workers of a role added or removed by one decision."""
    drain_deadline: Annotated[Duration, Within("1s", "24h")] = "600s"
    """A draining worker is deleted after this long even when it still runs requests."""


class Fallback(Model):
    """What to run when the load has not been known for long."""

    after: Annotated[Duration, Within("10s", "7d")] = "10m"
    """How long the load must have been unknown; until then the last target is held."""
    prefill: Annotated[int, Field(ge=1, le=1000)]
    """Prefill workers at least, within their bounds."""
    decode: Annotated[int, Field(ge=1, le=1000)]
    """Decode workers at least, within their bounds."""


class Idle(Model):
    """When no worker need run at all."""

    after: Annotated[Duration, Within("1m", "30d")]
    """Both roles go to zero together, by the drain, once no request has come for so long; the gateway stays. The first
    request is answered with 503 and Retry-After, as are all until workers serve again, and starts them. So do a
    schedule that names prefill, decode or gpuBudget.min, and a forecast of requests, each ahead by the time that a
    worker takes to serve. After a wake workers are held as long again."""


class Scaling(Model):
    """Let the operator choose the number of workers."""

    rules = (
        Rule(
            "!has(self.idle) || !has(self.gpuBudget) || !has(self.gpuBudget.min)",
            "gpuBudget.min holds GPUs at all times, and idle gives them up; remove one of them, or put the minimum into"
            " a schedule",
            ".idle",
        ),
    )

    mode: ScalingMode = ScalingMode.AUTO
    """Auto moves the workers; Advise decides and reports and changes nothing; Paused holds what is there. External does
    what a scaler of your own asks for, within the bounds: an HPA, KEDA or kubectl scale writes to the WorkerScales
    NAME-prefill and NAME-decode."""
    prefill: Bounds
    """Bounds of the prefill workers."""
    decode: Bounds
    """Bounds of the decode workers."""
    gpu_budget: GpuBudget | None = None
    """GPUs of both roles together; no limit if absent."""
    ratio: RatioBand | None = None
    """Allowed range of prefill to decode workers; no limit if absent."""
    schedules: Annotated[
        list[Schedule],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """Limits that hold at certain times in place of the ones above. Where several hold at once, the greatest min and
    the greatest max count, field by field."""
    profile_ref: ProfileRef | None = None
    """EngineProfile that tells how fast one worker is; if absent, spec.prefill.profileRef and spec.decode.profileRef do
    it. Where they are set, too, they hold for their role."""
    forecast: ForecastSpec = ForecastSpec()
    """How the load is forecast."""
    behavior: Behavior = Behavior()
    """How fast decisions follow each other."""
    batch_share: Annotated[float, Field(ge=0, le=10)] = 0.0
    """What batch requests (spec.scheduling.batch) may add to the load that is planned for, as a share of the load of
    all others: 0.2 keeps room for a fifth more while any of them waits or is served. With 0 they add no worker."""
    fallback: Fallback | None = None
    """What to run when the load has not been known for long; the last target is held if absent. Queues in the
    engines add workers in either case."""
    idle: Idle | None = None
    """Let no worker run while no request comes; if absent, each role keeps its min. In mode External it is without
    effect, and in mode Paused what sleeps stays asleep."""


_HOST = r"(([A-Za-z0-9_-]{1,63}\.)*[A-Za-z0-9_-]{1,63}\.?|\[[0-9A-Fa-f:.]+\])"
PrometheusURL = Annotated[
    str,
    Field(
        pattern=rf"^https?://{_HOST}(:[1-9][0-9]{{0,4}})?(/[!-~]*)?$",
        max_length=1024,
        json_schema_extra={
            "expected": "a URL that begins with http:// or https:// and a host, such as"
            " http://prometheus.monitoring.svc:9090",
            "x-kubernetes-validations": cel(
                [
                    Rule(
                        "!isURL(self) || url(self).getHostname() != '' && url(self).getQuery().size() == 0"
                        " && !self.contains('#') && !self.contains('@') && !self.matches('/api/v1(/.*)?$')",
                        "must be the base URL, what stands before /api/v1/query, without user, query or fragment;"
                        " credentials belong to the operator's own prometheusURL",
                    )
                ]
            ),
        },
    ),
]


SERIES_LABEL = re.compile(r"^[a-zA-Z_][a-zA-Z0-9_]{0,127}$")
"""Name of a label as Prometheus writes it."""


class Telemetry(Model):
    """Where the load is read."""

    rules = (
        Rule(
            "!has(self.labels) || self.labels.all(name, name.matches('^[a-zA-Z_][a-zA-Z0-9_]*$'))",
            "a label of Prometheus has letters, digits and '_', and begins with no digit; correct its name",
            ".labels",
        ),
    )

    prometheus_url: Annotated[PrometheusURL | None, Field(alias="prometheusURL")] = None
    """Base URL of the Prometheus that scrapes workers and gateway; the operator's own setting if absent."""
    history_url: Annotated[PrometheusURL | None, Field(alias="historyURL")] = None
    """Base URL of a Prometheus that has what is long ago, such as Thanos or Mimir, where that at prometheusURL keeps
    days alone; if absent, the operator's own setting where its Prometheus is read."""
    labels: Annotated[
        dict[str, Annotated[str, Field(min_length=1, max_length=253)]],
        Field(max_length=8),
    ] = {}
    """Labels that the series must carry, such as cluster: eu-west, where one Prometheus holds those of several
    clusters. On top of the operator's own (chart: prometheus.seriesLabels) where its Prometheus is read."""

    @field_validator("labels")
    @classmethod
    def _names(cls, labels: dict[str, str]) -> dict[str, str]:
        for name in labels:
            if not SERIES_LABEL.match(name):
                raise ValueError(
                    f"{name} is no label of Prometheus; expected letters, digits and '_', as in k8s_cluster"
                )
        return labels


def _shape(role: str) -> str:
    """CEL for what two roles must have in common so that a worker can change from one to the other."""
    sizes = (
        (f"has({role}.parallelism) && has({role}.parallelism.{name}) ? {role}.parallelism.{name}", absent)
        for name, absent in (("tensor", "0"), ("pipeline", "1"), ("data", "1"), ("expert", "0"))
    )
    parts = [f"{role}.gpus", f"(has({role}.nodes) ? {role}.nodes : 1)", *(f"({size} : {none})" for size, none in sizes)]
    return f"[{', '.join(parts)}]"


SCHEDULE_FITS = (
    "(has(s.gpuBudget) ? s.gpuBudget.max : has(self.scaling.gpuBudget) ? self.scaling.gpuBudget.max : 10000000)"
    " >= (has(s.prefill) ? s.prefill.min : self.scaling.prefill.min) * self.prefill.gpus"
    " + (has(s.decode) ? s.decode.min : self.scaling.decode.min) * self.decode.gpus"
)


def _replaceable(rollout: str, gpus: str, role: str) -> Rule:
    """A rollout must be able to take a worker away, or to add one."""
    return Rule(
        f"!has(self.rollout) || !has({rollout}) || !has({rollout}.maxUnavailable) || {rollout}.maxUnavailable > 0"
        f" || has({rollout}.maxSurgeGPUs) && {rollout}.maxSurgeGPUs >= {gpus}",
        f"with 0 no worker could ever be replaced; raise it, or set maxSurgeGPUs to {role}.gpus or more",
        f".rollout.{role}.maxUnavailable",
    )


SWITCHING_ON = "has(self.roleSwitching) && self.roleSwitching.enabled"


class DisaggregatedInferenceSpec(Model):
    """One model, served by prefill and decode workers behind one gateway."""

    rules = (
        Rule(
            "!has(self.scaling) || !(has(self.prefill.replicas) || has(self.decode.replicas))",
            "replicas and scaling exclude each other: remove spec.prefill.replicas and spec.decode.replicas,"
            " or remove spec.scaling",
        ),
        Rule(
            "has(self.scaling) || (has(self.prefill.replicas) && has(self.decode.replicas))",
            "without spec.scaling both spec.prefill.replicas and spec.decode.replicas are needed: set them, or add"
            " spec.scaling",
        ),
        Rule(
            "!has(self.scaling) || has(self.scaling.mode) && self.scaling.mode == 'External'"
            " || has(self.scaling.profileRef) || has(self.prefill.profileRef) && has(self.decode.profileRef)",
            "names no EngineProfile; set spec.scaling.profileRef, or spec.prefill.profileRef and"
            " spec.decode.profileRef, or let a scaler of your own decide (mode: External)",
            ".scaling",
        ),
        Rule(
            "!has(self.scaling) || !has(self.scaling.gpuBudget) || self.scaling.gpuBudget.max >="
            " self.scaling.prefill.min * self.prefill.gpus + self.scaling.decode.min * self.decode.gpus",
            "must be at least scaling.prefill.min * prefill.gpus + scaling.decode.min * decode.gpus; raise it, or lower"
            " a min",
            ".scaling.gpuBudget.max",
        ),
        Rule(
            "!has(self.scaling) || !has(self.scaling.gpuBudget) || !has(self.scaling.gpuBudget.min) ||"
            " self.scaling.gpuBudget.min <="
            " self.scaling.prefill.max * self.prefill.gpus + self.scaling.decode.max * self.decode.gpus",
            "must be at most scaling.prefill.max * prefill.gpus + scaling.decode.max * decode.gpus; lower it, or raise"
            " a max",
            ".scaling.gpuBudget.min",
        ),
        Rule(
            f"!has(self.scaling) || !has(self.scaling.schedules) || self.scaling.schedules.all(s, {SCHEDULE_FITS})",
            "one has more minimum workers than its gpuBudget.max holds (what it leaves out is that of spec.scaling):"
            " raise gpuBudget.max, or lower a min",
            ".scaling.schedules",
        ),
        Rule(
            f"!({SWITCHING_ON}) || {_shape('self.prefill')} == {_shape('self.decode')}",
            "roleSwitching needs equal gpus and nodes and equal parallelism of spec.prefill and spec.decode; make them"
            " equal, or set enabled to false",
            ".roleSwitching",
        ),
        Rule(
            f"!({SWITCHING_ON}) || !has(self.engine.transferBackend)"
            " || self.engine.transferBackend in ['mooncake', 'mooncake_tcp', 'mori']",
            "roleSwitching needs mooncake, mooncake_tcp or mori; choose one, or set roleSwitching.enabled to false",
            ".engine.transferBackend",
        ),
        Rule(
            f"!({SWITCHING_ON}) || !has(self.topology) || !has(self.topology.domains)"
            " || self.topology.domains.size() == 0",
            "roleSwitching and a list of domains exclude each other: remove topology.domains, so that all workers share"
            " one, or set roleSwitching.enabled to false",
            ".topology.domains",
        ),
        *(_replaceable(f"self.rollout.{role}", f"self.{role}.gpus", role) for role in ("prefill", "decode")),
    )

    model: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
            max_length=253,
            json_schema_extra={
                "expected": "letters, digits, '.', '_', '/' and '-', beginning with a letter or digit, such as"
                " meta-llama/Llama-3.1-8B-Instruct: it is the name that clients ask for. Say in engine.modelPath where"
                " the weights are, such as /models/llama",
                "x-kubernetes-validations": [
                    {"rule": "self == oldSelf", "message": "cannot change; create another resource for another model"}
                ],
            },
        ),
    ]
    """Name that the model is served under; also where its weights come from, unless engine.modelPath says
    otherwise. Immutable."""
    engine: Engine
    """The SGLang server that runs in every worker."""
    api_key: SecretKey | None = None
    """A key of a Secret of this namespace that clients, gateway and operator send as `Authorization: Bearer` (SGLang
    and SMG `--api-key`); requests need none if absent. The operator must be allowed to read that Secret: chart value
    apiKeySecrets. Pods that run keep the key that they started with."""
    ip_family: IpFamily = IpFamily.IPV4
    """Which addresses workers and gateway listen on: that of the cluster's pods. IPv6 for clusters without IPv4."""
    prefill: RoleSpec
    """Workers that turn prompts into KV cache and the first token."""
    decode: RoleSpec
    """Workers that generate the remaining tokens."""
    role_switching: RoleSwitching | None = None
    """Whether a running worker may change its role."""
    router: Router
    """The gateway that clients talk to."""
    topology: Topology | None = None
    """Which workers are near enough to each other to hand KV caches over; anywhere in the cluster if absent."""
    rollout: Rollout = Rollout()
    """How workers are replaced when what they are made from changes."""
    slo: Slo = Slo()
    """Latency objectives."""
    scheduling: Scheduling = Scheduling()
    """In which order prefill workers compute the prompts that wait for them."""
    scaling: Scaling | None = None
    """Let the operator choose the number of workers; static replicas if absent."""
    telemetry: Telemetry = Telemetry()
    """Where the load is read."""
    gpu_pool: GpuPoolRef | None = None
    """The GpuPool that the workers' GPUs are of. What may be taken there, and who comes first, the pool says. No pool
    if absent."""

    def own_profile(self, role: Role) -> ProfileRef | None:
        """The EngineProfile that a role names for itself."""
        return (self.prefill if role is Role.PREFILL else self.decode).profile_ref

    def profile_name(self, role: Role) -> str:
        """Name of the EngineProfile of a role; "" without one."""
        ref = self.own_profile(role) or (self.scaling.profile_ref if self.scaling else None)
        return ref.name if ref else ""
