"""All children of one resource."""

from dataclasses import dataclass

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.workloads.engines import worker_deployment
from dopd.workloads.meta import Manifest, Owner
from dopd.workloads.router import router_manifests
from dopd.workloads.scheduling import scheduling_config

__all__ = ["Owner", "Targets", "child_manifests"]


@dataclass(frozen=True)
class Targets:
    """Replicas to write on the two worker Deployments, draining workers included."""

    prefill: int
    decode: int


def child_manifests(
    owner: Owner, spec: DisaggregatedInferenceSpec, targets: Targets, scheduling: Manifest | None = None
) -> list[Manifest]:
    """The manifests of all children that should exist, in the order in which to write them.

    Args:
        owner: the resource.
        spec: its spec.
        targets: replicas of the workers.
        scheduling: the ConfigMap with the settings of the order of prompts; if absent, what the spec alone says.
    """
    return [
        *router_manifests(owner, spec),
        scheduling or scheduling_config(owner, spec),
        worker_deployment(owner, spec, Role.PREFILL, targets.prefill),
        owner.disruption_budget(Role.PREFILL),
        worker_deployment(owner, spec, Role.DECODE, targets.decode),
        owner.disruption_budget(Role.DECODE),
    ]
