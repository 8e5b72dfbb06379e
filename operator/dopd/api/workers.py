"""The workers: the SGLang server that runs in each, and the shape of those of one role."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import DOMAIN, Duration, Image, Model, Name, PullPolicy, Quantity, Rule, Within, cel
from dopd.api.flags import ENGINE_FLAGS, flag_rules
from dopd.api.names import BOOTSTRAP_PORT, ENGINE_CONTAINER, ENGINE_PORT, RENDEZVOUS_PORT
from dopd.api.pods import EnvVar, PodTemplateOverlay, port_rules

Count = Annotated[int, Field(ge=0, le=1000)]
Port = Annotated[int, Field(ge=1, le=65535)]

EngineArgs = Annotated[
    list[Annotated[str, Field(max_length=1024)]],
    Field(max_length=64, json_schema_extra={"x-kubernetes-validations": cel(flag_rules(ENGINE_FLAGS))}),
]
"""Arguments of the engine, without those that the operator sets."""


# Also behind another program: tini -- sh -c, env bash -c.
_SHELL = "self.exists(word, word.matches('(^|/)[a-z]*sh[0-9.]*$')) && self.exists(word, word.matches('^-[a-z]*c$'))"
Command = Annotated[
    list[Annotated[str, Field(min_length=1)]],
    Field(
        min_length=1,
        max_length=64,
        json_schema_extra={
            "x-kubernetes-validations": cel(
                [
                    Rule(
                        f"!({_SHELL}) || self.exists(word, word.contains('$@') || word.contains('$*'))"
                        " && !self[self.size() - 2].matches('^-[a-z]*c$')",
                        "a shell drops the flags that the operator appends, or the first of them; let it pass them on"
                        " and give it a word for $0: [bash, -c, 'exec sglang serve \"$@\"', engine]",
                    )
                ]
            )
        },
    ),
]
"""A command to which flags are appended."""

ModelPath = Annotated[
    str,
    Field(
        pattern=r"^[^\s-][^\s]*$",
        max_length=1024,
        json_schema_extra={
            "expected": "a path or a name without blanks, not beginning with '-', such as /models/llama"
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


class Engine(Model):
    """The SGLang server that runs in every worker."""

    image: Image
    """Container image with SGLang."""
    image_pull_policy: PullPolicy | None = None
    """When to pull the image; left to Kubernetes if absent."""
    image_pull_secrets: Annotated[
        list[Name], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = []
    """Names of Secrets for the registry, in the same namespace; each once."""
    command: Command = [
        "python3",
        "-m",
        "sglang.launch_server",
    ]
    """Command that starts the server; the operator appends SGLang's flags to it."""
    transfer_backend: TransferBackend = TransferBackend.MOONCAKE
    """How the KV cache moves from prefill to decode."""
    model_path: ModelPath | None = None
    """Where the weights are in the container, or their name on a hub; spec.model if absent."""
    args: EngineArgs = []
    """Further SGLang flags for both roles, after the operator's own. A flag that the operator sets is refused."""
    env: Annotated[
        list[EnvVar],
        Field(
            max_length=128,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """Environment of both roles; each name once."""
    shared_memory: Quantity = "16Gi"
    """Size limit of /dev/shm, which tensor parallel workers talk through: 1Mi to 16Ti."""
    termination_grace_period: Annotated[Duration, Within("1s", "24h")] = "600s"
    """Longest time that a stopping worker may take to finish what it runs; must exceed the longest generation."""


class Parallelism(Model):
    """How one worker spreads a model over its GPUs."""

    tensor: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Tensor parallel size (SGLang `--tp-size`); what pipeline and data leave of the GPUs, if absent."""
    pipeline: Annotated[int, Field(ge=1, le=1024)] = 1
    """Pipeline parallel size (SGLang `--pp-size`): consecutive layers on other GPUs."""
    data: Annotated[int, Field(ge=1, le=1024)] = 1
    """Data parallel size (SGLang `--dp-size`): so many copies of the model in one worker, each with GPUs of its own;
    with dataAttention copies of the attention layers alone, on the GPUs of the tensor group."""
    expert: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Expert parallel size (SGLang `--ep-size`): the experts of a layer are spread over so many GPUs of the tensor
    group, whose size it must divide. If absent, as SGLang chooses: 1, or all with `--moe-a2a-backend deepep`."""
    data_attention: bool = False
    """Whether data means attention alone, with all GPUs of the tensor group for the other layers, as DeepSeek models
    are served (SGLang `--enable-dp-attention`)."""


class Ports(Model):
    """Ports of the workers of one role. Other ones than the defaults where workers share the network of a node."""

    engine: Port = ENGINE_PORT
    """Port that the engine serves HTTP on (SGLang `--port`)."""
    rendezvous: Port = RENDEZVOUS_PORT
    """Port of the first node on which the nodes of a worker find each other (SGLang `--dist-init-addr`); SGLang takes
    some of the 15 behind it, too. Unused with one node."""
    bootstrap: Port = BOOTSTRAP_PORT
    """Port on which a prefill worker tells decode workers where its KV cache is (SGLang
    `--disaggregation-bootstrap-port`); unused by decode workers."""


class ProfileRef(Model):
    """An EngineProfile of the same namespace."""

    name: Name
    """Its name."""


class GpuPoolRef(Model):
    """A GpuPool of the cluster."""

    name: Name
    """Its name."""


def _size(name: str, otherwise: str) -> str:
    given = f"has(self.parallelism) && has(self.parallelism.{name})"
    return f"({given} ? self.parallelism.{name} : {otherwise})"


_BESIDE_TENSOR = f"({_size('pipeline', '1')} * ({_size('dataAttention', 'false')} ? 1 : {_size('data', '1')}))"
_TENSOR = _size("tensor", f"self.gpus / {_BESIDE_TENSOR}")
_NODES = "(has(self.nodes) ? self.nodes : 1)"
_PIPELINE = _size("pipeline", "1")
_ENGINE_PORT, _BOOTSTRAP_PORT, _RENDEZVOUS_PORT = (
    f"has(self.ports) && has(self.ports.{name}) ? self.ports.{name} : {default}"
    for name, default in (
        ("engine", ENGINE_PORT), ("bootstrap", BOOTSTRAP_PORT), ("rendezvous", RENDEZVOUS_PORT)
    )
)  # fmt: skip


class RoleSpec(Model):
    """The workers of one role."""

    rules = (
        Rule(
            f"{_TENSOR} * {_BESIDE_TENSOR} == self.gpus",
            "tensor x pipeline x data (without data, if dataAttention is true) must equal gpus, the GPUs of one worker;"
            " correct one of them, or leave tensor out",
            ".parallelism",
        ),
        Rule(
            f"!{_size('dataAttention', 'false')} || {_TENSOR} % {_size('data', '1')} == 0",
            "must divide the tensor size with dataAttention; correct one of them",
            ".parallelism.data",
        ),
        Rule(
            "!has(self.nodes) || self.gpus % self.nodes == 0",
            "must be a multiple of nodes: gpus counts those of all nodes of one worker; correct one of them",
            ".gpus",
        ),
        Rule(
            f"{_NODES} == 1 || {_size('dataAttention', 'false')} || {_size('data', '1')} == 1",
            "SGLang has no copies of a model (data) on several nodes of one worker; set dataAttention, or give each"
            " copy a worker of its own: data 1, fewer gpus and nodes",
            ".parallelism.data",
        ),
        Rule(
            f"{_NODES} % {_PIPELINE} == 0 || {_PIPELINE} % {_NODES} == 0",
            "must divide nodes, or be a multiple of it: SGLang puts whole stages on nodes; correct one of them",
            ".parallelism.pipeline",
        ),
        Rule(
            f"{_TENSOR} % {_size('expert', '1')} == 0",
            "must divide the tensor size: experts are spread over the GPUs of a tensor group; correct one of them",
            ".parallelism.expert",
        ),
        Rule(f"({_ENGINE_PORT}) != ({_BOOTSTRAP_PORT})", "engine and bootstrap need two ports; change one", ".ports"),
        Rule(
            f"{_NODES} == 1 || !(({_RENDEZVOUS_PORT}) in [{_ENGINE_PORT}, {_BOOTSTRAP_PORT}])",
            "is a port of engine or bootstrap, too; choose another",
            ".ports.rendezvous",
        ),
        *port_rules(ENGINE_CONTAINER, {"http": _ENGINE_PORT, "bootstrap": _BOOTSTRAP_PORT}),
    )

    gpus: Annotated[int, Field(ge=1, le=1024)]
    """GPUs of one worker, on all its nodes together; explicit, never guessed. Requested as `gpuResource`, in equal
    shares by the pods of its nodes."""
    gpu_resource: Annotated[
        str,
        Field(
            pattern=f"^{DOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            max_length=253,
            json_schema_extra={"expected": "an extended resource (domain/name), such as nvidia.com/gpu or amd.com/gpu"},
        ),
    ] = "nvidia.com/gpu"
    """Extended resource that a GPU is requested as."""
    nodes: Annotated[int, Field(ge=1, le=64)] = 1
    """Nodes that one worker spans. With more than 1 it is a group of pods, made by a LeaderWorkerSet
    (leaderworkerset.x-k8s.io), which must be installed; all its pods count, drain and leave as one worker."""
    parallelism: Parallelism | None = None
    """How a worker spreads the model over its GPUs; tensor parallel over all of them if absent."""
    replicas: Count | None = None
    """Static number of workers. Required without spec.scaling and excluded by it."""
    profile_ref: ProfileRef | None = None
    """EngineProfile that tells how fast one worker of this role is; spec.scaling.profileRef if absent."""
    ports: Ports = Ports()
    """Ports of the workers."""
    args: EngineArgs = []
    """Further SGLang flags for this role, after spec.engine.args."""
    template: PodTemplateOverlay | None = None
    """Pod template (metadata, spec) merged over the operator's: nodeSelector, tolerations, volumes, resources, ...
    Lists merge by the keys of the Kubernetes API; the engine's container is named `engine`. null takes away what the
    operator sets; a change of the resource keeps it only with server-side apply."""

    @property
    def tensor_size(self) -> int:
        """GPUs of one tensor group."""
        sizes = self.parallelism or Parallelism()
        beside = sizes.pipeline * (1 if sizes.data_attention else sizes.data)
        return sizes.tensor or self.gpus // beside
