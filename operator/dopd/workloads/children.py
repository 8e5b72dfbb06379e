"""All children of one resource."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ROUTER_POOL, Role
from dopd.workloads.engines import worker_deployment
from dopd.workloads.meta import Manifest, Owner
from dopd.workloads.router import discovery_rights, router_deployment, router_service
from dopd.workloads.scheduling import scheduling_config

__all__ = ["Child", "Owner", "Targets", "child_builders", "child_manifests"]


@dataclass(frozen=True)
class Targets:
    """Replicas to write on the two worker Deployments, draining workers included."""

    prefill: int
    decode: int


@dataclass(frozen=True)
class Child:
    """A child that should exist, before its manifest is made.

    Attributes:
        kind: kind of the object.
        name: its name.
        build: makes the manifest; raises Refusal where the spec asks for what can not be.
        replicas: of the Deployment of a role; None for others.
    """

    kind: str
    name: str
    build: Callable[[], Manifest]
    replicas: int | None = None


def child_builders(
    owner: Owner,
    spec: DisaggregatedInferenceSpec,
    targets: Targets,
    scheduling: Callable[[], Manifest] | None = None,
) -> list[Child]:
    """All children that should exist, in the order in which to write them: one that can not be made stops no other.

    Args:
        owner: the resource.
        spec: its spec.
        targets: replicas of the workers.
        scheduling: makes the ConfigMap with the settings of the order of prompts; if absent, what the spec alone says.
    """

    def made(manifest: Manifest) -> Child:
        return Child(manifest["kind"], manifest["metadata"]["name"], lambda: manifest)

    def workers(role: Role, replicas: int) -> list[Child]:
        build = partial(worker_deployment, owner, spec, role, replicas)
        return [Child("Deployment", owner.child_name(role), build, replicas), made(owner.disruption_budget(role))]

    return [
        *map(made, discovery_rights(owner)),
        Child("Deployment", owner.child_name(ROUTER_POOL), partial(router_deployment, owner, spec)),
        made(router_service(owner, spec)),
        made(owner.disruption_budget(ROUTER_POOL)),
        Child("ConfigMap", owner.child_name(Role.PREFILL), scheduling or partial(scheduling_config, owner, spec)),
        *workers(Role.PREFILL, targets.prefill),
        *workers(Role.DECODE, targets.decode),
    ]


def child_manifests(owner: Owner, spec: DisaggregatedInferenceSpec, targets: Targets) -> list[Manifest]:
    """The manifests of all children, see `child_builders`.

    Raises:
        Refusal: the spec asks for what one of them can not have.
    """
    return [child.build() for child in child_builders(owner, spec, targets)]
