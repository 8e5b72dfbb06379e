"""GpuPool: GPUs that several resources share, who may claim them, and who has them. Cluster-scoped, an admin's.

A resource names its pool (spec.gpuPool); what it may take there is said here and nowhere else, so that nobody takes
more by writing a greater number into a resource of his own. The status is the ledger: no worker starts before the
GPUs that it takes stand in it.
"""

from typing import Annotated

from pydantic import Field, field_validator

from dopd.api.base import DOMAIN, Duration, Model, Name, Rule, Within
from dopd.api.limits import ListedName
from dopd.api.status import Condition, WorkerPair

MOST_GPUS = 100_000
MOST_MEMBERS = 64
MOST_ROWS = 512

GpuCount = Annotated[int, Field(ge=0, le=MOST_GPUS)]
GpusByType = Annotated[dict[str, GpuCount], Field(max_length=8, json_schema_extra={"maxProperties": 8})]


class GpuType(Model):
    """GPUs of one type."""

    name: ListedName
    """What members and the status call it; unique."""
    resource_name: Annotated[
        str,
        Field(
            pattern=f"^{DOMAIN}/[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$",
            max_length=253,
            json_schema_extra={"expected": "an extended resource (domain/name), such as nvidia.com/gpu or amd.com/gpu"},
        ),
    ] = "nvidia.com/gpu"
    """Extended resource that workers request such GPUs as."""
    product: Annotated[str, Field(min_length=1, max_length=63)] | None = None
    """Value of the node label that names the type (nvidia.com/gpu.product and its like), which the pod template of
    workers must ask for; any GPU of that resourceName if absent."""
    gpus: Annotated[int, Field(ge=0, le=MOST_GPUS)]
    """Most GPUs of this type that all members hold together, starting and draining workers included."""


class PoolMember(Model):
    """What the resources of a namespace, or one of them, may claim."""

    rules = (
        Rule(
            "!has(self.guaranteed) || !has(self.max)"
            " || self.guaranteed.all(t, !(t in self.max) || self.guaranteed[t] <= self.max[t])",
            "must not exceed max; lower guaranteed or raise max",
            ".guaranteed",
        ),
    )

    namespace: Annotated[Name, Field(max_length=63)]
    """Namespace of the resources."""
    name: Annotated[Name, Field(max_length=46)] | None = None
    """Name of the one resource that this is about; all others of the namespace together if absent."""
    priority: Annotated[int, Field(ge=-1000, le=1000)] = 0
    """Greater ones are served first, once everybody has what it is guaranteed."""
    guaranteed: GpusByType = {}
    """GPUs by type that it gets whenever it wants them. What it does not want is lent to others and drained for it."""
    max: GpusByType = {}
    """Most GPUs by type that it gets, whoever else wants some; no limit for a type that is absent."""


_TYPES = "self.gpuTypes.map(t, t.name)"
_ONCE = (
    "self.members.exists_one(o, o.__namespace__ == m.__namespace__"
    " && (has(o.name) ? has(m.name) && o.name == m.name : !has(m.name)))"
)
"""Not `o.namespace`: a word that CEL reserves is written so, and else the API server knows no bound of its length."""


class GpuPoolSpec(Model):
    """GPUs that several DisaggregatedInferences share."""

    rules = (
        Rule(
            "!has(self.members) || self.gpuTypes.all(t, self.members.filter(m, has(m.guaranteed)"
            " && t.name in m.guaranteed).map(m, m.guaranteed[t.name]).sum() <= t.gpus)",
            "guarantees of a type add up to more than its gpus; lower a guaranteed, or raise gpus",
            ".members",
        ),
        Rule(
            "!has(self.members) || self.members.all(m, (!has(m.guaranteed) || m.guaranteed.all(n, n in "
            f"{_TYPES})) && (!has(m.max) || m.max.all(n, n in {_TYPES})))",
            "names a GPU type in guaranteed or max that is not in gpuTypes; correct its name",
            ".members",
        ),
        Rule(
            f"!has(self.members) || self.members.all(m, {_ONCE})",
            "names a resource, or all others of a namespace, twice; remove one of the entries",
            ".members",
        ),
    )

    gpu_types: Annotated[
        list[GpuType],
        Field(
            min_length=1,
            max_length=8,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ]
    """Types of GPU, with the cap of each."""
    members: Annotated[list[PoolMember], Field(max_length=MOST_MEMBERS)] = []
    """Who may claim GPUs. A resource that names the pool and is not listed gets none."""
    hold_time: Annotated[Duration, Within("1s", "24h")] = "5m"
    """A GPU that a member was given stays with it for so long if it wants it, also where one of greater priority asks:
    only for what another is guaranteed it is taken sooner. So GPUs do not swing between members."""

    @field_validator("members")
    @classmethod
    def _once(cls, members: list[PoolMember]) -> list[PoolMember]:
        """The rule of the schema again, for pools that were stored before it."""
        for index, one in enumerate(members):
            if any((one.namespace, one.name) == (other.namespace, other.name) for other in members[:index]):
                raise ValueError(f"{one.namespace}/{one.name or ''} is named twice; remove one of the entries")
        return members


class TypeStatus(Model):
    """GPUs of one type, of all members together."""

    name: str
    """The type."""
    gpus: int
    """The cap."""
    wanted: int
    """GPUs that members want."""
    granted: int
    """GPUs that members may hold. More than the cap only after that was lowered, or where members held more when they
    came."""
    held: int
    """GPUs that pods of members hold, whatever they do."""


class MemberGpus(Model):
    """GPUs of one type, of one member."""

    type: str
    """The type."""
    guaranteed: int = 0
    """What its entry in spec.members guarantees, to all resources of that entry together."""
    wanted: int = 0
    """For the workers that it wants."""
    granted: int = 0
    """What its pods may hold now. Grows only by what is free."""
    held: int = 0
    """What its pods hold, whatever they do."""


class MemberStatus(Model):
    """One resource that names the pool."""

    namespace: str
    """Its namespace."""
    name: str
    """Its name."""
    member: bool = True
    """An entry of spec.members is about it."""
    priority: int = 0
    """Of that entry."""
    types: Annotated[list[str], Field(max_length=2)] = []
    """Type of GPU of a prefill and of a decode worker."""
    worker_gpus: WorkerPair
    """GPUs of one worker of each role."""
    minimum: WorkerPair
    """Workers without which it takes none at all."""
    wanted: WorkerPair
    """Workers that it wants."""
    share: WorkerPair
    """Workers that it is to have: it grows to that as GPUs are free, and shrinks to that by draining."""
    since: str | None = None
    """When its share last grew (RFC 3339): for spec.holdTime from then nothing is taken from it."""
    gpus: Annotated[list[MemberGpus], Field(max_length=2)] = []
    """Its GPUs by type."""
    message: str = ""
    """What it was denied, and who has it; empty where it has what it wants."""


class GpuPoolStatus(Model):
    """The ledger. Operators write it, each the rows of its own resources, and only over what it has read."""

    conditions: Annotated[
        list[Condition],
        Field(json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}),
    ] = []
    """Satisfied: whether every member has what it wants. Reasons: AsExpected, Denied, OverCap."""
    gpus: int = 0
    """Caps of all types together."""
    wanted: int = 0
    """GPUs that members want."""
    granted: int = 0
    """GPUs that members may hold."""
    held: int = 0
    """GPUs that members hold."""
    denied: int = 0
    """Members that get fewer GPUs than they want."""
    types: Annotated[list[TypeStatus], Field(max_length=8)] = []
    """The same by type."""
    members: Annotated[list[MemberStatus], Field(max_length=MOST_ROWS)] = []
    """The same by member."""
