"""All children of one resource but its workers, which come and go one at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import ROUTER_POOL, Role
from dopd.workloads.meta import Manifest, Owner, router_disruption_budget, worker_disruption_budget
from dopd.workloads.router import Gateway, discovery_rights, router_deployment, router_service
from dopd.workloads.scheduling import scheduling_config

__all__ = ["Child", "Owner", "Targets", "child_builders", "child_manifests"]


@dataclass(frozen=True)
class Targets:
    """Workers of each role that should serve.

    Attributes:
        prefill: prefill workers.
        decode: decode workers.
        unready: clients reach gateways that have no workers yet or any more.
    """

    prefill: int
    decode: int
    unready: bool = False


@dataclass(frozen=True)
class Child:
    """A child that should exist, before its manifest is made.

    Attributes:
        kind: kind of the object.
        name: its name.
        build: makes the manifest; raises Refusal where the spec asks for what can not be.
    """

    kind: str
    name: str
    build: Callable[[], Manifest]


def child_builders(
    owner: Owner,
    spec: DisaggregatedInferenceSpec,
    targets: Targets,
    gateways: Sequence[Gateway] | None = None,
    scheduling: Callable[[], Manifest] | None = None,
    *,
    closed: bool = True,
) -> list[Child]:
    """All children that should exist, in the order in which to write them: one that can not be made stops no other.

    Args:
        owner: the resource.
        spec: its spec.
        targets: workers that should serve.
        gateways: those that there should be; if absent, one for the workers of all revisions.
        closed: the gateways' control plane asks for a key.
        scheduling: makes the ConfigMap with the settings of the order of prompts; if absent, what the spec alone says.
    """
    if gateways is None:
        gateways = [Gateway(owner.child_name(ROUTER_POOL), spec.router.replicas)]

    def made(manifest: Manifest) -> Child:
        return Child(manifest["kind"], manifest["metadata"]["name"], lambda: manifest)

    return [
        *map(made, discovery_rights(owner)),
        *(
            Child("Deployment", gateway.name, partial(router_deployment, owner, spec, gateway, closed=closed))
            for gateway in gateways
        ),
        made(router_service(owner, spec, unready=targets.unready)),
        made(router_disruption_budget(owner)),
        Child("ConfigMap", owner.child_name(Role.PREFILL), scheduling or partial(scheduling_config, owner, spec)),
        made(worker_disruption_budget(owner, Role.PREFILL, targets.prefill, spec.prefill.nodes)),
        made(worker_disruption_budget(owner, Role.DECODE, targets.decode, spec.decode.nodes)),
    ]


def child_manifests(owner: Owner, spec: DisaggregatedInferenceSpec, targets: Targets) -> list[Manifest]:
    """The manifests of all children, see `child_builders`.

    Raises:
        Refusal: the spec asks for what one of them can not have.
    """
    return [child.build() for child in child_builders(owner, spec, targets)]
