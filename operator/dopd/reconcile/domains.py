"""Domains of a resource: how its workers are divided over them, and what is told of it. Pure."""

from collections.abc import Mapping

from dopd.api.inference import DisaggregatedInferenceSpec
from dopd.api.names import Role
from dopd.api.status import DomainRoleStatus, DomainStatus
from dopd.planning.domains import Division, divide
from dopd.reconcile.moved import Moved
from dopd.reconcile.observe import Observed


def divided(observed: Observed, spec: DisaggregatedInferenceSpec, targets: Mapping[Role, int]) -> Division | None:
    """How the workers of a resource are to be divided over its domains; None where it lists none."""
    if spec.topology is None or not spec.topology.domains:
        return None
    room = {domain.name: domain.gpus for domain in spec.topology.domains}
    there = {
        name: {role: sum(w.labelled and w.domain == name for w in observed.workers[role]) for role in Role}
        for name in room
    }
    return divide(targets, {Role.PREFILL: spec.prefill.gpus, Role.DECODE: spec.decode.gpus}, room, there)


def domain_status(observed: Observed, moved: Moved | None) -> list[DomainStatus]:
    """Workers by domain: those that are listed, and others that still have some."""
    if not moved or not moved.division:
        return []
    counts = moved.division.counts
    others = {w.domain for role in Role for w in observed.workers[role]} - counts.keys()

    def of_role(name: str, role: Role) -> DomainRoleStatus:
        mine = [worker for worker in observed.workers[role] if worker.domain == name]
        return DomainRoleStatus(
            desired=counts[name][role] if name in counts else 0,
            ready=sum(worker.labelled and worker.ready for worker in mine),
        )

    return [
        DomainStatus(name=name, prefill=of_role(name, Role.PREFILL), decode=of_role(name, Role.DECODE))
        for name in (*counts, *sorted(others))
    ]
