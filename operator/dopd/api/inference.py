"""DisaggregatedInference: what a user writes to serve one model with prefill and decode on separate GPUs.

`spec` belongs to its author (Git): the operator never writes it, and the schema sets no default, so what is stored is
what was applied. Defaults live here, in one place, and are named in the field descriptions.
"""

import re
from enum import StrEnum
from typing import Annotated

from pydantic import Field, field_validator

from dopd.api.base import Duration, Image, Model, Name, PodTemplateOverlay, PullPolicy, Quantity, Rule
from dopd.api.limits import Bounds, GpuBudget, Schedule
from dopd.api.router import Router
from dopd.api.scheduling import Scheduling

Count = Annotated[int, Field(ge=0, le=1000)]


RESERVED_FLAGS = (
    "--model-path",
    "--served-model-name",
    "--host",
    "--port",
    "--tp-size",
    "--enable-metrics",
    "--enable-pd-role-switch",
    "--disaggregation-mode",
    "--disaggregation-transfer-backend",
    "--disaggregation-bootstrap-port",
)
"""Flags that the operator sets itself, from fields of the spec."""

EngineArgs = Annotated[
    list[Annotated[str, Field(max_length=1024)]],
    Field(
        max_length=64,
        json_schema_extra={
            "x-kubernetes-validations": [
                {
                    "rule": f"self.all(arg, !(arg.split('=')[0] in {list(RESERVED_FLAGS)}))",
                    "message": "holds a flag that the operator sets itself from the spec; remove it"
                    f" ({', '.join(RESERVED_FLAGS)})",
                }
            ]
        },
    ),
]


class TransferBackend(StrEnum):
    """How the KV cache moves from prefill to decode (SGLang `--disaggregation-transfer-backend`)."""

    MOONCAKE = "mooncake"
    MOONCAKE_TCP = "mooncake_tcp"
    NIXL = "nixl"
    MORI = "mori"
    ASCEND = "ascend"


class EnvVar(Model):
    """An environment variable, as in a pod."""

    rules = (
        Rule(
            "!(has(self.value) && has(self.valueFrom))",
            "has both value and valueFrom; remove one",
        ),
    )

    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
            max_length=253,
            json_schema_extra={"expected": "letters, digits and '_', not beginning with a digit, such as HF_TOKEN"},
        ),
    ]
    """Name of the variable."""
    value: str | None = None
    """Literal value."""
    value_from: PodTemplateOverlay | None = None
    """Source of the value (secretKeyRef, configMapKeyRef, fieldRef), as in a pod."""


class Engine(Model):
    """The SGLang server that runs in every worker."""

    image: Image
    """Container image with SGLang."""
    image_pull_policy: PullPolicy | None = None
    """When to pull the image; left to Kubernetes if absent."""
    image_pull_secrets: Annotated[list[Name], Field(max_length=16)] = []
    """Names of Secrets for the registry, in the same namespace."""
    command: Annotated[list[str], Field(max_length=64)] = ["python3", "-m", "sglang.launch_server"]
    """Command that starts the server; the operator appends SGLang's flags to it."""
    transfer_backend: TransferBackend = TransferBackend.MOONCAKE
    """How the KV cache moves from prefill to decode."""
    model_path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Where the weights are in the container, or their name on a hub; spec.model if absent."""
    args: EngineArgs = []
    """Further SGLang flags for both roles, after the operator's own. A flag that the operator sets is refused."""
    env: Annotated[list[EnvVar], Field(max_length=128)] = []
    """Environment of both roles."""
    shared_memory: Quantity = "16Gi"
    """Size limit of /dev/shm, which tensor parallel workers talk through."""
    termination_grace_period: Duration = "600s"
    """Longest time that a stopping worker may take to finish what it runs; must exceed the longest generation."""


class Parallelism(Model):
    """How one worker spreads a model over its GPUs."""

    tensor: Annotated[int, Field(ge=1, le=1024)] = 1
    """Tensor parallel size (SGLang `--tp-size`)."""


class RoleSpec(Model):
    """The workers of one role."""

    rules = (
        Rule(
            "!has(self.parallelism) || !has(self.parallelism.tensor) || self.parallelism.tensor == self.gpus",
            "must equal gpus: a worker uses all its GPUs for one tensor group; correct one of them, or leave it out",
            ".parallelism.tensor",
        ),
    )

    gpus: Annotated[int, Field(ge=1, le=1024)]
    """GPUs of one worker; explicit, never guessed. Requested as `gpuResource`."""
    gpu_resource: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$",
            max_length=253,
            json_schema_extra={"expected": "an extended resource (domain/name), such as nvidia.com/gpu or amd.com/gpu"},
        ),
    ] = "nvidia.com/gpu"
    """Extended resource that a GPU is requested as."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Nodes that one worker spans. More than 1 is accepted and not acted on yet: see condition SpecHonored."""
    parallelism: Parallelism | None = None
    """How a worker spreads the model over its GPUs; tensor parallel over all of them if absent."""
    replicas: Count | None = None
    """Static number of workers. Required without spec.scaling and excluded by it."""
    args: EngineArgs = []
    """Further SGLang flags for this role, after spec.engine.args."""
    template: PodTemplateOverlay | None = None
    """Pod template (metadata, spec) merged over the operator's: nodeSelector, tolerations, volumes, resources, ...
    Lists of named items merge by name; the engine's container is named `engine`. null takes away what the operator
    sets; a change of the resource keeps it only with server-side apply."""


class RoleSwitching(Model):
    """Whether a running worker may change its role. Accepted and not acted on yet: see condition SpecHonored."""

    enabled: bool
    """Allow flips. Needs equal gpus, nodes and parallelism of both roles, and transfer backend
    mooncake, mooncake_tcp or mori."""


class Slo(Model):
    """The latency objectives that the number of workers must meet."""

    ttft_seconds: Annotated[float, Field(gt=0, le=3600)] = 1.5
    """Time to first token, as the client sees it."""
    itl_seconds: Annotated[float, Field(gt=0, le=60)] = 0.05
    """Time between output tokens."""
    attainment: Annotated[float, Field(ge=0.5, le=0.9999)] = 0.99
    """Share of requests that must meet both."""


class ScalingMode(StrEnum):
    """Who moves the number of workers."""

    AUTO = "Auto"
    ADVISE = "Advise"
    PAUSED = "Paused"


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


class ProfileRef(Model):
    """An EngineProfile of the same namespace."""

    name: Name
    """Its name."""


class ForecastSpec(Model):
    """How the load is forecast."""

    bin: Duration = "60s"
    """Width of the bins that history is read in."""
    history: Duration = "6h"
    """How far back Prometheus is read."""
    quantile: Annotated[float, Field(ge=0.5, le=0.999)] = 0.75
    """Quantile of the forecast that is planned for; higher is safer and dearer."""


class Behavior(Model):
    """How fast decisions follow each other."""

    interval: Duration = "15s"
    """Time between two readings of the load, each followed by a plan."""
    queue_interval: Duration = "2s"
    """Time between two looks at what waits in the engines; a plan follows at once when that needs more workers."""
    scale_down_stabilization: Duration | None = None
    """A scale-down happens only when every plan of this long agreed to it. If absent, as long as a new worker of the
    role takes to serve, 60s at least, and up to 3600s after more requests were late than the objectives allow."""
    max_step: Annotated[int, Field(ge=1, le=1000)] = 8
    """Most workers of a role added or removed by one decision."""
    drain_deadline: Duration = "600s"
    """A draining worker is deleted after this long even when it still runs requests."""


class Fallback(Model):
    """What to run when the load has not been known for long."""

    after: Duration = "10m"
    """How long the load must have been unknown; until then the last target is held."""
    prefill: Annotated[int, Field(ge=1, le=1000)]
    """Prefill workers at least, within their bounds."""
    decode: Annotated[int, Field(ge=1, le=1000)]
    """Decode workers at least, within their bounds."""


class Scaling(Model):
    """Let the operator choose the number of workers."""

    mode: ScalingMode = ScalingMode.AUTO
    """Auto moves the workers; Advise decides and reports and changes nothing; Paused holds what is there."""
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
    profile_ref: ProfileRef
    """EngineProfile that tells how fast one worker is."""
    forecast: ForecastSpec = ForecastSpec()
    """How the load is forecast."""
    behavior: Behavior = Behavior()
    """How fast decisions follow each other."""
    fallback: Fallback | None = None
    """What to run when the load has not been known for long; the last target is held if absent. Queues in the
    engines add workers in either case."""


PrometheusURL = Annotated[
    str,
    Field(
        pattern=r"^https?://[^\s]+$",
        max_length=1024,
        json_schema_extra={
            "expected": "a URL that begins with http:// or https://, such as http://prometheus.monitoring.svc:9090"
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


SHAPES_EQUAL = (
    "self.prefill.gpus == self.decode.gpus"
    " && (has(self.prefill.nodes) ? self.prefill.nodes : 1) == (has(self.decode.nodes) ? self.decode.nodes : 1)"
)
SCHEDULE_FITS = (
    "(has(s.gpuBudget) ? s.gpuBudget.max : has(self.scaling.gpuBudget) ? self.scaling.gpuBudget.max : 10000000)"
    " >= (has(s.prefill) ? s.prefill.min : self.scaling.prefill.min) * self.prefill.gpus"
    " + (has(s.decode) ? s.decode.min : self.scaling.decode.min) * self.decode.gpus"
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
            f"!({SWITCHING_ON}) || ({SHAPES_EQUAL})",
            "roleSwitching needs equal gpus and nodes of spec.prefill and spec.decode; make them equal, or set"
            " enabled to false",
            ".roleSwitching",
        ),
        Rule(
            f"!({SWITCHING_ON}) || !has(self.engine.transferBackend)"
            " || self.engine.transferBackend in ['mooncake', 'mooncake_tcp', 'mori']",
            "roleSwitching needs mooncake, mooncake_tcp or mori; choose one, or set roleSwitching.enabled to false",
            ".engine.transferBackend",
        ),
    )

    model: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$",
            max_length=253,
            json_schema_extra={
                "expected": "letters, digits, '.', '_', '/' and '-', beginning with a letter or digit, such as"
                " meta-llama/Llama-3.1-8B-Instruct",
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
    prefill: RoleSpec
    """Workers that turn prompts into KV cache and the first token."""
    decode: RoleSpec
    """Workers that generate the remaining tokens."""
    role_switching: RoleSwitching | None = None
    """Whether a running worker may change its role."""
    router: Router
    """The gateway that clients talk to."""
    slo: Slo = Slo()
    """Latency objectives."""
    scheduling: Scheduling = Scheduling()
    """In which order prefill workers compute the prompts that wait for them."""
    scaling: Scaling | None = None
    """Let the operator choose the number of workers; static replicas if absent."""
    telemetry: Telemetry = Telemetry()
    """Where the load is read."""
