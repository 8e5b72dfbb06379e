"""The gateway that clients talk to, and how it chooses workers."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from dopd.api.base import Image, Model, PullPolicy, Rule, cel
from dopd.api.flags import ROUTER_FLAGS, flag_rules
from dopd.api.names import ROUTER_CONTAINER, ROUTER_METRICS_PORT, ROUTER_PORT
from dopd.api.pods import PodTemplateOverlay, port_rules
from dopd.api.secrets import SecretKey


class ServiceType(StrEnum):
    """How the gateway is reached."""

    CLUSTER_IP = "ClusterIP"
    NODE_PORT = "NodePort"
    LOAD_BALANCER = "LoadBalancer"


class RouterService(Model):
    """The Service in front of the gateway."""

    rules = (
        Rule(
            "!has(self.nodePort) || (has(self.type) && self.type != 'ClusterIP')",
            "nodePort needs type NodePort or LoadBalancer; set type, or remove nodePort",
            ".nodePort",
        ),
    )

    type: ServiceType = ServiceType.CLUSTER_IP
    """Kind of Service."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8000
    """Port of the Service."""
    port_name: Annotated[
        str,
        Field(
            pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$",
            max_length=63,
            json_schema_extra={"expected": "lower-case letters, digits and '-', such as http or http-openai"},
        ),
    ] = "http"
    """Name of that port, by which a mesh or an ingress may tell its protocol."""
    node_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    """Fixed node port; chosen by Kubernetes if absent."""
    annotations: Annotated[dict[str, str], Field(max_length=64)] = {}
    """Annotations of the Service, for load balancers."""


class PrefillRouting(StrEnum):
    """How the gateway chooses a prefill worker (SMG `--prefill-policy`)."""

    POWER_OF_TWO = "power_of_two"
    LEAST_LOAD = "least_load"
    BUCKET = "bucket"
    CACHE_AWARE = "cache_aware"
    PREFIX_HASH = "prefix_hash"
    CONSISTENT_HASHING = "consistent_hashing"
    MANUAL = "manual"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"


class DecodeRouting(StrEnum):
    """How the gateway chooses a decode worker (SMG `--decode-policy`): as for prefill, without buckets of lengths."""

    POWER_OF_TWO = "power_of_two"
    LEAST_LOAD = "least_load"
    CACHE_AWARE = "cache_aware"
    PREFIX_HASH = "prefix_hash"
    CONSISTENT_HASHING = "consistent_hashing"
    MANUAL = "manual"
    ROUND_ROBIN = "round_robin"
    RANDOM = "random"
    PASSTHROUGH = "passthrough"


class Router(Model):
    """The gateway (SMG) that clients talk to."""

    rules = port_rules(ROUTER_CONTAINER, {"http": str(ROUTER_PORT), "metrics": str(ROUTER_METRICS_PORT)})

    image: Image
    """Container image with `smg`."""
    image_pull_policy: PullPolicy | None = None
    """When to pull the image; left to Kubernetes if absent."""
    replicas: Annotated[int, Field(ge=1, le=64)] = 2
    """Gateway pods."""
    prefill_policy: PrefillRouting = PrefillRouting.POWER_OF_TWO
    """How a prefill worker is chosen. power_of_two: the one with the fewest requests in flight. least_load: the one
    whose queued tokens are done first. bucket: by length of the prompt, each worker a range that carries equal load.
    cache_aware: the one that was sent the longest equal beginning, unless its load is far above the others'.
    prefix_hash: by hash of the first 256 tokens, unless overloaded. consistent_hashing: by hash of the header
    X-SMG-Routing-Key. manual: the one that had that key before. round_robin: in turn. random: any. passthrough: always
    the first, for a single worker. args sets their knobs, such as --bucket-adjust-interval-secs, --cache-threshold,
    --prefix-token-count or --balance-abs-threshold."""
    decode_policy: DecodeRouting = DecodeRouting.POWER_OF_TWO
    """How a decode worker is chosen; the values are those of prefillPolicy, without bucket."""
    control_key: SecretKey | None = None
    """A key of a Secret of this namespace that opens the gateway's control plane (`/workers`, `/flush_cache`) to the
    operator, and to nobody else. If absent, one that is made from the resource's uid: clients do not know it, but
    whoever may read pods of the namespace does. Chart value apiKeySecrets must name that Secret."""
    args: Annotated[
        list[Annotated[str, Field(max_length=1024)]],
        Field(max_length=64, json_schema_extra={"x-kubernetes-validations": cel(flag_rules(ROUTER_FLAGS))}),
    ] = []
    """Further flags of `smg launch`, after the operator's own: of a flag that is given twice, the last one holds. Flags
    of what the spec says elsewhere, and of what the operator relies on, are refused."""
    service: RouterService = RouterService()
    """The Service in front of the gateway."""
    template: PodTemplateOverlay | None = None
    """Pod template merged over the operator's, as for workers; the gateway's container is named `router`."""
