"""spec.topology: which workers are near enough to each other to hand KV caches over."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Model

_NAME = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_DNS = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
DomainKey = Annotated[
    str,
    Field(
        pattern=rf"^({_DNS}(\.{_DNS})*/)?{_NAME}$",
        max_length=253,
        json_schema_extra={"expected": "the key of a label of nodes, such as cloud.google.com/gce-topology-block"},
    ),
]


class TopologyPolicy(StrEnum):
    """What a worker does that finds no place in its domain."""

    REQUIRED = "Required"
    PREFERRED = "Preferred"


class Domain(Model):
    """One KV-transfer domain: all nodes whose label has one value."""

    name: Annotated[
        str,
        Field(
            pattern=f"^{_NAME}$",
            max_length=63,
            json_schema_extra={"expected": "a value of the label domainKey of nodes, such as rack-7"},
        ),
    ]
    """Value of the label `domainKey` of its nodes."""
    gpus: Annotated[int, Field(ge=1, le=100_000)]
    """GPUs there that the workers of this resource may take; explicit, never guessed."""


class Topology(Model):
    """Keep prefill and decode workers that share requests within one KV-transfer domain."""

    domain_key: DomainKey
    """Label of nodes whose value names a domain: a rack, a block, a domain of NVLink or RDMA."""
    policy: TopologyPolicy = TopologyPolicy.REQUIRED
    """Required: a worker that finds no place in its domain waits, and TopologyHonored tells it. Preferred: it takes any
    node then, and its transfers are slower."""
    domains: Annotated[
        list[Domain],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = []
    """Domains to use, in this order, each with gateways of its own, so that no request crosses from one to another.
    Workers are divided so that each has the ratio of the whole, within one worker. If absent, all workers go to one
    domain, that of the first worker."""
